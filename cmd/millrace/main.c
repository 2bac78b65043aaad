/*
 * millrace -- look into what the services and Kafka hold, and set it right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/program.h"

#include "millrace.h"

static const struct command commands[] = {
    {"state", "verify", "check that all files and topics add up", state_verify},
    {NULL, NULL, NULL, NULL},
};

static const char usage[] =
    "Usage: millrace NOUN VERB [flags]\n"
    "\n"
    "Looks into the services' files and Kafka's topics.\n"
    "\n"
    "Commands:\n";
static const char usage_end[] =
    "\n"
    "  millrace NOUN VERB --help says more of each; every flag can be set in\n"
    "  the environment as well: MILLRACE_BROKERS for --brokers.\n";

const char *const output_names[] = {"table", "json", NULL};

static void
help(FILE *to, const char *noun)
{
	const struct command *c;
	int shown = 0;

	fputs(usage, to);
	for (c = commands; c->noun != NULL; c++) {
		if (noun != NULL && strcmp(noun, c->noun) != 0)
			continue;
		fprintf(to, "  %s %-18s %s\n", c->noun, c->verb, c->summary);
		shown++;
	}
	if (shown == 0)
		fprintf(to, "  none of \"%s\"\n", noun);
	fputs(usage_end, to);
}

int
command_parse(const struct command *command, int argc, char **argv,
    const struct config_program *program)
{
	static char output[] = "--output";
	struct config_program named = *program;
	struct mr_error err = {0};
	char name[64];
	int i;

	snprintf(name, sizeof(name), "millrace %s %s", command->noun,
	    command->verb);
	named.name = name;
	for (i = 1; i < argc; i++)
		if (strcmp(argv[i], "-o") == 0)
			argv[i] = output;
	if ((i = config_parse(argc, argv, &named, &err)) == -1)
		command_fail(command, &err);
	return (i);
}

int
command_fail(const struct command *command, const struct mr_error *err)
{
	fprintf(stderr, "millrace %s %s: %s\n", command->noun, command->verb,
	    err->message);
	return (EXIT_UNKNOWN);
}

int
command_print(struct buffer *out, int status)
{
	if (out->failed ||
	    fwrite(buffer_text(out), 1, out->length, stdout) != out->length ||
	    fflush(stdout) != 0)
		status = EXIT_UNKNOWN;
	buffer_free(out);
	return (status);
}

int
main(int argc, char **argv)
{
	const struct command *c;

	program_start();
	log_init("millrace", LOG_LOGFMT, LOG_ERROR);
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("millrace %s\n", config_version());
		return (EXIT_YES);
	}
	if (argc > 1 &&
	    (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		help(stdout, NULL);
		return (EXIT_YES);
	}
	if (argc > 2 &&
	    (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
		help(stdout, argv[1]);
		return (EXIT_YES);
	}
	for (c = commands; argc > 2 && c->noun != NULL; c++)
		if (strcmp(argv[1], c->noun) == 0 &&
		    strcmp(argv[2], c->verb) == 0)
			return (c->run(c, argc - 2, argv + 2));
	if (argc > 2)
		fprintf(stderr, "millrace: no command \"%s %s\"\n\n", argv[1],
		    argv[2]);
	help(stderr, NULL);
	return (EXIT_UNKNOWN);
}
