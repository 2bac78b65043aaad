#include "base/failpoint.h"
#include "base/log.h"

#ifdef MR_FAILPOINTS

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPECS_MOST 16
#define SLEEP_SECONDS 5

enum action {
	ACTION_KILL,
	ACTION_STOP,
	ACTION_SLEEP,
	ACTION_ESCAPE,
	ACTION_ERROR,
	ACTIONS
};

static const char *const action_names[ACTIONS] = {
    [ACTION_KILL] = "kill",
    [ACTION_STOP] = "stop",
    [ACTION_SLEEP] = "sleep",
    [ACTION_ESCAPE] = "escape",
    [ACTION_ERROR] = "error",
};

struct spec {
	char name[64];
	enum action action;
	unsigned long skip;
	atomic_ulong passes;
};

static struct spec specs[SPECS_MOST];
static int specs_count;
static const char *outside; /* a folder that isn't the program's */
static pthread_once_t specs_once = PTHREAD_ONCE_INIT;

/* A test whose failpoint is misspelt must not pass for lack of it. */
static void
refuse(const char *spec)
{

	fprintf(stderr,
	    "MILLRACE_FAILPOINT: \"%s\" is not name=action[@passes], action "
	    "kill, stop, sleep, escape (from MILLRACE_OUTSIDE) or error\n",
	    spec);
	abort();
}

static void
parse_spec(char *text)
{
	struct spec *spec;
	char *action, *skip, *end;
	int i;

	if (specs_count == SPECS_MOST)
		refuse(text);
	spec = &specs[specs_count++];
	if ((action = strchr(text, '=')) == NULL || action == text ||
	    (size_t)(action - text) >= sizeof(spec->name))
		refuse(text);
	*action++ = '\0';
	snprintf(spec->name, sizeof(spec->name), "%s", text);
	if ((skip = strchr(action, '@')) != NULL) {
		*skip++ = '\0';
		if (*skip < '0' || *skip > '9')
			refuse(text);
		spec->skip = strtoul(skip, &end, 10);
		if (*end != '\0')
			refuse(text);
	}
	for (i = 0; i < ACTIONS; i++)
		if (strcmp(action, action_names[i]) == 0)
			break;
	if (i == ACTIONS)
		refuse(action);
	spec->action = (enum action)i;
	if (spec->action == ACTION_ESCAPE && outside == NULL)
		refuse(action);
}

static void
parse_specs(void)
{
	const char *env = getenv("MILLRACE_FAILPOINT");
	char *copy, *text, *rest;

	outside = getenv("MILLRACE_OUTSIDE");
	if (env == NULL || *env == '\0')
		return;
	if ((copy = strdup(env)) == NULL)
		abort();
	for (text = strtok_r(copy, ",", &rest); text != NULL;
	     text = strtok_r(NULL, ",", &rest))
		parse_spec(text);
	free(copy);
}

static void
try_outside(const char *name, int flags)
{
	char path[PATH_MAX];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", outside, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	log_warn("escape tried", "path", path, "outcome",
	    fd != -1 ? "opened" : strerror(errno));
	if (fd != -1)
		(void)close(fd);
}

static int
act(const struct spec *spec)
{

	log_warn("failpoint reached", "name", spec->name, "action",
	    action_names[spec->action]);
	switch (spec->action) {
	case ACTION_KILL:
		raise(SIGKILL);
		break;
	case ACTION_STOP:
		raise(SIGSTOP);
		break;
	case ACTION_SLEEP:
		sleep(SLEEP_SECONDS);
		break;
	case ACTION_ESCAPE:
		try_outside("read", O_RDONLY);
		try_outside("made", O_WRONLY | O_CREAT);
		break;
	default:
		return (1);
	}
	return (0);
}

int
failpoint_hit(const char *name)
{
	int i, failed = 0;

	pthread_once(&specs_once, parse_specs);
	for (i = 0; i < specs_count; i++)
		if (strcmp(specs[i].name, name) == 0 &&
		    atomic_fetch_add(&specs[i].passes, 1) == specs[i].skip)
			failed |= act(&specs[i]);
	return (failed);
}

#endif
