#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

int
mr_error_set(struct mr_error *err, enum mr_error_kind kind, const char *format,
    ...)
{
	char message[MR_ERROR_SIZE];
	va_list ap;

	if (err == NULL)
		return (-1);
	/* By way of a copy, since arguments may point into err->message. */
	va_start(ap, format);
	if (vsnprintf(message, sizeof(message), format, ap) < 0)
		message[0] = '\0';
	va_end(ap);
	err->kind = kind;
	memcpy(err->message, message, sizeof(message));
	return (-1);
}

int
mr_error_wrap(struct mr_error *err, const char *format, ...)
{
	char what[MR_ERROR_SIZE];
	va_list ap;

	if (err == NULL)
		return (-1);
	va_start(ap, format);
	if (vsnprintf(what, sizeof(what), format, ap) < 0)
		what[0] = '\0';
	va_end(ap);
	return (mr_error_set(err, err->kind, "%s: %s", what, err->message));
}

const char *
mr_error_kind_name(enum mr_error_kind kind)
{

	switch (kind) {
	case MR_OK:
		return ("ok");
	case MR_RETRY:
		return ("retry");
	case MR_REJECT:
		return ("reject");
	case MR_FATAL:
		return ("fatal");
	}
	return ("unknown");
}
