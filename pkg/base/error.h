/*
 * error -- what went wrong, and what to do about it.
 *
 * A call that can fail returns 0 or -1 (or NULL for a pointer) and takes a
 * struct mr_error that belongs to the caller.  The error path allocates
 * nothing.  The kind says what to do:
 *
 * RETRY   transient: the same input again, later, may work;
 * REJECT  this input can never work: a dead letter, or a 4xx answer;
 * FATAL   this process can't go on: exit and let the supervisor restart it.
 *
 * Messages are lower case without a full stop, and say what was tried and on
 * what.  Libraries fill in errors; programs and the stream loop log them,
 * once.
 */
#ifndef MR_ERROR_H
#define MR_ERROR_H

enum mr_error_kind { MR_OK = 0, MR_RETRY, MR_REJECT, MR_FATAL };

#define MR_ERROR_SIZE 240

struct mr_error {
	enum mr_error_kind kind;
	char message[MR_ERROR_SIZE];
};

/*
 * mr_error_set -- describe a failure.
 *
 * Sets *err (which may be NULL) to ${kind} and the formatted message, cut to
 * fit.  Always returns -1, so that `return (mr_error_set(...));` reads well.
 * Arguments may point into err->message itself.
 */
int mr_error_set(struct mr_error *err, enum mr_error_kind kind,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * mr_error_wrap -- put "what: " in front of the message, keeping the kind.
 * Returns -1.
 */
int mr_error_wrap(struct mr_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* mr_error_kind_name -- "ok", "retry", "reject" or "fatal". */
const char *mr_error_kind_name(enum mr_error_kind kind);

#endif
