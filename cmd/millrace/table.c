/* table -- columns for people, JSON for programs. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "millrace.h"

#define COLUMNS_MOST 16
#define MISSING "\1"

void
table_text(struct table *t, const char *text)
{
	if (text == NULL)
		text = MISSING;
	buffer_add(&t->cells, text, strlen(text) + 1);
	t->filled++;
}

void
table_missing(struct table *t)
{
	table_text(t, NULL);
}

void
table_i64(struct table *t, int64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)n);
	table_text(t, text);
}

/* Terminals take controls for orders: U+0000 to 1F, 7F, and 80 to 9F, whose
 * UTF-8 is 0xc2 and themselves. */
static int
is_shown(const unsigned char *b, size_t left, unsigned char before)
{

	if (*b < ' ' || *b == 0x7f)
		return (0);
	if (*b == 0xc2)
		return (left > 1 && b[1] >= 0xa0);
	return (before != 0xc2 || *b >= 0xa0);
}

void
table_bytes(struct table *t, const void *bytes, size_t size, size_t most)
{
	const unsigned char *b = bytes;
	size_t i;

	for (i = 0; i < size && i < most; i++) {
		if (is_shown(b + i, size - i, i > 0 ? b[i - 1] : 0))
			buffer_add(&t->cells, b + i, 1);
		else
			buffer_addf(&t->cells, "\\x%02x", b[i]);
	}
	if (size > most)
		buffer_add_text(&t->cells, "...");
	buffer_add(&t->cells, "", 1);
	t->filled++;
}

static int
is_missing(const char *cell)
{
	return (strcmp(cell, MISSING) == 0);
}

/* A cell of a table: padded, numbers to the right. */
static void
print_cell(struct buffer *out, const struct table_column *column,
    const char *cell, int width, int is_last)
{
	if (is_missing(cell))
		cell = "-";
	if (column->is_number)
		buffer_addf(out, "%*s", width, cell);
	else if (is_last)
		buffer_add_text(out, cell);
	else
		buffer_addf(out, "%-*s", width, cell);
	buffer_add_text(out, is_last ? "\n" : "  ");
}

static void
widths_find(const struct table *t, int widths[COLUMNS_MOST])
{
	const char *cell = t->cells.data;
	int64_t i;
	int k, width;

	memset(widths, 0, COLUMNS_MOST * sizeof(*widths));
	for (k = 0; k < t->count; k++)
		widths[k] = (int)strlen(t->columns[k].name);
	for (i = 0; i < t->filled; i++, cell += strlen(cell) + 1) {
		k = (int)(i % t->count);
		width = (int)strlen(cell);
		if (width > widths[k])
			widths[k] = width;
	}
}

static void
print_columns(const struct table *t, struct buffer *out)
{
	const char *cell = t->cells.data;
	int widths[COLUMNS_MOST], k;
	char name[64];
	int64_t i;
	size_t n;

	widths_find(t, widths);
	for (k = 0; k < t->count; k++) {
		snprintf(name, sizeof(name), "%s", t->columns[k].name);
		for (n = 0; name[n] != '\0'; n++) {
			if (name[n] == '_')
				name[n] = ' ';
			else
				name[n] = (char)toupper((unsigned char)name[n]);
		}
		print_cell(out, &t->columns[k], name, widths[k],
		    k == t->count - 1);
	}
	for (i = 0; i < t->filled; i++, cell += strlen(cell) + 1) {
		k = (int)(i % t->count);
		print_cell(out, &t->columns[k], cell, widths[k],
		    k == t->count - 1);
	}
}

static void
print_json(const struct table *t, struct buffer *out)
{
	const char *cell = t->cells.data;
	struct json_writer w;
	int64_t i;
	int k;

	json_init(&w, out);
	json_array_open(&w);
	for (i = 0; i < t->filled; i++, cell += strlen(cell) + 1) {
		k = (int)(i % t->count);
		if (k == 0)
			json_object_open(&w);
		json_key(&w, t->columns[k].name);
		if (is_missing(cell))
			json_nil(&w);
		else if (t->columns[k].is_number)
			json_i64(&w, strtoll(cell, NULL, 10));
		else
			json_text(&w, cell);
		if (k == t->count - 1)
			json_object_close(&w);
	}
	json_array_close(&w);
	buffer_add_text(out, "\n");
}

int
table_print(struct table *t, int output, int status)
{
	struct buffer out = {0};

	if (t->cells.failed) {
		status = EXIT_UNKNOWN;
		fprintf(stderr, "millrace: out of memory\n");
	} else if (output == OUTPUT_JSON) {
		print_json(t, &out);
	} else if (t->filled > 0 || status != EXIT_UNKNOWN) {
		print_columns(t, &out);
	}
	buffer_free(&t->cells);
	return (command_print(&out, status));
}
