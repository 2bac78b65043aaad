#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/config.h"
#include "base/config_help.h"

#ifndef MR_VERSION
#define MR_VERSION "0.1.0"
#endif

#define OPTIONS_MOST 256
#define LIST_MOST \
	(sizeof(((struct config_list *)0)->items) / sizeof(const char *))

/* Where a value came from: for messages, and for what may replace what. */
enum origin { FROM_DEFAULT, FROM_ENVIRONMENT, FROM_FLAG };

struct unit {
	const char *suffix;
	int64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"k", 1024},
    {"m", INT64_C(1024) * 1024},
    {"g", INT64_C(1024) * 1024 * 1024},
    {NULL, 0},
};
static const struct unit duration_units[] = {
    {"", 1},
    {"ms", 1},
    {"s", 1000},
    {"m", INT64_C(60) * 1000},
    {"h", INT64_C(60) * 60 * 1000},
    {"d", INT64_C(24) * 60 * 60 * 1000},
    {NULL, 0},
};
static const struct unit no_units[] = {
    {"", 1},
    {NULL, 0},
};

const char *
config_version(void)
{

	return (MR_VERSION);
}

void
config_env_name(const struct config_option *opt,
    char name[CONFIG_ENV_NAME_SIZE])
{
	size_t i;
	int n;

	n = snprintf(name, CONFIG_ENV_NAME_SIZE, "MILLRACE_%s", opt->name);
	assert(n > 0 && n < CONFIG_ENV_NAME_SIZE);
	(void)n;
	for (i = 0; name[i] != '\0'; i++) {
		if (name[i] == '-')
			name[i] = '_';
		else
			name[i] = (char)toupper((unsigned char)name[i]);
	}
}

static int
is_limited(const struct config_option *opt)
{

	return (opt->most >= opt->least &&
	    !(fpclassify(opt->least) == FP_ZERO &&
		fpclassify(opt->most) == FP_ZERO));
}

static int
in_range(const struct config_option *opt, double x)
{

	return (x >= opt->least && (!is_limited(opt) || x <= opt->most));
}

/* "from 1 to 10", "of at least 1", in the units of the option. */
static void
describe_range(const struct config_option *opt, char text[64])
{

	if (is_limited(opt))
		snprintf(text, 64, "from %.15g to %.15g", opt->least,
		    opt->most);
	else
		snprintf(text, 64, "of at least %.15g", opt->least);
}

static void
describe_choices(const struct config_option *opt, char *text, size_t size)
{
	size_t length = 0;
	int i, n;

	text[0] = '\0';
	for (i = 0; opt->choices[i] != NULL && length < size; i++) {
		n = snprintf(text + length, size - length, "%s%s",
		    i == 0 ? "" : ", ", opt->choices[i]);
		length += n > 0 ? (size_t)n : 0;
	}
}

/* What the option takes, for the end of "must be ...". */
static void
describe_values(const struct config_option *opt, char text[160])
{
	char range[64];

	describe_range(opt, range);
	switch (opt->kind) {
	case CONFIG_INT:
		snprintf(text, 160, "a whole number %s", range);
		break;
	case CONFIG_SIZE:
		snprintf(text, 160, "bytes, or with k, m or g, %s bytes",
		    range);
		break;
	case CONFIG_DURATION:
		snprintf(text, 160,
		    "milliseconds, or with ms, s, m, h or d, %s ms", range);
		break;
	case CONFIG_REAL:
		snprintf(text, 160, "a number %s", range);
		break;
	case CONFIG_BOOL:
		snprintf(text, 160, "1, 0, true, false, yes or no");
		break;
	case CONFIG_CHOICE:
		describe_choices(opt, text, 160);
		break;
	case CONFIG_LIST:
		snprintf(text, 160, "at most %zu items", LIST_MOST);
		break;
	case CONFIG_TEXT:
		snprintf(text, 160, "text");
		break;
	}
}

static int
refuse(const struct config_option *opt, enum origin origin, const char *value,
    struct mr_error *err)
{
	char env[CONFIG_ENV_NAME_SIZE], values[160];

	config_env_name(opt, env);
	describe_values(opt, values);
	return (mr_error_set(err, MR_FATAL, "%s%s%s must be %s, is \"%.40s\"",
	    origin == FROM_DEFAULT ? "the default of " : "",
	    origin == FROM_ENVIRONMENT ? "" : "--",
	    origin == FROM_ENVIRONMENT ? env : opt->name, values, value));
}

