/* emit_buffer -- emit what was encoded into a buffer. */
#include <string.h>

#include "stream/stream.h"

int
stream_emit_buffer(struct stream *s, const char *topic, const char *type,
    const char *key, struct buffer *value, int64_t ts_ms, struct mr_error *err)
{
	int status;

	if (value->failed)
		status = mr_error_set(err, MR_RETRY,
		    "no memory for a record to %s", topic);
	else
		status = stream_emit(s,
		    &(struct stream_output){.topic = topic,
			.type = type,
			.key = key,
			.key_size = key == NULL ? 0 : strlen(key),
			.value = buffer_text(value),
			.value_size = value->length,
			.ts_ms = ts_ms},
		    err);
	buffer_free(value);
	return (status);
}
