/*
 * log -- one line an event on stderr, as logfmt or JSON.
 *
 * A line is a time (RFC 3339, UTC, milliseconds), a level, the program's
 * instance, a message that never varies, and key/value pairs that do.  Each
 * line is one write(2) of at most 4 KiB, so lines of threads and processes
 * don't mix; a longer one is cut and ends in cut=true.  Values are escaped;
 * control characters and bytes that are not UTF-8 are shown as \xNN.  The keys
 * time, level, instance, msg and cut are the line's own.  Any thread may call
 * these; none of them allocates or fails, or changes errno.
 *
 *	log_info("order placed", "id", id, "quantity", log_i64(quantity));
 */
#ifndef MR_LOG_H
#define MR_LOG_H

#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

/*
 * log_init -- name this process and choose format and lowest level, before
 * other threads start.  ${instance} is copied (63 bytes of it).  Before it is called: "millrace", logfmt, LOG_INFO.
 */
void log_init(const char *instance, enum log_format format,
    enum log_level lowest);

/* log_enabled -- whether a line of ${level} would be written. */
int log_enabled(enum log_level level);

/*
 * log_write -- write a line.  Pairs of const char *; a NULL key ends the
 * list; a NULL value is written as an empty one.  Use the macros.
 */
void log_write(enum log_level level, const char *message, ...)
    __attribute__((sentinel));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__, (const char *)0)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__, (const char *)0)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__, (const char *)0)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__, (const char *)0)

/*
 * log_i64, log_f64, log_bytes -- a number, or bytes that need not end in a
 * NUL, as a value for the line being written.  The text lives in one of
 * sixteen buffers of the calling thread, so it is good until sixteen more
 * are made; log_bytes shows at most 200 bytes, and then "...".
 */
const char *log_i64(int64_t n);
const char *log_f64(double x, int decimals);
const char *log_bytes(const void *p, uint64_t length);

/*
 * log_limit -- a token bucket for a place that can log faster than anyone
 * reads.  Zero-initialise with the rate set (0: no line at all; a burst of 0 is
 * a second's worth; neither above a billion).  log_limit_take returns 1 if
 * the line may be written, and then sets *suppressed to how many were left
 * out since the last one that was; 0 otherwise.  Belongs to one thread.
 */
struct log_limit {
	int64_t per_second;
	int64_t burst;
	int64_t tokens_milli;
	int64_t last_ms;
	int64_t suppressed;
};
int log_limit_take(struct log_limit *limit, int64_t *suppressed);

#endif
