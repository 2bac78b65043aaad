/*
 * What json_read makes of any bytes is what jansson does: the same document,
 * or the same refusal.
 */
#include "base/json_read.h"
#include "fuzz.h"

static void
read_both(const uint8_t *data, size_t size, size_t flags)
{
	json_error_t why, expected_why;
	int out_of_memory;
	json_t *read = json_read(data, size, flags, &why, &out_of_memory);
	json_t *expected = json_loadb((const char *)data, size, flags,
	    &expected_why);

	assert(!out_of_memory);
	assert((read == NULL) == (expected == NULL));
	if (expected == NULL)
		assert(strcmp(why.text, expected_why.text) == 0 &&
		    why.position == expected_why.position);
	else
		assert(json_equal(read, expected));
	json_decref(read);
	json_decref(expected);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{

	read_both(data, size, 0);
	read_both(data, size, JSON_REJECT_DUPLICATES);
	read_both(data, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL);
	read_both(data, size, JSON_DECODE_ANY);
	return (0);
}
