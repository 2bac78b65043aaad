#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/config.h"

static const char *const modes[] = {"fast", "safe", "slow", NULL};

static struct {
	const char *brokers;
	int64_t poll_ms, signed_n, open_n, size, time_ms;
	double ratio;
	int quiet, mode;
	struct config_list properties;
} conf;

static const struct config_option kafka_options[] = {
    {.name = "brokers",
	.kind = CONFIG_TEXT,
	.target = &conf.brokers,
	.fallback = "localhost:9092",
	.help = "bootstrap servers, separated by commas",
	.group = "Kafka"},
    {.name = "property",
	.kind = CONFIG_LIST,
	.target = &conf.properties,
	.fallback = "a=1 b=2",
	.help =
	    "a property of librdkafka's, as name=value; those that Millrace "
	    "relies on can't be changed"},
    {.name = NULL},
};
static const struct config_option own_options[] = {
    {.name = "poll-ms",
	.kind = CONFIG_INT,
	.target = &conf.poll_ms,
	.fallback = "500",
	.least = 1,
	.most = 60000,
	.help = "how often to look",
	.group = "Service"},
    {.name = "signed",
	.kind = CONFIG_INT,
	.target = &conf.signed_n,
	.fallback = "0",
	.least = -5,
	.most = 5},
    {.name = "open",
	.kind = CONFIG_INT,
	.target = &conf.open_n,
	.least = 10,
	.most = 0},
    {.name = "size",
	.kind = CONFIG_SIZE,
	.target = &conf.size,
	.fallback = "64k"},
    {.name = "time",
	.kind = CONFIG_DURATION,
	.target = &conf.time_ms,
	.fallback = "2s"},
    {.name = "ratio",
	.kind = CONFIG_REAL,
	.target = &conf.ratio,
	.fallback = "0.5",
	.least = 0,
	.most = 1},
    {.name = "quiet",
	.kind = CONFIG_BOOL,
	.target = &conf.quiet,
	.fallback = "no"},
    {.name = "mode",
	.kind = CONFIG_CHOICE,
	.target = &conf.mode,
	.fallback = "safe",
	.choices = modes,
	.help = "how to go about it"},
    {.name = NULL},
};
static const struct config_option *const tables[] = {kafka_options, own_options,
    NULL};
static const struct config_program flags_only = {.name = "orders",
    .summary = "Takes orders over HTTP and keeps their state, as the events "
	       "of the inventory change it.",
    .tables = tables,
    .epilogue = "Example:\n  orders --poll-ms 100"};
static const struct config_program with_arguments = {.name = "millrace",
    .summary = "x",
    .usage = "COMMAND [ARGUMENT...]",
    .tables = tables};

/* The arguments that were parsed last, as config_parse left them. */
static char *parsed[10];

/* Parse up to eight arguments, the first NULL ends them. */
static int
parse(const struct config_program *program, struct mr_error *err,
    const char *const args[8])
{
	static char copies[8][128];
	static char name[] = "program";
	int argc;

	memset(parsed, 0, sizeof(parsed));
	parsed[0] = name;
	for (argc = 1; argc <= 8 && args[argc - 1] != NULL; argc++) {
		snprintf(copies[argc - 1], sizeof(copies[0]), "%s",
		    args[argc - 1]);
		parsed[argc] = copies[argc - 1];
	}
	memset(&conf, 0, sizeof(conf));
	return (config_parse(argc, parsed, program, err));
}

static int
clear_environment(void **state)
{

	(void)state;
	return (clearenv());
}

static void
defaults_hold_when_nothing_is_said(void **state)
{
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(parse(&flags_only, &err, (const char *const[8]){NULL}),
	    1);
	assert_string_equal(conf.brokers, "localhost:9092");
	assert_int_equal(conf.poll_ms, 500);
	assert_int_equal(conf.open_n, 0);
	assert_int_equal(conf.size, 65536);
	assert_int_equal(conf.time_ms, 2000);
	assert_true(conf.ratio > 0.49 && conf.ratio < 0.51);
	assert_int_equal(conf.quiet, 0);
	assert_int_equal(conf.mode, 1);
	assert_int_equal(conf.properties.count, 2);
	assert_string_equal(conf.properties.items[0], "a=1");
	assert_string_equal(conf.properties.items[1], "b=2");
}

