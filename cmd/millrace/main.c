/*
 * millrace -- look into what the services and Kafka hold, and set it right.
 */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/program.h"
#include "base/sandbox.h"

#include "millrace.h"

static const struct command commands[] = {
    {"state verify", "check that all files and topics add up", state_verify},
    {"state positions", "how far each service has consumed", state_positions},
    {"state outbox list", "records that wait for Kafka", state_outbox},
    {"state dead-letters list", "records that could not be applied",
	state_dead_letters},
    {"state dead-letters show", "one of them, whole", state_dead_letter},
    {"state dead-letters replay", "have the service apply some once more",
	state_letters_replay},
    {"state dead-letters drop", "forget some", state_letters_drop},
    {"state backup", "copy the files while they are in use", state_backup},
    {"state restore", "put a copy in a file's place", state_restore},
    {"state rebuild", "make a file anew from the topics", state_rebuild},
    {"state accept-gap", "let a halted partition go on", state_accept_gap},
    {"state rebind", "let a file work with another cluster or group",
	state_rebind},
    {"state accept-cursor", "let a relay go on that is halted",
	state_accept_cursor},
    {"topics diff", "where topics aren't as declared", topics_diff},
    {"topics ensure", "make the declared topics", topics_ensure},
    {NULL, NULL, NULL},
};

static const char usage[] =
    "Usage: millrace NOUN VERB [flags]\n"
    "\n"
    "Looks into the services' files and Kafka's topics, and sets right what\n"
    "halts a service.\n"
    "\n"
    "Commands:\n";
static const char usage_end[] =
    "\n"
    "millrace NOUN VERB --help says more of each.  Every flag can be set in\n"
    "the environment as well: MILLRACE_BROKERS for --brokers.\n";

#define TABLES_MOST 8

static int sandbox;

static const struct config_option process_options[] = {
    {.name = "sandbox",
	.kind = CONFIG_BOOL,
	.target = &sandbox,
	.fallback = "yes",
	.help = "do without unneeded system calls; --no-sandbox is for "
		"debugging",
	.group = "Process"},
    {.name = NULL},
};

const char *const output_names[] = {"table", "json", NULL};

static int
is_help(const char *arg)
{
	return (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0);
}

/* All commands, or those that begin with the words given. */
static void
help(FILE *to, int argc, char **argv)
{
	const struct command *c;
	char words[64] = "";
	size_t length = 0;
	int i;

	for (i = 1; i < argc && argv[i][0] != '-'; i++)
		length = (size_t)snprintf(words + length,
			     sizeof(words) - length, "%.20s ", argv[i]) +
		    length;
	fputs(usage, to);
	for (c = commands; c->words != NULL; c++)
		if (strncmp(c->words, words, length) == 0)
			fprintf(to, "  %-26s %s\n", c->words, c->summary);
	fputs(usage_end, to);
}

/* How many arguments are the command's words; 0 if they aren't. */
static int
words_match(const char *words, int argc, char **argv)
{
	size_t n;
	int i;

	for (i = 1; *words != '\0'; i++) {
		n = strcspn(words, " ");
		if (i >= argc || strlen(argv[i]) != n ||
		    memcmp(argv[i], words, n) != 0)
			return (0);
		words += n;
		words += strspn(words, " ");
	}
	return (i - 1);
}

int
command_parse(const struct command *command, int argc, char **argv,
    const struct config_program *program)
{
	static char output[] = "--output";
	const struct config_option *tables[TABLES_MOST] = {NULL};
	struct config_program named = *program;
	struct mr_error err = {0};
	char name[64];
	int i;

	for (i = 0; program->tables[i] != NULL; i++)
		tables[i] = program->tables[i];
	assert(i < TABLES_MOST - 1);
	tables[i] = process_options;
	named.tables = tables;

	snprintf(name, sizeof(name), "millrace %s", command->words);
	named.name = name;
	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-o") == 0)
			argv[i] = output;
	if ((i = config_parse(argc, argv, &named, &err)) == -1)
		command_fail(command, &err);
	else if (sandbox)
		sandbox_enter_tool();
	return (i);
}

int
command_fail(const struct command *command, const struct mr_error *err)
{
	fprintf(stderr, "millrace %s: %s\n", command->words, err->message);
	return (EXIT_UNKNOWN);
}

void
command_left_out(const struct command *command, const char *files)
{

	if (files[0] != '\0')
		fprintf(stderr,
		    "millrace %s: left out, as no service's file: %s\n",
		    command->words, files);
}

static void (*abandoned)(void);

static void
give_up(int signo)
{
	abandoned();
	_exit(128 + signo);
}

void
command_abandon(void (*abandon)(void))
{
	static const int signals[] = {SIGHUP, SIGINT, SIGTERM};
	struct sigaction action = {.sa_handler = give_up}, before;
	size_t i;

	abandoned = abandon;
	sigemptyset(&action.sa_mask);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigaction(signals[i], NULL, &before) == 0 &&
		    before.sa_handler != SIG_IGN)
			(void)sigaction(signals[i], &action, NULL);
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
	int count;

	program_start();
	log_init("millrace", LOG_LOGFMT, LOG_ERROR);
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("millrace %s\n", config_version());
		return (EXIT_YES);
	}
	for (c = commands; c->words != NULL; c++)
		if ((count = words_match(c->words, argc, argv)) > 0)
			return (c->run(c, argc - count, argv + count));
	if (argc > 1 && is_help(argv[argc - 1])) {
		help(stdout, argc - 1, argv);
		return (EXIT_YES);
	}
	if (argc > 1)
		fprintf(stderr, "millrace: no such command\n\n");
	help(stderr, argc, argv);
	return (EXIT_UNKNOWN);
}
