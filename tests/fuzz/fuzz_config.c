/*
 * Settings: each line of the input is an argument, or NAME=value of the
 * environment if it begins with a $.  What is taken is within its bounds, and
 * says the same when it is written out and given again; numbers with units
 * are those that counting by hand gives.
 */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/config.h"
#include "fuzz.h"

#define ARGS_MOST 24

struct settings {
	const char *text;
	int64_t number, any, bytes, ms;
	double real, ratio;
	int flag, quiet, choice;
	struct config_list list;
};

static const char *const choices[] = {"at-most-once", "at-least-once",
    "exactly-once", NULL};
static struct settings got;
static const struct config_option table[] = {
    {"text", CONFIG_TEXT, &got.text, "none", 0, 0, NULL, "a text", "Any"},
    {"number", CONFIG_INT, &got.number, "5", -10, 1000000, NULL, "n", NULL},
    {"any-number", CONFIG_INT, &got.any, "0", -1e300, -2e300, NULL, "n", NULL},
    {"bytes", CONFIG_SIZE, &got.bytes, "1k", 0, 0, NULL, "a size", NULL},
    {"wait-ms", CONFIG_DURATION, &got.ms, "2s", 0, 0, NULL, "t", NULL},
    {"real", CONFIG_REAL, &got.real, "0.5", -1e300, -2e300, NULL, "x", NULL},
    {"ratio", CONFIG_REAL, &got.ratio, "1", 0, 1, NULL, "x", NULL},
    {"flag", CONFIG_BOOL, &got.flag, "no", 0, 0, NULL, "yes or no", NULL},
    {"no-quiet", CONFIG_BOOL, &got.quiet, "1", 0, 0, NULL, "odd", NULL},
    {"choice", CONFIG_CHOICE, &got.choice, "exactly-once", 0, 0, choices, "c",
	NULL},
    {"list", CONFIG_LIST, &got.list, NULL, 0, 0, NULL, "l", NULL},
    {.name = NULL},
};
static const struct config_option *const tables[] = {table, NULL};
static const struct config_program program = {"fuzz", "Fuzzes.", "[FILE...]",
    tables, NULL};

/* Wider than what is counted, so that no product wraps. */
__extension__ typedef __int128 wide;

/* What ${text} says with these units, or -1. */
static int
count_by_hand(const char *text, const char *const *units,
    const int64_t *factors, int64_t *result)
{
	wide n = 0;
	int negative = text[0] == '-', i, digits = 0;

	for (text += negative; isdigit((unsigned char)*text); text++) {
		n = n * 10 + (*text - '0');
		if (n > ((wide)1 << 64))
			return (-1);
		digits++;
	}
	for (i = 0; units[i] != NULL; i++)
		if (strcasecmp(units[i], text) == 0)
			break;
	if (units[i] == NULL || digits == 0)
		return (-1);
	n = (negative ? -n : n);
	/* The number itself has to fit, too. */
	if (n > INT64_MAX || n < INT64_MIN)
		return (-1);
	n *= factors[i];
	if (n > INT64_MAX || n < INT64_MIN)
		return (-1);
	*result = (int64_t)n;
	return (0);
}

/* One number, given in one of its ways; must be taken or refused rightly. */
static void
check_number(const char *name, const char *text, const int64_t *target,
    const char *const *units, const int64_t *factors, int64_t least,
    int64_t most)
{
	char own[] = "fuzz", flag[32];
	char *value = fuzz_text(text, strlen(text));
	char *argv[] = {own, flag, value, NULL};
	struct mr_error err;
	int64_t n = 0;
	int expected, rc;

	snprintf(flag, sizeof(flag), "--%s", name);
	rc = config_parse(3, argv, &program, &err);
	expected = count_by_hand(text, units, factors, &n) == 0 && n >= least &&
	    n <= most;
	assert((rc == 3) == expected);
	assert(rc == 3 || rc == -1);
	assert(rc == -1 || *target == n);
	free(value);
}

static void
check_numbers(const char *text)
{
	static const char *const none[] = {"", NULL};
	static const char *const sizes[] = {"", "k", "m", "g", NULL};
	static const char *const times[] = {"", "ms", "s", "m", "h", "d", NULL};
	static const int64_t one[] = {1};
	static const int64_t powers[] = {1, 1 << 10, 1 << 20, 1 << 30};
	static const int64_t spans[] = {1, 1, 1000, 60000, 3600000, 86400000};

	check_number("any-number", text, &got.any, none, one, INT64_MIN,
	    INT64_MAX);
	check_number("number", text, &got.number, none, one, -10, 1000000);
	check_number("bytes", text, &got.bytes, sizes, powers, 0, INT64_MAX);
	check_number("wait-ms", text, &got.ms, times, spans, 0, INT64_MAX);
}

static void
check_bounds(void)
{
	int i;

	assert(got.text != NULL);
	assert(got.number >= -10 && got.number <= 1000000);
	assert(got.bytes >= 0 && got.ms >= 0);
	assert(isfinite(got.real) && got.ratio >= 0 && got.ratio <= 1);
	assert(got.flag == 0 || got.flag == 1);
	assert(got.quiet == 0 || got.quiet == 1);
	assert(got.choice >= 0 && got.choice <= 2);
	assert(got.list.count >= 0 && got.list.count <= 64);
	for (i = 0; i < got.list.count; i++)
		assert(got.list.items[i] != NULL);
}

/* The same settings once more, from what was understood. */
static void
check_again(void)
{
	struct settings first = got;
	struct buffer line = {0};
	char *argv[10], *p, *rest;
	struct mr_error err;
	int argc = 0;

	buffer_addf(&line,
	    "fuzz --number=%lld --any-number=%lld --bytes=%lld --wait-ms=%lld",
	    (long long)got.number, (long long)got.any, (long long)got.bytes,
	    (long long)got.ms);
	buffer_addf(&line, " --real=%.17g --ratio=%.17g", got.real, got.ratio);
	assert(!line.failed);
	for (p = strtok_r(line.data, " ", &rest); p != NULL;
	     p = strtok_r(NULL, " ", &rest))
		argv[argc++] = p;
	argv[argc] = NULL;
	assert(config_parse(argc, argv, &program, &err) == argc);
	assert(first.number == got.number && first.any == got.any);
	assert(first.bytes == got.bytes && first.ms == got.ms);
	assert(first.real == got.real && first.ratio == got.ratio);
	buffer_free(&line);
}

/* These print and exit. */
static int
is_builtin(const char *arg)
{

	return (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0 ||
	    strcmp(arg, "--version") == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	char own[] = "fuzz", *args[ARGS_MOST + 2] = {own}, *line, *value;
	struct mr_error err = {MR_OK, ""};
	int argc = 1, i, rc;

	clearenv();
	got = (struct settings){.text = NULL};
	while (argc <= ARGS_MOST && (line = fuzz_line(&in)) != NULL) {
		if (is_builtin(line)) {
			free(line);
			continue;
		}
		value = strchr(line, '=');
		if (line[0] == '$' && value != NULL && value > line + 1) {
			*value++ = '\0';
			assert(setenv(line + 1, value, 1) == 0);
			free(line);
			continue;
		}
		args[argc++] = line;
	}
	rc = config_parse(argc, args, &program, &err);
	assert(rc == -1 || (rc >= 1 && rc <= argc));
	if (rc == -1) {
		assert(err.kind == MR_FATAL && err.message[0] != '\0');
	} else {
		check_bounds();
		clearenv();
		check_again();
	}
	clearenv();
	for (i = 1; i < argc; i++) {
		check_numbers(args[i]);
		free(args[i]);
	}
	return (0);
}