static void
a_flag_wins_over_the_environment_which_wins_over_the_default(void **state)
{
	struct mr_error err = {0};

	(void)state;
	setenv("MILLRACE_POLL_MS", "7", 1);
	setenv("MILLRACE_QUIET", "yes", 1);
	setenv("MILLRACE_MODE", "slow", 1);
	setenv("MILLRACE_BROKERS", "", 1);
	setenv("MILLRACE_PROPERTY", " c=3\td=4 e=5", 1);
	assert_int_equal(parse(&flags_only, &err, (const char *const[8]){NULL}),
	    1);
	assert_int_equal(conf.poll_ms, 7);
	assert_int_equal(conf.quiet, 1);
	assert_int_equal(conf.mode, 2);
	assert_string_equal(conf.brokers, "localhost:9092");
	assert_int_equal(conf.properties.count, 3);
	assert_string_equal(conf.properties.items[2], "e=5");
	assert_int_equal(parse(&flags_only, &err,
			     (const char *const[8]){"--poll-ms", "9",
				 "--no-quiet", "--mode=fast", "--property",
				 "x=1", "--property=y=2"}),
	    8);
	assert_int_equal(conf.poll_ms, 9);
	assert_int_equal(conf.quiet, 0);
	assert_int_equal(conf.mode, 0);
	assert_int_equal(conf.properties.count, 2);
	assert_string_equal(conf.properties.items[0], "x=1");
	assert_string_equal(conf.properties.items[1], "y=2");
}

static void
takes_values_with_units(void **state)
{
	static const struct {
		const char *flag;
		int64_t size, time_ms;
	} cases[] = {
	    {"--size=0", 0, 2000},
	    {"--size=10", 10, 2000},
	    {"--size=3k", 3072, 2000},
	    {"--size=3M", 3145728, 2000},
	    {"--size=2g", INT64_C(2147483648), 2000},
	    {"--time=15", 65536, 15},
	    {"--time=15ms", 65536, 15},
	    {"--time=15s", 65536, 15000},
	    {"--time=15m", 65536, 900000},
	    {"--time=24h", 65536, 86400000},
	    {"--time=7d", 65536, 604800000},
	};
	struct mr_error err = {0};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(&flags_only, &err,
				     (const char *const[8]){cases[i].flag}),
		    2);
		assert_true(conf.size == cases[i].size);
		assert_true(conf.time_ms == cases[i].time_ms);
	}
}

