#include <stdio.h>
#include <string.h>

#include "base/config_help.h"

#define WIDTH ((size_t)79)
#define COLUMN ((size_t)26) /* where the explanations start */

/* Blanks from column ${at} to ${to}, or a new line if that is passed. */
static void
fill_to(struct buffer *out, size_t at, size_t to)
{

	if (at > 0 && at + 1 > to) {
		buffer_add(out, "\n", 1);
		at = 0;
	}
	for (; at < to; at++)
		buffer_add(out, " ", 1);
}

/* Words in lines that start at ${indent}; the cursor is there already. */
static void
add_wrapped(struct buffer *out, const char *text, size_t indent)
{
	size_t at = indent, n;

	while (*text != '\0') {
		n = strcspn(text, " \n");
		if (at > indent && at + 1 + n > WIDTH) {
			buffer_add(out, "\n", 1);
			fill_to(out, 0, indent);
			at = indent;
		} else if (at > indent) {
			buffer_add(out, " ", 1);
			at++;
		}
		buffer_add(out, text, n);
		at += n;
		text += n;
		text += strspn(text, " \n");
	}
	buffer_add(out, "\n", 1);
}

static const char *
value_name(enum config_kind kind)
{

	switch (kind) {
	case CONFIG_INT:
		return (" N");
	case CONFIG_SIZE:
		return (" SIZE");
	case CONFIG_DURATION:
		return (" TIME");
	case CONFIG_REAL:
		return (" X");
	case CONFIG_CHOICE:
		return (" CHOICE");
	case CONFIG_BOOL:
		return ("");
	default:
		return (" TEXT");
	}
}

/* What the option does, and then what it takes. */
static void
add_explanation(struct buffer *out, const struct config_option *opt)
{
	struct buffer text = {0};
	int i;

	buffer_add_text(&text, opt->help);
	if (opt->kind == CONFIG_CHOICE) {
		buffer_add_text(&text, ":");
		for (i = 0; opt->choices[i] != NULL; i++) {
			if (i > 0)
				buffer_add_text(&text,
				    opt->choices[i + 1] == NULL ? " or" : ",");
			buffer_addf(&text, " %s", opt->choices[i]);
		}
	}
	if (opt->kind == CONFIG_LIST)
		buffer_add_text(&text, " (repeatable)");
	add_wrapped(out, buffer_text(&text), COLUMN);
	out->failed |= text.failed;
	buffer_free(&text);
}

static void
add_option(struct buffer *out, const struct config_option *opt)
{
	char env[CONFIG_ENV_NAME_SIZE];
	size_t start = out->length;

	buffer_addf(out, "  --%s%s%s", opt->kind == CONFIG_BOOL ? "[no-]" : "",
	    opt->name, value_name(opt->kind));
	fill_to(out, out->length - start, COLUMN);
	if (opt->help != NULL) {
		add_explanation(out, opt);
		fill_to(out, 0, COLUMN);
	}
	config_env_name(opt, env);
	if (opt->fallback != NULL && opt->fallback[0] != '\0')
		buffer_addf(out, "[%s] ", opt->fallback);
	buffer_addf(out, "%s\n", env);
}

void
config_help(const struct config_program *program, struct buffer *out)
{
	const struct config_option *const *table;
	const struct config_option *opt;
	int first = 1;

	buffer_addf(out, "usage: %s [flags]%s%s\n\n", program->name,
	    program->usage != NULL ? " " : "",
	    program->usage != NULL ? program->usage : "");
	add_wrapped(out, program->summary, 0);
	for (table = program->tables; *table != NULL; table++) {
		for (opt = *table; opt->name != NULL; opt++) {
			if (opt->group != NULL)
				buffer_addf(out, "\n%s\n", opt->group);
			else if (first)
				buffer_add_text(out, "\nSettings\n");
			first = 0;
			add_option(out, opt);
		}
	}
	buffer_add_text(out,
	    "\nOther\n"
	    "  --help                  print this and exit\n"
	    "  --version               print the version and "
	    "exit\n\n");
	add_wrapped(out,
	    "Each setting's default is in brackets, and beside it the "
	    "environment variable that sets it too; a flag wins. SIZE is in "
	    "bytes, or with k, m or g; TIME in milliseconds, or with ms, s, m, "
	    "h or d.",
	    0);
	if (program->epilogue != NULL)
		buffer_addf(out, "\n%s\n", program->epilogue);
}
