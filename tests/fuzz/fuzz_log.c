/*
 * Log lines: whatever the message and the values are, a line is one write of
 * at most 4 KiB, ends in its only newline, is UTF-8 without control
 * characters, and, if it wasn't cut, says what it was given.
 */
#include <stdio.h>
#include <unistd.h>

#include <jansson.h>

#include "base/log.h"
#include "fuzz.h"

#define PAIRS_MOST 6
#define LINE_MOST 4096
#define VALUE_MOST 6000
#define OWN_PAIRS 4 /* time, level, instance, msg */

struct pair {
	char key[16];
	const char *value;
	const char *bytes; /* what it stands for */
	size_t length;
	char *memory;
};

/* ---- what was written --------------------------------------------------- */

/* The names that the linker's --wrap wants.
 * NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

static char line[LINE_MOST + 1];
static size_t line_length;
static int writes;
static int capturing;

ssize_t
__wrap_write(int fd, const void *bytes, size_t size)
{

	if (!capturing || fd != STDERR_FILENO)
		return (__real_write(fd, bytes, size));
	capturing = 0;
	assert(size > 0 && size <= LINE_MOST);
	memcpy(line, bytes, size);
	line[size] = '\0';
	line_length = size;
	writes++;
	capturing = 1;
	return ((ssize_t)size);
}

/* ---- logfmt ------------------------------------------------------------- */

static int
unescape(const char *p, char *c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *high, *low;

	switch (p[1]) {
	case 'n':
		*c = '\n';
		return (2);
	case 'r':
		*c = '\r';
		return (2);
	case 't':
		*c = '\t';
		return (2);
	case '"':
	case '\\':
		*c = p[1];
		return (2);
	default:
		assert(p[1] == 'x' && p[2] != '\0' && p[3] != '\0');
		high = strchr(digits, p[2]);
		low = strchr(digits, p[3]);
		assert(high != NULL && low != NULL);
		*c = (char)((high - digits) * 16 + (low - digits));
		return (4);
	}
}

/* The value at p, quoted or not, undone into out; returns where it ends. */
static const char *
read_value(const char *p, char *out, size_t *length)
{

	*length = 0;
	if (*p != '"') {
		for (; *p != ' ' && *p != '\n'; p++) {
			assert(*p != '"' && *p != '\\' && *p != '=');
			out[(*length)++] = *p;
		}
		return (p);
	}
	for (p++; *p != '"'; (*length)++) {
		assert(*p != '\0' && *p != '\n');
		if (*p == '\\')
			p += unescape(p, &out[*length]);
		else
			out[*length] = *p++;
	}
	return (p + 1);
}

static void
check_logfmt(const struct pair *pairs, int count, int is_cut)
{
	const char *p = line, *key;
	char out[LINE_MOST];
	size_t length;
	int i;

	for (i = 0; *p != '\n'; i++) {
		assert(i == 0 || *p == ' ');
		p += i > 0;
		key = p;
		while (*p != '=') {
			assert(*p > ' ' && *p != '"' && *p != 0x7f);
			p++;
		}
		p = read_value(p + 1, out, &length);
		if (is_cut || i < OWN_PAIRS)
			continue;
		assert(i < OWN_PAIRS + count);
		assert(memcmp(key, pairs[i - OWN_PAIRS].key,
			   strlen(pairs[i - OWN_PAIRS].key)) == 0);
		assert(length == pairs[i - OWN_PAIRS].length);
		assert(memcmp(out, pairs[i - OWN_PAIRS].bytes, length) == 0);
	}
	assert(is_cut || i == OWN_PAIRS + count);
	assert(!is_cut || strcmp(line + line_length - 10, " cut=true\n") == 0);
}

/* ---- JSON --------------------------------------------------------------- */

/* As a value is shown in JSON, before its escapes. */
static size_t
shown(const char *bytes, size_t length, char *out)
{
	size_t i, n, used = 0;
	unsigned char c;

	for (i = 0; i < length; i += n) {
		c = (unsigned char)bytes[i];
		n = utf8_length(bytes + i, length - i);
		if (n == 1 ? (c >= 0x20 && c != 0x7f) || c == '\n' ||
			    c == '\r' || c == '\t' :
			     n > 2 ||
			    (n == 2 &&
				!(c == 0xc2 &&
				    (unsigned char)bytes[i + 1] < 0xa0))) {
			memcpy(out + used, bytes + i, n);
			used += n;
		} else {
			n = 1;
			used += (size_t)snprintf(out + used, 5, "\\x%02X", c);
		}
	}
	return (used);
}