static void
refuses_with_the_flag_the_value_and_what_it_takes(void **state)
{
	static const struct {
		const char *args[3];
		const char *message;
	} cases[] = {
	    {{"--poll-ms=0"},
		"--poll-ms must be a whole number from 1 to 60000, is \"0\""},
	    {{"--poll-ms", "60001"},
		"--poll-ms must be a whole number from 1 to 60000, is "
		"\"60001\""},
	    {{"--poll-ms=5x"}, "is \"5x\""},
	    {{"--poll-ms="}, "is \"\""},
	    {{"--poll-ms= 5"}, "is \" 5\""},
	    {{"--poll-ms=+5"}, "is \"+5\""},
	    {{"--poll-ms=5.0"}, "is \"5.0\""},
	    {{"--poll-ms=0x5"}, "is \"0x5\""},
	    {{"--poll-ms=-"}, "is \"-\""},
	    {{"--signed=-6"}, "from -5 to 5"},
	    {{"--open=9"}, "--open must be a whole number of at least 10"},
	    {{"--open=99999999999999999999"}, "is \"99999999999999999999\""},
	    {{"--size=-1"}, "bytes, or with k, m or g, of at least 0 bytes"},
	    {{"--size=9999999999999g"}, "is \"9999999999999g\""},
	    {{"--size=1kb"}, "is \"1kb\""},
	    {{"--size=k"}, "is \"k\""},
	    {{"--time=1w"}, "milliseconds, or with ms, s, m, h or d"},
	    {{"--ratio=1.5"}, "--ratio must be a number from 0 to 1"},
	    {{"--ratio=nan"}, "is \"nan\""},
	    {{"--ratio=inf"}, "is \"inf\""},
	    {{"--ratio=0x1p-2"}, "is \"0x1p-2\""},
	    {{"--ratio=."}, "is \".\""},
	    {{"--ratio="}, "is \"\""},
	    {{"--ratio=1e999"}, "is \"1e999\""},
	    {{"--mode=fas"}, "--mode must be fast, safe, slow, is \"fas\""},
	    {{"--quiet=1"}, "--quiet takes no value"},
	    {{"--no-quiet=1"}, "--quiet takes no value"},
	    {{"--poll-ms"}, "--poll-ms needs a value"},
	    {{"--no-mode"}, "unknown flag \"--no-mode\""},
	    {{"--pol-ms=1"}, "unknown flag \"--pol-ms=1\""},
	    {{"-p"}, "unknown flag \"-p\""},
	    {{"--=x"}, "unknown flag"},
	    {{"stray"}, "unexpected argument \"stray\""},
	    {{"-"}, "unexpected argument \"-\""},
	    {{"--", "--quiet"}, "unexpected argument \"--quiet\""},
	    {{"--quiet", "stray"}, "unexpected argument \"stray\""},
	};
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(parse(&flags_only, &err,
				     (const char *const[8]){cases[i].args[0],
					 cases[i].args[1], cases[i].args[2]}),
		    -1);
		assert_int_equal(err.kind, MR_FATAL);
		if (strstr(err.message, cases[i].message) == NULL)
			fail_msg("\"%s\" isn't in \"%s\"", cases[i].message,
			    err.message);
	}
}

static void
signed_numbers_may_be_negative(void **state)
{
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(parse(&flags_only, &err,
			     (const char *const[8]){"--signed", "-5"}),
	    3);
	assert_int_equal(conf.signed_n, -5);
}

static void
refuses_a_bad_environment_by_its_name(void **state)
{
	struct mr_error err = {0};

	(void)state;
	setenv("MILLRACE_POLL_MS", "soon", 1);
	assert_int_equal(parse(&flags_only, &err, (const char *const[8]){NULL}),
	    -1);
	assert_string_equal(err.message,
	    "MILLRACE_POLL_MS must be a whole number from 1 to 60000, is "
	    "\"soon\"");
	clearenv();
	setenv("MILLRACE_QUIET", "perhaps", 1);
	assert_int_equal(parse(&flags_only, &err, (const char *const[8]){NULL}),
	    -1);
	assert_string_equal(err.message,
	    "MILLRACE_QUIET must be 1, 0, true, false, yes or no, is "
	    "\"perhaps\"");
}

static void
refuses_more_items_than_a_list_holds(void **state)
{
	struct mr_error err = {0};
	char items[200];
	size_t i;

	(void)state;
	for (i = 0; i < 64; i++)
		memcpy(items + 2 * i, "x ", 2);
	items[2 * i] = '\0';
	setenv("MILLRACE_PROPERTY", items, 1);
	assert_int_equal(parse(&flags_only, &err, (const char *const[8]){NULL}),
	    1);
	assert_int_equal(conf.properties.count, 64);
	memcpy(items + 2 * i, "x", 2);
	setenv("MILLRACE_PROPERTY", items, 1);
	assert_int_equal(parse(&flags_only, &err, (const char *const[8]){NULL}),
	    -1);
	assert_non_null(strstr(err.message, "at most 64 items"));
}

