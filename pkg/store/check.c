#include <sys/stat.h>
#include <sys/vfs.h>

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "store/internal.h"

/* ---- the place ---------------------------------------------------------- */

/*
 * File systems whose locks or shared memory don't hold between hosts, or not
 * at all: SQLite's WAL needs both.  Numbers as in statfs(2) and the kernel's
 * sources.
 */
static const struct {
	unsigned long magic;
	const char *name;
} refused[] = {
    {0x6969, "NFS"},
    {0x517b, "SMB"},
    {0xff534d42, "CIFS"},
    {0xfe534d42, "SMB2"},
    {0x65735546, "FUSE"},
    {0x01021997, "9p"},
    {0x00c36400, "Ceph"},
    {0x5346414f, "AFS"},
    {0x6b414653, "AFS"},
    {0x73757245, "Coda"},
    {0x7461636f, "OCFS2"},
    {0x01161970, "GFS2"},
    {0x0bd00bd0, "Lustre"},
    {0x19830326, "BeeGFS"},
    {0x47504653, "GPFS"},
    {0x20030528, "OrangeFS"},
    {0x786f4256, "VirtualBox's shared folders"},
    {0xbacbacbc, "VMware's shared folders"},
    {0x7c7c6673, "Parallels' shared folders"},
};

const char *
store_refused_filesystem(unsigned long magic)
{
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (refused[i].magic == (magic & 0xffffffff))
			return (refused[i].name);
	return (NULL);
}

static int
check_folder(const char *folder, const char *path, struct mr_error *err)
{
	struct statfs fs;
	const char *name;

	if (access(folder, F_OK) != 0)
		return (mr_error_set(err, MR_FATAL,
		    "open %.150s: its folder: %s; make it with mkdir -p", path,
		    strerror(errno)));
	if (access(folder, W_OK | X_OK) != 0)
		return (mr_error_set(err, MR_FATAL,
		    "cannot write in the folder %.120s: %s%s", folder,
		    strerror(errno), store_place_advice(errno)));
	if (statfs(folder, &fs) != 0)
		return (mr_error_set(err, MR_FATAL, "open %s: statfs: %s", path,
		    strerror(errno)));
	name = store_refused_filesystem((unsigned long)fs.f_type);
	if (name != NULL)
		return (mr_error_set(err, MR_FATAL,
		    "open %.100s: its folder is on "
		    "%s, where SQLite's locks don't hold: use a local disk",
		    path, name));
	return (0);
}

static int
is_link(const char *path)
{
	struct stat file;

	return (lstat(path, &file) == 0 && S_ISLNK(file.st_mode));
}

char *
store_real_path(const char *path, struct mr_error *err)
{
	char *real = NULL;

	/* One that leads nowhere stays, for who opens it to refuse. */
	if (is_link(path))
		real = realpath(path, NULL);
	if (real == NULL)
		real = strdup(path);
	if (real == NULL)
		mr_error_set(err, MR_RETRY, "open %s: out of memory", path);
	return (real);
}

int
store_check_names(const char *path, struct mr_error *err)
{
	struct stat file;

	if (stat(path, &file) != 0 || file.st_nlink <= 1)
		return (0);
	return (mr_error_set(err, MR_FATAL,
	    "open %.120s: the file has %lu names (hard links), and by each of "
	    "them a service could write it: leave one (find -samefile)",
	    path, (unsigned long)file.st_nlink));
}

/* A link may lead to another folder: that one counts. */
int
store_check_place(const char *path, struct mr_error *err)
{
	char *target, *copy;
	struct stat file;
	int rc;

	if (stat(path, &file) == 0 && !S_ISREG(file.st_mode))
		return (mr_error_set(err, MR_FATAL,
		    "open %s: not a regular "
		    "file",
		    path));
	/* SQLite makes no file where a link leads to. */
	if (is_link(path) && access(path, F_OK) != 0)
		return (mr_error_set(err, MR_FATAL,
		    "open %s: a link to what isn't there: %s", path,
		    strerror(errno)));
	target = realpath(path, NULL);
	copy = strdup(target != NULL ? target : path);
	free(target);
	if (copy == NULL)
		return (mr_error_set(err, MR_RETRY, "open %s: out of memory",
		    path));
	rc = check_folder(dirname(copy), path, err);
	free(copy);
	return (rc);
}

int
store_give(int fd, const char *path)
{
	struct stat owner, file;
	char *copy;
	int rc;

	if (geteuid() != 0)
		return (0);
	if ((rc = stat(path, &owner)) != 0 && errno == ENOENT) {
		if ((copy = strdup(path)) == NULL)
			return (-1);
		rc = stat(dirname(copy), &owner);
		free(copy);
	}
	if (rc != 0 || fstat(fd, &file) != 0)
		return (-1);
	/* Without CAP_CHOWN not even to whom it belongs already. */
	if (file.st_uid == owner.st_uid && file.st_gid == owner.st_gid)
		return (0);
	return (fchown(fd, owner.st_uid, owner.st_gid));
}

