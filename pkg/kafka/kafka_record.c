/* kafka_record -- the headers of a record that was kept in a file. */
#include <string.h>

#include "kafka/kafka.h"

int
kafka_record_kept(const struct kafka_record *record, const char *name,
    const void **value, size_t *size)
{
	size_t i;

	for (i = record->kept_count; i > 0; i--) {
		if (strcmp(record->kept[i - 1].name, name) != 0)
			continue;
		*value = record->kept[i - 1].value;
		*size = record->kept[i - 1].size;
		return (1);
	}
	return (0);
}

int
kafka_record_kept_at(const struct kafka_record *record, size_t index,
    struct kafka_header *header)
{

	if (index >= record->kept_count)
		return (0);
	*header = record->kept[index];
	return (1);
}
