/* agree -- say what will be done, ask, and tell what came of it. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "millrace.h"

const struct config_option *
agree_options(struct agreement *a, const char **db, const char *group)
{
	static struct config_option table[] = {
	    {.name = "db", .kind = CONFIG_TEXT, .help = "the service's file"},
	    {.name = "yes",
		.kind = CONFIG_BOOL,
		.fallback = "no",
		.help = "do it without asking"},
	    {.name = "output",
		.kind = CONFIG_CHOICE,
		.fallback = "table",
		.choices = output_names,
		.help = "table or json; also -o"},
	    {.name = NULL},
	};

	table[0].target = db;
	table[0].group = group;
	table[1].target = &a->yes;
	table[2].target = &a->output;
	return (table);
}

/* Where people read: JSON has stdout for itself. */
static FILE *
aside(const struct agreement *a)
{
	return (a->output == OUTPUT_JSON ? stderr : stdout);
}

int
agree(struct agreement *a, const char *says)
{
	FILE *to = aside(a);
	char answer[16];

	a->plan = says;
	fprintf(to, "%s: %s.\n", a->about, says);
	fflush(to);
	if (a->yes)
		return (1);
	if (!isatty(STDIN_FILENO)) {
		fprintf(to, "Nothing was changed; --yes does it.\n");
		return (0);
	}
	fprintf(to, "Go on? [y/N] ");
	fflush(to);
	if (fgets(answer, sizeof(answer), stdin) != NULL &&
	    (answer[0] == 'y' || answer[0] == 'Y'))
		return (1);
	fprintf(to, "Nothing was changed.\n");
	return (0);
}

int
agree_tell(const struct agreement *a, int done, const char *says)
{
	struct buffer out = {0};
	struct json_writer w;

	if (a->output == OUTPUT_TABLE) {
		if (done)
			buffer_addf(&out, "%s.\n", says);
		else if (says[0] != '\0')
			buffer_addf(&out, "%s: %s.\n", a->about, says);
	} else {
		json_init(&w, &out);
		json_object_open(&w);
		json_member_text(&w, "about", a->about);
		json_member_bool(&w, "done", done);
		json_member_text(&w, "says",
		    says[0] != '\0' ? says : "not agreed");
		json_member_text(&w, "plan", a->plan);
		json_object_close(&w);
		buffer_add_text(&out, "\n");
	}
	return (command_print(&out, done ? EXIT_YES : EXIT_NO));
}
