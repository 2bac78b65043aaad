/*
 * replay -- run a fuzz target over its corpus, without libFuzzer.
 *
 *	fuzz_<name> [FILE...]
 *
 * Without arguments the files are those of tests/fuzz/corpus/<name>, from the
 * root of the source; each is also replayed cut short at every byte, and with
 * every byte replaced in turn, as far as CUTS_MOST goes.  Reports as cmocka
 * would (TAP), one test a file; what doesn't hold ends the process, after the
 * name of the file that it was.
 */
#include <dirent.h>
#include <stdio.h>

#include "fuzz.h"

#define FILE_MOST ((size_t)1 << 20)
#define CUTS_MOST 192 /* bytes of a file that are cut and changed */

static size_t
read_file(const char *path, uint8_t *bytes)
{
	FILE *f = fopen(path, "rb");
	size_t n;

	if (f == NULL) {
		printf("Bail out! can't open %s\n", path);
		exit(EXIT_FAILURE);
	}
	n = fread(bytes, 1, FILE_MOST, f);
	if (ferror(f) || n == FILE_MOST) {
		printf("Bail out! can't read %s whole\n", path);
		exit(EXIT_FAILURE);
	}
	fclose(f);
	return (n);
}

/* In memory of just that size, so that a sanitizer sees a read past it. */
static void
run_exactly(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	assert(copy != NULL);
	if (size > 0)
		memcpy(copy, bytes, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void
replay(const char *path, uint8_t *bytes)
{
	static const uint8_t others[] = {0x00, 0xff, '"', '9'};
	size_t size = read_file(path, bytes), i, most;
	uint8_t was;

	/* Seen when it is the last that is. */
	fprintf(stderr, "# %s\n", path);
	run_exactly(bytes, size);
	most = size < CUTS_MOST ? size : CUTS_MOST;
	for (i = 0; i < most; i++) {
		run_exactly(bytes, i);
		was = bytes[i];
		bytes[i] = others[i % sizeof(others)];
		run_exactly(bytes, size);
		bytes[i] = was;
	}
}

static int
is_visible(const struct dirent *entry)
{

	return (entry->d_name[0] != '.');
}

int
main(int argc, char **argv)
{
	struct dirent **entries = NULL;
	const char *name;
	char folder[256], path[1024];
	uint8_t *bytes;
	int i, count = argc - 1;

	name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 :
					       argv[0];
	name += strncmp(name, "fuzz_", 5) == 0 ? 5 : 0;
	snprintf(folder, sizeof(folder), "tests/fuzz/corpus/%s", name);
	if (argc == 1)
		count = scandir(folder, &entries, is_visible, alphasort);
	if (count < 1) {
		printf("Bail out! no files in %s\n", folder);
		return (EXIT_FAILURE);
	}
	bytes = malloc(FILE_MOST);
	assert(bytes != NULL);
	printf("1..%d\n", count);
	for (i = 0; i < count; i++) {
		if (argc == 1) {
			snprintf(path, sizeof(path), "%s/%s", folder,
			    entries[i]->d_name);
			free(entries[i]);
		}
		replay(argc == 1 ? path : argv[i + 1], bytes);
		printf("ok %d - %s\n", i + 1, argc == 1 ? path : argv[i + 1]);
		fflush(stdout);
	}
	free(entries);
	free(bytes);
	return (EXIT_SUCCESS);
}