/* A whole number and one of the units, all of it: 0 or -1. */
static int
parse_i64(const char *text, const struct unit *units, int64_t *result)
{
	const struct unit *unit;
	char *end;
	long long n;

	/* strtoll alone would take white space and a plus sign. */
	if (!isdigit((unsigned char)(text[0] == '-' ? text[1] : text[0])))
		return (-1);
	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno != 0)
		return (-1);
	for (unit = units; unit->suffix != NULL; unit++)
		if (strcasecmp(end, unit->suffix) == 0)
			break;
	if (unit->suffix == NULL ||
	    __builtin_mul_overflow((int64_t)n, unit->factor, result))
		return (-1);
	return (0);
}

static int
parse_f64(const char *text, double *result)
{
	char *end;

	/* Decimal digits only: no "inf", "nan", "0x1p3" or white space. */
	if (*text == '\0' || text[strspn(text, "0123456789.eE+-")] != '\0')
		return (-1);
	*result = strtod(text, &end);
	return (*end == '\0' && isfinite(*result) ? 0 : -1);
}

static int
parse_bool(const char *text, int *result)
{
	static const char *const words[] = {"0", "1", "false", "true", "no",
	    "yes"};
	int i;

	for (i = 0; i < 6; i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*result = i % 2;
			return (0);
		}
	}
	return (-1);
}

static int
parse_choice(const struct config_option *opt, const char *text, int *result)
{
	int i;

	for (i = 0; opt->choices[i] != NULL; i++) {
		if (strcmp(text, opt->choices[i]) == 0) {
			*result = i;
			return (0);
		}
	}
	return (-1);
}

static int
list_add(struct config_list *list, const char *item)
{

	if ((size_t)list->count == LIST_MOST)
		return (-1);
	list->items[list->count++] = item;
	return (0);
}

/*
 * Copies of lists that had to be split: kept as long as the process, like argv
 * and the environment, since settings point into them.
 */
struct kept {
	struct kept *next;
	char text[];
};
static struct kept *kept_copies;

static int
list_split(struct config_list *list, const char *text)
{
	size_t size = strlen(text) + 1;
	struct kept *copy;
	char *item, *rest;

	list->count = 0;
	if ((copy = malloc(sizeof(*copy) + size)) == NULL)
		return (-1);
	memcpy(copy->text, text, size);
	copy->next = kept_copies;
	kept_copies = copy;
	for (item = strtok_r(copy->text, " \t\n", &rest); item != NULL;
	     item = strtok_r(NULL, " \t\n", &rest))
		if (list_add(list, item))
			return (-1);
	return (0);
}

static int
set_number(const struct config_option *opt, const char *value)
{
	const struct unit *units = opt->kind == CONFIG_SIZE ? size_units :
	    opt->kind == CONFIG_DURATION                    ? duration_units :
							      no_units;
	int64_t n;

	if (parse_i64(value, units, &n) || !in_range(opt, (double)n))
		return (-1);
	*(int64_t *)opt->target = n;
	return (0);
}

static int
set_option(const struct config_option *opt, enum origin origin,
    const char *value, struct mr_error *err)
{
	double x;
	int rc = 0;

	switch (opt->kind) {
	case CONFIG_TEXT:
		*(const char **)opt->target = value;
		break;
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
		rc = set_number(opt, value);
		break;
	case CONFIG_REAL:
		if ((rc = parse_f64(value, &x)) == 0 && !in_range(opt, x))
			rc = -1;
		if (rc == 0)
			*(double *)opt->target = x;
		break;
	case CONFIG_BOOL:
		rc = parse_bool(value, opt->target);
		break;
	case CONFIG_CHOICE:
		rc = parse_choice(opt, value, opt->target);
		break;
	case CONFIG_LIST:
		rc = origin == FROM_FLAG ? list_add(opt->target, value) :
					   list_split(opt->target, value);
		break;
	}
	return (rc == 0 ? 0 : refuse(opt, origin, value, err));
}

/* Defaults first, then what the environment says. */
static int
set_from_environment(const struct config_program *program, struct mr_error *err)
{
	const struct config_option *const *table;
	const struct config_option *opt;
	char env[CONFIG_ENV_NAME_SIZE];
	const char *value;

	for (table = program->tables; *table != NULL; table++) {
		for (opt = *table; opt->name != NULL; opt++) {
			config_env_name(opt, env);
			value = getenv(env);
			if (opt->fallback != NULL &&
			    set_option(opt, FROM_DEFAULT, opt->fallback, err))
				return (-1);
			if (value != NULL && *value != '\0' &&
			    set_option(opt, FROM_ENVIRONMENT, value, err))
				return (-1);
		}
	}
	return (0);
}

/*
 * The option that a flag names: ${name} without its dashes, ${length} bytes
 * of it.  --no-x is found as the Boolean x with *negated set.
 */
