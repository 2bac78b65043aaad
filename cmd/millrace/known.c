#include <string.h>

#include "migrations.h"

#include "known.h"

static const char sql_service[] = "SELECT service FROM store_identity";

static const struct {
	const char *service;
	const struct store_migration *steps;
} tables[] = {
#define TABLE(name, table) {name, table},
    MIGRATIONS_EACH(TABLE)
#undef TABLE
};

/* NULL: it isn't one of the shipped services. */
static const struct store_migration *
steps_of(const char *service)
{
	size_t i;

	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (strcmp(tables[i].service, service) == 0)
			return (tables[i].steps);
	return (NULL);
}

static int
check(struct store *st, struct mr_error *err)
{
	char service[64] = "";

	if (store_find_text(st, err, service, sizeof(service), sql_service) ==
	    -1)
		return (-1);
	return (store_check_newer(st, migrations_core, steps_of(service), err));
}

int
known_check_file(const char *path, struct mr_error *err)
{
	struct store *st;
	int status;

	if ((st = store_open_reader(path, 0, err)) == NULL)
		return (-1);
	status = check(st, err);
	store_close(st);
	return (status);
}

/* A writer takes the log in and says that the file is closed, even if it has
 * nothing to write: not in a file that isn't understood. */
struct store *
known_open(const char *path, struct mr_error *err)
{

	if (known_check_file(path, err) == -1)
		return (NULL);
	return (store_open_alone(path, err));
}