/* ---- the schema --------------------------------------------------------- */

/* The next word of SQL, in lower case; past strings, names and comments. */
static const char *
next_word(const char *p, char word[16])
{
	size_t n = 0;
	char close;

	for (; *p != '\0'; p++) {
		if (p[0] == '-' && p[1] == '-') {
			p += strcspn(p, "\n");
		} else if (p[0] == '/' && p[1] == '*') {
			const char *end = strstr(p + 2, "*/");

			p = end != NULL ? end + 1 : p + strlen(p) - 1;
		} else if (strchr("'\"`[", *p) != NULL) {
			close = (char)(*p == '[' ? ']' : *p);
			p += 1 + strcspn(p + 1, (char[]){close, '\0'});
		} else if (isalpha((unsigned char)*p) || *p == '_') {
			break;
		}
		if (*p == '\0')
			break;
	}
	for (; isalnum((unsigned char)*p) || *p == '_'; p++)
		if (n < 15)
			word[n++] = (char)tolower((unsigned char)*p);
	word[n] = '\0';
	return (p);
}

int
store_defers(const char *sql)
{
	char word[16], last[16] = "";
	const char *p = sql;

	for (;;) {
		p = next_word(p, word);
		if (word[0] == '\0')
			return (0);
		if (strcmp(last, "initially") == 0 &&
		    strcmp(word, "deferred") == 0)
			return (1);
		memcpy(last, word, sizeof(last));
	}
}

static const char sql_tables[] =
    "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"
    " AND sql IS NOT NULL";

/*
 * Ordinary tables without a primary key, or with one that may be NULL.  An
 * INTEGER PRIMARY KEY is the rowid, which never is.
 */
static const char sql_keyless[] =
    "SELECT l.name FROM pragma_table_list AS l"
    " WHERE l.schema = 'main' AND l.type = 'table'"
    " AND l.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    " AND (NOT EXISTS (SELECT 1 FROM pragma_table_info(l.name) WHERE pk > 0)"
    "  OR EXISTS (SELECT 1 FROM pragma_table_info(l.name) AS i"
    "   WHERE i.pk > 0 AND NOT i.\"notnull\""
    "   AND NOT (upper(i.type) = 'INTEGER' AND l.wr = 0"
    "    AND (SELECT count(*) FROM pragma_table_info(l.name)"
    "     WHERE pk > 0) = 1)))"
    " LIMIT 1";

static int
check_deferred(struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int rc, bad = 0;

	if ((rows = store_query_values(st, err, sql_tables, NULL, 0)) == NULL)
		return (-1);
	while (!bad && (rc = store_next(rows, err)) == 1) {
		if (!store_defers(store_get_text(rows, 1)))
			continue;
		bad = 1;
		rc = mr_error_set(err, MR_FATAL,
		    "%.40s: table %.64s has a "
		    "constraint INITIALLY DEFERRED: make it immediate, so that "
		    "a commit can't fail for it",
		    st->path, store_get_text(rows, 0));
	}
	store_rows_done(rows);
	return (rc);
}

int
store_check_schema(struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int rc;

	if (check_deferred(st, err) != 0)
		return (-1);
	if ((rows = store_query_values(st, err, sql_keyless, NULL, 0)) == NULL)
		return (-1);
	if ((rc = store_next(rows, err)) == 1)
		rc = mr_error_set(err, MR_FATAL,
		    "%.80s: table %.64s has no NOT "
		    "NULL primary key: declare one",
		    st->path, store_get_text(rows, 0));
	store_rows_done(rows);
	return (rc);
}

static const char sql_quick_check[] = "PRAGMA quick_check(1)";

int
store_check_judge(const char *text)
{
	static const char before[] = "error code=";
	const char *code;
	long rc;

	if (text == NULL || text[0] == '\0')
		return (SQLITE_NOMEM);
	if (strcmp(text, "ok") == 0)
		return (SQLITE_OK);
	code = strstr(text, before);
	rc = code != NULL ? strtol(code + strlen(before), NULL, 10) : 0;
	return (rc == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM ?
		SQLITE_NOMEM :
		SQLITE_CORRUPT);
}

int
store_check_damage(struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	const char *text;
	int rc, judged;

	if ((rows = store_query_values(st, err, sql_quick_check, NULL, 0)) ==
	    NULL)
		return (-1);
	if ((rc = store_next(rows, err)) == 1) {
		text = store_get_text(rows, 0);
		if ((judged = store_check_judge(text)) == SQLITE_NOMEM)
			rc = store_fail(st, err, judged, "check");
		else if (judged != SQLITE_OK)
			rc = mr_error_set(err, MR_FATAL,
			    "%.100s is damaged (%.60s): put "
			    "a backup back with millrace state restore",
			    st->path, text);
	}
	store_rows_done(rows);
	return (rc == 1 ? 0 : -1);
}