static const struct config_option *
find_option(const struct config_program *program, const char *name,
    size_t length, int *negated, size_t *index)
{
	const struct config_option *const *table;
	const struct config_option *opt;

	*index = 0;
	*negated = 0;
	for (table = program->tables; *table != NULL; table++) {
		for (opt = *table; opt->name != NULL; opt++, (*index)++) {
			if (strlen(opt->name) == length &&
			    memcmp(opt->name, name, length) == 0)
				return (opt);
			if (opt->kind == CONFIG_BOOL && length > 3 &&
			    memcmp(name, "no-", 3) == 0 &&
			    strlen(opt->name) == length - 3 &&
			    memcmp(opt->name, name + 3, length - 3) == 0) {
				*negated = 1;
				return (opt);
			}
		}
	}
	return (NULL);
}

static void
answer_builtin(const struct config_program *program, const char *arg)
{
	struct buffer out = {0};

	if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
		config_help(program, &out);
	else if (strcmp(arg, "--version") == 0)
		buffer_addf(&out, "%s %s\n", program->name, config_version());
	else
		return;
	fputs(buffer_text(&out), stdout);
	if (out.failed || fflush(stdout) != 0)
		exit(EXIT_FAILURE);
	buffer_free(&out);
	exit(EXIT_SUCCESS);
}

/* "-" alone is an argument: the usual name of stdin. */
static int
is_flag(const char *arg)
{

	return (arg[0] == '-' && arg[1] != '\0');
}

/*
 * --help and --version work whatever else is wrong, so they are looked for
 * first: among the flags, not their values, and not past "--".
 */
static void
look_for_builtin(int argc, char **argv, const struct config_program *program)
{
	const struct config_option *opt;
	size_t length, index;
	int i, negated;

	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (!is_flag(argv[i]))
			continue;
		answer_builtin(program, argv[i]);
		length = strcspn(argv[i], "=");
		if (argv[i][1] != '-' || argv[i][length] == '=')
			continue;
		opt = find_option(program, argv[i] + 2, length - 2, &negated,
		    &index);
		if (opt != NULL && opt->kind != CONFIG_BOOL)
			i++;
	}
}

/* One flag at argv[i]; returns the index after it and its value, or -1. */
static int
take_flag(int argc, char **argv, int i, const struct config_program *program,
    unsigned char given[OPTIONS_MOST], struct mr_error *err)
{
	const struct config_option *opt;
	const char *name = argv[i] + 2, *value;
	size_t length = strcspn(name, "="), index;
	int negated;

	value = name[length] == '=' ? name + length + 1 : NULL;
	opt = argv[i][1] == '-' ?
	    find_option(program, name, length, &negated, &index) :
	    NULL;
	if (opt == NULL)
		return (mr_error_set(err, MR_FATAL,
		    "unknown flag \"%.60s\": %s --help lists them all", argv[i],
		    program->name));
	if (opt->kind == CONFIG_BOOL) {
		if (value != NULL)
			return (mr_error_set(err, MR_FATAL,
			    "--%s takes no value, is given \"%.40s\": say "
			    "--%s or --no-%s",
			    opt->name, value, opt->name, opt->name));
		*(int *)opt->target = !negated;
		return (i + 1);
	}
	if (value == NULL && (value = argv[++i]) == NULL)
		return (mr_error_set(err, MR_FATAL, "--%s needs a value",
		    opt->name));
	assert(index < OPTIONS_MOST);
	if (opt->kind == CONFIG_LIST && !given[index])
		((struct config_list *)opt->target)->count = 0;
	given[index] = 1;
	if (set_option(opt, FROM_FLAG, value, err))
		return (-1);
	assert(i < argc);
	return (i + 1);
}

/*
 * Put the words from ${i} up to ${next} before the arguments, the first of
 * which is at ${first}; returns where that is then.
 */
static int
bring_forward(char **argv, int first, int i, int next)
{
	char *word;

	for (; i < next; i++, first++) {
		word = argv[i];
		memmove(&argv[first + 1], &argv[first],
		    (size_t)(i - first) * sizeof(*argv));
		argv[first] = word;
	}
	return (first);
}

int
config_parse(int argc, char **argv, const struct config_program *program,
    struct mr_error *err)
{
	unsigned char given[OPTIONS_MOST] = {0};
	int i = 1, first = 1, next, ended = 0;

	look_for_builtin(argc, argv, program);
	if (set_from_environment(program, err))
		return (-1);
	while (i < argc && !ended) {
		next = i + 1;
		if (!is_flag(argv[i])) {
			i = next;
			continue;
		}
		ended = strcmp(argv[i], "--") == 0;
		if (!ended &&
		    (next = take_flag(argc, argv, i, program, given, err)) < 0)
			return (-1);
		first = bring_forward(argv, first, i, next);
		i = next;
	}
	if (first < argc && program->usage == NULL)
		return (mr_error_set(err, MR_FATAL,
		    "unexpected argument \"%.60s\": %s takes flags only",
		    argv[first], program->name));
	return (first);
}