static void
check_json(const struct pair *pairs, int count, int is_cut)
{
	static char expected[4 * VALUE_MOST + 1];
	const json_t *value;
	json_error_t why;
	json_t *root;
	size_t length;
	int i;

	root = json_loadb(line, line_length, JSON_REJECT_DUPLICATES, &why);
	assert(root != NULL && json_is_object(root));
	assert(!is_cut || json_is_true(json_object_get(root, "cut")));
	assert(is_cut || json_object_size(root) == (size_t)count + OWN_PAIRS);
	for (i = 0; i < count && !is_cut; i++) {
		value = json_object_get(root, pairs[i].key);
		length = shown(pairs[i].bytes, pairs[i].length, expected);
		assert(json_is_string(value));
		assert(json_string_length(value) == length);
		assert(memcmp(json_string_value(value), expected, length) == 0);
	}
	json_decref(root);
}

/* ------------------------------------------------------------------------- */

static void
take_pair(struct fuzz_input *in, struct pair *pair, int index)
{
	uint8_t kind = fuzz_byte(in);
	size_t length = fuzz_byte(in);

	snprintf(pair->key, sizeof(pair->key), "key_%d", index);
	pair->memory = NULL;
	switch (kind % 5) {
	case 0:
		pair->bytes = fuzz_bytes(in, length, &length);
		pair->memory = fuzz_text(pair->bytes, length);
		pair->value = pair->bytes = pair->memory;
		pair->length = strlen(pair->value);
		break;
	case 1:
		length = (length << 8 | fuzz_byte(in)) % VALUE_MOST;
		pair->memory = malloc(length + 1);
		assert(pair->memory != NULL);
		memset(pair->memory, fuzz_byte(in), length);
		pair->memory[length] = '\0';
		pair->value = pair->bytes = pair->memory;
		pair->length = strlen(pair->value);
		break;
	case 2:
		pair->value = pair->bytes = log_i64(fuzz_i64(in));
		pair->length = strlen(pair->value);
		break;
	case 3:
		pair->bytes = fuzz_bytes(in, length % 200, &pair->length);
		pair->value = log_bytes(pair->bytes, pair->length);
		break;
	default:
		pair->value = NULL;
		pair->bytes = "";
		pair->length = 0;
		break;
	}
}

static void
write_line(const char *message, const struct pair *p, int count)
{

	writes = 0;
	capturing = 1;
	log_info(message, count > 0 ? p[0].key : NULL, p[0].value,
	    count > 1 ? p[1].key : NULL, p[1].value,
	    count > 2 ? p[2].key : NULL, p[2].value,
	    count > 3 ? p[3].key : NULL, p[3].value,
	    count > 4 ? p[4].key : NULL, p[4].value,
	    count > 5 ? p[5].key : NULL, p[5].value);
	capturing = 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct pair pairs[PAIRS_MOST] = {{.value = NULL}};
	enum log_format format = fuzz_byte(&in) & 1 ? LOG_JSON : LOG_LOGFMT;
	char *instance = fuzz_line(&in), *message = fuzz_line(&in);
	int i, count = 0, is_cut;

	log_init(instance != NULL ? instance : "", format, LOG_INFO);
	while (in.left > 0 && count < PAIRS_MOST) {
		take_pair(&in, &pairs[count], count);
		count++;
	}
	write_line(message != NULL ? message : "", pairs, count);
	assert(writes == 1);
	assert(line[line_length - 1] == '\n');
	for (i = 0; i < (int)line_length - 1; i++)
		assert((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
	assert(fuzz_is_utf8(line, line_length));
	/* No value here has a space and this after it, unquoted. */
	is_cut = strcmp(line + line_length - (format == LOG_JSON ? 13 : 10),
		     format == LOG_JSON ? ",\"cut\":true}\n" : " cut=true\n") ==
	    0;
	if (format == LOG_JSON)
		check_json(pairs, count, is_cut);
	else
		check_logfmt(pairs, count, is_cut);
	for (i = 0; i < count; i++)
		free(pairs[i].memory);
	free(instance);
	free(message);
	return (0);
}