static void
flags_stand_anywhere_before_two_dashes(void **state)
{
	static const struct {
		const char *args[8];
		int first; /* of the arguments */
		const char *rest; /* they, with blanks between */
		int quiet;
		int64_t poll_ms;
	} cases[] = {
	    {{"--quiet", "topics", "all"}, 2, "topics all", 1, 500},
	    {{"topics", "--quiet", "all"}, 2, "topics all", 1, 500},
	    {{"topics", "all", "--poll-ms", "7", "--quiet"}, 4, "topics all", 1,
		7},
	    {{"topics", "--poll-ms=8", "-", "--quiet", "all"}, 3,
		"topics - all", 1, 8},
	    {{"--", "--quiet"}, 2, "--quiet", 0, 500},
	    {{"a", "--quiet", "b", "--", "--poll-ms", "--"}, 3,
		"a b --poll-ms --", 1, 500},
	    {{"--", "a", "--help"}, 2, "a --help", 0, 500},
	    {{"-"}, 1, "-", 0, 500},
	    {{"--quiet"}, 2, "", 1, 500},
	};
	struct mr_error err = {0};
	char rest[128];
	size_t i, length;
	int k;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(&with_arguments, &err, cases[i].args),
		    cases[i].first);
		for (k = cases[i].first, length = 0, rest[0] = '\0';
		     parsed[k] != NULL; k++)
			length += (size_t)snprintf(rest + length,
			    sizeof(rest) - length, "%s%s",
			    length > 0 ? " " : "", parsed[k]);
		assert_string_equal(rest, cases[i].rest);
		assert_int_equal(conf.quiet, cases[i].quiet);
		assert_int_equal(conf.poll_ms, cases[i].poll_ms);
	}
	assert_int_equal(parse(&with_arguments, &err,
			     (const char *const[8]){"a", "--poll-ms"}),
	    -1);
	assert_string_equal(err.message, "--poll-ms needs a value");
}

/* What the program prints for ${args} in a child that must exit with 0. */
static void
output_of(const char *const args[8], char *text, size_t size)
{
	struct mr_error err;
	int fds[2], status;
	size_t length = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	fflush(stdout);
	if ((pid = fork()) == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		(void)parse(&flags_only, &err, args);
		_exit(77);
	}
	close(fds[1]);
	while (length < size - 1 &&
	    (n = read(fds[0], text + length, size - 1 - length)) > 0)
		length += (size_t)n;
	text[length] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
help_names_every_flag_within_eighty_columns(void **state)
{
	static char text[8192];
	static const char *const parts[] = {"usage: orders [flags]\n",
	    "\n\nTakes orders", "inventory\nchange it.\n\nKafka\n",
	    "\nService\n", "  --brokers TEXT ",
	    "[localhost:9092] MILLRACE_BROKERS\n", "--[no-]quiet",
	    "fast, safe or slow", "(repeatable)", "MILLRACE_OPEN", "--version",
	    "Example:\n  orders --poll-ms 100\n"};
	const char *line, *end;
	size_t i;

	(void)state;
	/* Help comes even when the rest is wrong. */
	setenv("MILLRACE_POLL_MS", "soon", 1);
	output_of((const char *const[8]){"--mode", "--help", "--poll-ms", "3",
		      "--unknown", "--help"},
	    text, sizeof(text));
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strstr(text, parts[i]) == NULL)
			fail_msg("\"%s\" isn't in:\n%s", parts[i], text);
	for (line = text; (end = strchr(line, '\n')) != NULL; line = end + 1)
		assert_true(end - line < 80);
}

static void
version_is_printed_with_the_name(void **state)
{
	char text[128], expected[128];

	(void)state;
	output_of((const char *const[8]){"--version"}, text, sizeof(text));
	snprintf(expected, sizeof(expected), "orders %s\n", config_version());
	assert_string_equal(text, expected);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(defaults_hold_when_nothing_is_said,
		clear_environment),
	    cmocka_unit_test_setup(
		a_flag_wins_over_the_environment_which_wins_over_the_default,
		clear_environment),
	    cmocka_unit_test_setup(takes_values_with_units, clear_environment),
	    cmocka_unit_test_setup(
		refuses_with_the_flag_the_value_and_what_it_takes,
		clear_environment),
	    cmocka_unit_test_setup(signed_numbers_may_be_negative,
		clear_environment),
	    cmocka_unit_test_setup(refuses_a_bad_environment_by_its_name,
		clear_environment),
	    cmocka_unit_test_setup(refuses_more_items_than_a_list_holds,
		clear_environment),
	    cmocka_unit_test_setup(flags_stand_anywhere_before_two_dashes,
		clear_environment),
	    cmocka_unit_test_setup(help_names_every_flag_within_eighty_columns,
		clear_environment),
	    cmocka_unit_test_setup(version_is_printed_with_the_name,
		clear_environment),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
