/*
 * JSON of every malformed kind, given to each payload's decoder and to the
 * body of a request: each is refused as the sender's fault, and none of them
 * harms.  Whatever a table here has is made anew for every field of every
 * subject.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buffer.h"
#include "event/event.h"
#include "web/web_internal.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FIELDS_MOST 7
#define NO_FIELD (-1)
#define ID                                                                   \
	{                                                                    \
		"order_id", TEXT, "\"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\"" \
	}
#define ITEM                               \
	{                                  \
		"item", TEXT, "\"Laptop\"" \
	}
#define QUANTITY                       \
	{                              \
		"quantity", WHOLE, "3" \
	}
#define TS                                      \
	{                                       \
		"ts_ms", WHOLE, "1795226820123" \
	}

/* ---- what takes JSON ---------------------------------------------------- */

enum kind { TEXT, TEXT_IF_THERE, WHOLE, PRICE, DURATION, DECIMAL };

struct subject {
	const char *name; /* the event's type */
	int (*take)(const struct subject *s, const void *value, size_t size,
	    char why[MR_ERROR_SIZE]);
	struct {
		const char *name;
		enum kind kind;
		const char *good;
	} fields[FIELDS_MOST];
};

/* 0 if it was taken; 1 if it was refused, with the message that was given. */
static int
refusal(int rc, const struct mr_error *err, char why[MR_ERROR_SIZE])
{

	if (rc == 0)
		return (0);
	assert_int_equal(rc, -1);
	assert_int_equal(err->kind, MR_REJECT);
	assert_true(err->message[0] != '\0');
	memcpy(why, err->message, MR_ERROR_SIZE);
	return (1);
}

static int
take_order(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	struct mr_error err = {MR_OK, ""};
	struct order_event event;

	return (refusal(order_event_decode(s->name, value, size, &event, &err),
	    &err, why));
}

static int
take_inventory(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	struct mr_error err = {MR_OK, ""};
	struct inventory_event event;

	return (
	    refusal(inventory_event_decode(s->name, value, size, &event, &err),
		&err, why));
}

static int
take_price(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	struct mr_error err = {MR_OK, ""};
	struct price_event event;

	(void)s;
	return (
	    refusal(price_event_decode(value, size, &event, &err), &err, why));
}

static int
take_user(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	struct mr_error err = {MR_OK, ""};
	struct user_event event;

	(void)s;
	return (
	    refusal(user_event_decode(value, size, &event, &err), &err, why));
}

static int
take_call(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	struct mr_error err = {MR_OK, ""};
	struct call_event event;

	(void)s;
	return (
	    refusal(call_event_decode(value, size, &event, &err), &err, why));
}

static int
take_log(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	struct mr_error err = {MR_OK, ""};
	struct log_event event;

	(void)s;
	return (
	    refusal(log_event_decode(value, size, &event, &err), &err, why));
}

static int
take_metric(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	struct mr_error err = {MR_OK, ""};
	struct metric_event event;

	(void)s;
	return (
	    refusal(metric_event_decode(value, size, &event, &err), &err, why));
}

/* The problem document that a refusal is; what it says of the fields. */
static void
read_problem(const struct web_response *res, char why[MR_ERROR_SIZE])
{
	const json_t *errors;
	json_error_t at;
	json_t *root = json_loadb(res->body.data, res->body.length,
	    JSON_REJECT_DUPLICATES, &at);

	assert_true(res->status == 400 || res->status == 422);
	assert_string_equal(res->content_type, "application/problem+json");
	assert_non_null(root);
	assert_int_equal(json_integer_value(json_object_get(root, "status")),
	    res->status);
	assert_true(
	    (size_t)snprintf(why, MR_ERROR_SIZE, "%s",
		json_string_value(json_object_get(root, "detail"))) > 0);
	errors = json_object_get(root, "errors");
	assert_true(res->status == 422 || errors == NULL);
	if (errors != NULL)
		snprintf(why, MR_ERROR_SIZE, "%s: %s",
		    json_string_value(
			json_object_get(json_array_get(errors, 0), "field")),
		    json_string_value(
			json_object_get(json_array_get(errors, 0), "message")));
	json_decref(root);
}

static int
take_body(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	char item[EVENT_ITEM_SIZE], *body = malloc(size + 1);
	int64_t quantity = 0;
	const struct web_field fields[] = {
	    {"item", WEB_FIELD_TEXT, item, sizeof(item), 0, event_check_item, 0,
		0},
	    {"quantity", WEB_FIELD_I64, &quantity, 0, 0, NULL, 1,
		EVENT_QUANTITY_MOST},
	    {.name = NULL},
	};
	struct web_request req = {.content_type = "application/json",
	    .body_size = size};
	struct web_response res = {.status = 200};
	int rc;

	(void)s;
	assert_non_null(body);
	if (size > 0)
		memcpy(body, value, size);
	body[size] = '\0';
	req.body = body;
	rc = web_read_json(&req, &res, fields);
	if (rc == -1)
		read_problem(&res, why);
	else
		assert_int_equal(res.status, 200);
	buffer_free(&res.body);
	free(body);
	return (rc == 0 ? 0 : 1);
}

static const struct subject subjects[] = {
    {"order.created", take_order, {ID, ITEM, QUANTITY, TS}},
    {"order.cancelled", take_order, {ID, ITEM, QUANTITY, TS}},
    {"inventory.reserved", take_inventory, {ID, ITEM, QUANTITY, TS}},
    {"inventory.rejected", take_inventory,
	{ID, ITEM, QUANTITY, {"reason", TEXT, "\"none left\""}, TS}},
    {"inventory.released", take_inventory, {ID, ITEM, QUANTITY, TS}},
    {"inventory.cancelled", take_inventory, {ID, ITEM, QUANTITY, TS}},
    {"inventory.adjusted", take_inventory,
	{ITEM, {"delta", WHOLE, "-5"}, {"on_hand", WHOLE, "7"}, TS}},
    {"price", take_price,
	{{"symbol", TEXT, "\"ACME\""}, {"price", PRICE, "187.32"}, TS}},
    {"user", take_user,
	{{"event_id", TEXT, "\"1-7\""}, {"user_id", TEXT, "\"user-3\""},
	    {"event", TEXT, "\"purchase\""}, {"page", TEXT, "\"/checkout\""},
	    {"amount_minor", WHOLE, "4999"}, {"currency", TEXT, "\"EUR\""},
	    TS}},
    {"call", take_call,
	{{"call_id", TEXT, "\"1-7\""}, {"caller", TEXT, "\"+49301\""},
	    {"callee", TEXT, "\"agent-3\""},
	    {"started_ms", WHOLE, "1795226820123"},
	    {"duration_s", DURATION, "12.345"}}},
    {"log", take_log,
	{{"service", TEXT, "\"orders\""}, {"level", TEXT, "\"error\""},
	    {"message", TEXT, "\"disk full\""},
	    {"host", TEXT_IF_THERE, "\"web-1\""},
	    {"request_id", TEXT_IF_THERE, "\"r-1\""},
	    {"stack", TEXT_IF_THERE, "\"main:7\""}, TS}},
    {"metric", take_metric,
	{{"host", TEXT, "\"web-1\""}, {"metric", TEXT, "\"cpu_percent\""},
	    {"value", DECIMAL, "97.25"}, TS}},
    {"body", take_body, {ITEM, QUANTITY}},
};

/* ---- documents ---------------------------------------------------------- */

/* A good document, but for what ${field} has; NULL: that one is left out. */
static void
write_document(const struct subject *s, int field, const char *value,
    size_t size, struct buffer *out)
{
	const char *comma = "";
	int i;

	buffer_clear(out);
	buffer_add_text(out, "{");
	for (i = 0; i < FIELDS_MOST && s->fields[i].name != NULL; i++) {
		if (i == field && value == NULL)
			continue;
		buffer_addf(out, "%s\"%s\":", comma, s->fields[i].name);
		if (i == field)
			buffer_add(out, value, size);
		else
			buffer_add_text(out, s->fields[i].good);
		comma = ",";
	}
	buffer_add_text(out, "}");
	assert_false(out->failed);
}

/* From a copy of exactly the size: sanitizers see what reads past it. */
static int
take(const struct subject *s, const void *value, size_t size,
    char why[MR_ERROR_SIZE])
{
	void *copy = malloc(size > 0 ? size : 1);
	int refused;

	assert_non_null(copy);
	if (size > 0)
		memcpy(copy, value, size);
	why[0] = '\0';
	refused = s->take(s, copy, size, why);
	free(copy);
	return (refused);
}

static void
expect_refused(const struct subject *s, const void *value, size_t size)
{
	char why[MR_ERROR_SIZE];

	if (!take(s, value, size, why))
		fail_msg("%s took %.*s", s->name, (int)size,
		    (const char *)value);
}

/* A text as a field's value: refused, by a message that names the field. */
static void
expect_field_refused(const struct subject *s, int field, const char *value)
{
	struct buffer doc = {0};
	char why[MR_ERROR_SIZE];
	const char *name = s->fields[field].name;

	write_document(s, field, value, value != NULL ? strlen(value) : 0,
	    &doc);
	if (!take(s, doc.data, doc.length, why))
		fail_msg("%s took %s", s->name, doc.data);
	if (strncmp(why, name, strlen(name)) != 0)
		fail_msg("%s, %s: \"%s\" doesn't name it", s->name, doc.data,
		    why);
	buffer_free(&doc);
}

/* Every field of every subject once, with those of ${kinds} (bits). */
#define TEXTS (1 << TEXT | 1 << TEXT_IF_THERE)
#define NUMBERS (1 << WHOLE | 1 << PRICE | 1 << DURATION | 1 << DECIMAL)
#define ALL_FIELDS (TEXTS | NUMBERS)

static void
for_fields(int kinds,
    void (*check)(const struct subject *s, int field, const void *arg),
    const void *arg)
{
	size_t i;
	int field;

	for (i = 0; i < COUNT(subjects); i++)
		for (field = 0; field < FIELDS_MOST &&
		     subjects[i].fields[field].name != NULL;
		     field++)
			if (kinds & 1 << subjects[i].fields[field].kind)
				check(&subjects[i], field, arg);
}

/* ---- tests -------------------------------------------------------------- */

static void
whole_documents_are_taken(void **state)
{
	struct buffer doc = {0};
	char why[MR_ERROR_SIZE];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(subjects); i++) {
		write_document(&subjects[i], NO_FIELD, NULL, 0, &doc);
		if (take(&subjects[i], doc.data, doc.length, why))
			fail_msg("%s: %s", doc.data, why);
		buffer_add_text(&doc, " \t\r\n");
		assert_false(take(&subjects[i], doc.data, doc.length, why));
	}
	buffer_free(&doc);
}

static void
every_truncation_is_refused(void **state)
{
	struct buffer doc = {0};
	size_t i, size;

	(void)state;
	for (i = 0; i < COUNT(subjects); i++) {
		write_document(&subjects[i], NO_FIELD, NULL, 0, &doc);
		for (size = 0; size < doc.length; size++)
			expect_refused(&subjects[i], doc.data, size);
	}
	buffer_free(&doc);
}

static void
leave_out(const struct subject *s, int field, const void *arg)
{

	(void)arg;
	expect_field_refused(s, field, NULL);
}

static void
a_missing_field_is_named(void **state)
{

	(void)state;
	for_fields(ALL_FIELDS & ~(1 << TEXT_IF_THERE), leave_out, NULL);
}

static void
replace(const struct subject *s, int field, const void *arg)
{

	expect_field_refused(s, field, arg);
}

static void
a_field_of_another_type_is_named(void **state)
{
	static const struct {
		int kinds;
		const char *value;
	} cases[] = {
	    {ALL_FIELDS, "null"},
	    {ALL_FIELDS, "true"},
	    {ALL_FIELDS, "false"},
	    {ALL_FIELDS, "[]"},
	    {ALL_FIELDS, "{}"},
	    {ALL_FIELDS, "[1]"},
	    {ALL_FIELDS, "[\"Laptop\"]"},
	    {ALL_FIELDS, "{\"value\":1}"},
	    {TEXTS, "0"},
	    {TEXTS, "1.5"},
	    {TEXTS, "\"\""},
	    {TEXTS, "\"a\\u001fb\""},
	    {TEXTS, "\"a\\u0085b\""},
	    {NUMBERS, "\"1\""},
	    {NUMBERS, "\"\""},
	    {1 << WHOLE, "1.5"},
	    {1 << WHOLE, "1e-1"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++)
		for_fields(cases[i].kinds, replace, cases[i].value);
}

/* Any bytes as a field's value, or as more of the document: refused. */
struct bytes {
	const char *bytes;
	size_t size;
};
#define BYTES(text)                    \
	{                              \
		text, sizeof(text) - 1 \
	}

static void
replace_bytes(const struct subject *s, int field, const void *arg)
{
	const struct bytes *b = arg;
	struct buffer doc = {0};

	write_document(s, field, b->bytes, b->size, &doc);
	expect_refused(s, doc.data, doc.length);
	buffer_free(&doc);
}

static void
numbers_that_do_not_fit_are_refused(void **state)
{
	static char digits[400];
	static const struct bytes cases[] = {
	    BYTES("9223372036854775808"),
	    BYTES("-9223372036854775809"),
	    BYTES("9223372036854775807"),
	    BYTES("-9223372036854775808"),
	    BYTES("18446744073709551616"),
	    BYTES("1e30"),
	    BYTES("-1e30"),
	    BYTES("1e308"),
	    BYTES("1e309"),
	    BYTES("-1e309"),
	    BYTES("1e999999999999999999999"),
	    {digits, sizeof(digits)},
	};
	/* A call may be that short, and a metric that small. */
	static const struct bytes nearly_zero = BYTES(
	    "1e-999999999999999999999");
	size_t i;

	(void)state;
	memset(digits, '9', sizeof(digits));
	for (i = 0; i < COUNT(cases); i++)
		for_fields(NUMBERS, replace_bytes, &cases[i]);
	for_fields(1 << WHOLE | 1 << PRICE, replace_bytes, &nearly_zero);
}

static void
what_is_no_json_number_is_refused(void **state)
{
	static const struct bytes cases[] = {
	    BYTES("01"), BYTES("+1"), BYTES(".5"), BYTES("5."), BYTES("1e"),
	    BYTES("1e+"), BYTES("--1"), BYTES("-"), BYTES("0x10"),
	    BYTES("1_000"), BYTES("1,000"), BYTES("1 000"), BYTES("NaN"),
	    BYTES("Infinity"), BYTES("-Infinity"), BYTES("nan"), BYTES("1n"),
	    BYTES("1.0.0"), BYTES("\xd9\xa1"), /* an Arabic one */
	    BYTES("\xef\xbc\x91"), /* a wide one */
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++)
		for_fields(ALL_FIELDS, replace_bytes, &cases[i]);
}

static void
texts_that_are_no_utf8_are_refused(void **state)
{
	static const struct bytes cases[] = {
	    BYTES("\"\x80\""),
	    BYTES("\"\xbf\""),
	    BYTES("\"\xc0\xaf\""),
	    BYTES("\"\xc1\xbf\""),
	    BYTES("\"\xc3\""),
	    BYTES("\"\xc3(\""),
	    BYTES("\"\xe0\x80\xaf\""),
	    BYTES("\"\xe2\x82\""),
	    BYTES("\"\xed\xa0\x80\""),
	    BYTES("\"\xed\xbf\xbf\""),
	    BYTES("\"\xed\xa0\xbd\xed\xb8\x80\""),
	    BYTES("\"\xf0\x80\x80\xaf\""),
	    BYTES("\"\xf0\x9f\x98\""),
	    BYTES("\"\xf4\x90\x80\x80\""),
	    BYTES("\"\xf5\x80\x80\x80\""),
	    BYTES("\"\xf8\x88\x80\x80\x80\""),
	    BYTES("\"\xfe\""),
	    BYTES("\"\xff\""),
	    BYTES("\"caf\xe9\""),
	    BYTES("1,\"\xff\":1"),
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++)
		for_fields(ALL_FIELDS, replace_bytes, &cases[i]);
}

static void
escapes_that_mean_no_character_are_refused(void **state)
{
	static const struct bytes cases[] = {
	    BYTES("\"\\ud800\""),
	    BYTES("\"\\udbff\""),
	    BYTES("\"\\udc00\""),
	    BYTES("\"\\udfff\""),
	    BYTES("\"\\ud800\\ud800\""),
	    BYTES("\"\\udc00\\ud800\""),
	    BYTES("\"\\ud83dx\""),
	    BYTES("\"\\ud83d\\n\""),
	    BYTES("\"\\ud83d\\u0041\""),
	    BYTES("\"\\ud83d\xed\xb8\x80\""),
	    BYTES("\"\\u\""),
	    BYTES("\"\\u12\""),
	    BYTES("\"\\u12g4\""),
	    BYTES("\"\\U0001F600\""),
	    BYTES("\"\\x41\""),
	    BYTES("\"\\'\""),
	    BYTES("\"\\0\""),
	    BYTES("\"\\\""),
	    BYTES("\"\\\n\""),
	    BYTES("1,\"\\ud800\":1"),
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++)
		for_fields(ALL_FIELDS, replace_bytes, &cases[i]);
}

static void
nuls_and_bare_controls_are_refused(void **state)
{
	static const struct bytes cases[] = {
	    BYTES("\"a\\u0000b\""),
	    BYTES("\"\\u0000\""),
	    BYTES("\"a\0b\""),
	    BYTES("\"\0\""),
	    BYTES("\0"),
	    BYTES("1\0"),
	    BYTES("\0\"a\""),
	    BYTES("1,\"a\\u0000\":1"),
	    BYTES("1,\"a\0\":1"),
	    BYTES("\"a\nb\""),
	    BYTES("\"a\tb\""),
	    BYTES("\"\x01\""),
	    BYTES("\"a\\u007fb\""),
	    BYTES("\x0b\"a\""),
	    BYTES("\x0c\"a\""),
	    BYTES("\xc2\xa0\"a\""),
	    BYTES("\xe2\x80\xa8\"a\""),
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++)
		for_fields(ALL_FIELDS, replace_bytes, &cases[i]);
}

/* Once more behind all others, by the name as it is or with an escape. */
static void
repeat(const struct subject *s, int field, const void *arg)
{
	const int *escaped = arg;
	const char *name = s->fields[field].name;
	struct buffer doc = {0};

	write_document(s, NO_FIELD, NULL, 0, &doc);
	doc.length--;
	if (*escaped)
		buffer_addf(&doc, ",\"\\u%04x%s\":%s}", (unsigned int)name[0],
		    name + 1, s->fields[field].good);
	else
		buffer_addf(&doc, ",\"%s\":%s}", name, s->fields[field].good);
	expect_refused(s, doc.data, doc.length);
	buffer_free(&doc);
}

static void
a_field_given_twice_is_refused_however_it_is_spelt(void **state)
{
	static const int cases[] = {0, 1};

	(void)state;
	for_fields(ALL_FIELDS, repeat, &cases[0]);
	for_fields(ALL_FIELDS, repeat, &cases[1]);
}

static void
deep_nesting_is_refused_before_it_is_parsed(void **state)
{
	static const struct {
		const char *open, *close;
	} cases[] = {
	    {"[", "]"},
	    {"{\"a\":", "}"},
	    {"[{\"a\":", "}]"},
	    {"[", ""},
	    {"{\"a\":", ""},
	    {"[\"]\",", "]"},
	    {"[\"\\\"]\",", "]"},
	};
	static const int depths[] = {33, 1000, 9000};
	struct buffer value = {0};
	struct bytes b;
	size_t i, d;
	int n;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		for (d = 0; d < COUNT(depths); d++) {
			buffer_clear(&value);
			for (n = 0; n < depths[d]; n++)
				buffer_add_text(&value, cases[i].open);
			buffer_add_text(&value, "1");
			for (n = 0; n < depths[d]; n++)
				buffer_add_text(&value, cases[i].close);
			assert_false(value.failed);
			b = (struct bytes){value.data, value.length};
			for_fields(ALL_FIELDS, replace_bytes, &b);
		}
	}
	buffer_free(&value);
}

/* What is put around a good document, or in the place of one. */
static void
a_document_with_something_around_it_is_refused(void **state)
{
	static const struct {
		struct bytes before, after;
	} cases[] = {
	    {BYTES("\xef\xbb\xbf"), BYTES("")}, /* a byte order mark */
	    {BYTES("\xff\xfe"), BYTES("")},
	    {BYTES("\0"), BYTES("")},
	    {BYTES(""), BYTES("\0")},
	    {BYTES(""), BYTES("\xef\xbb\xbf")},
	    {BYTES(""), BYTES("}")},
	    {BYTES(""), BYTES("]")},
	    {BYTES(""), BYTES(",")},
	    {BYTES(""), BYTES(";")},
	    {BYTES(""), BYTES("x")},
	    {BYTES(""), BYTES("{}")},
	    {BYTES(""), BYTES("\n{}")},
	    {BYTES(""), BYTES(" null")},
	    {BYTES(""), BYTES("\"")},
	    {BYTES(""), BYTES("\xff")},
	    {BYTES("["), BYTES("]")},
	    {BYTES("{\"a\":"), BYTES("}")},
	    {BYTES("{"), BYTES("}")},
	    {BYTES("("), BYTES(")")},
	    {BYTES(")]}',\n"), BYTES("")},
	    {BYTES("x="), BYTES("")},
	    {BYTES("\x1e"), BYTES("\n")}, /* RFC 7464 */
	    {BYTES("/* c */"), BYTES("")},
	    {BYTES(""), BYTES("/* c */")},
	    {BYTES(""), BYTES("// c")},
	    {BYTES("# c\n"), BYTES("")},
	    {BYTES("<!-- c -->"), BYTES("")},
	};
	struct buffer doc = {0}, whole = {0};
	size_t i, c;

	(void)state;
	for (i = 0; i < COUNT(subjects); i++) {
		write_document(&subjects[i], NO_FIELD, NULL, 0, &doc);
		for (c = 0; c < COUNT(cases); c++) {
			buffer_clear(&whole);
			buffer_add(&whole, cases[c].before.bytes,
			    cases[c].before.size);
			buffer_add(&whole, doc.data, doc.length);
			buffer_add(&whole, cases[c].after.bytes,
			    cases[c].after.size);
			expect_refused(&subjects[i], whole.data, whole.length);
		}
	}
	buffer_free(&doc);
	buffer_free(&whole);
}

static void
near_json_is_refused(void **state)
{
	static const struct bytes values[] = {
	    BYTES("'a'"),
	    BYTES("a"),
	    BYTES("`a`"),
	    BYTES("\"a"),
	    BYTES("a\""),
	    BYTES("\"a\"\"b\""),
	    BYTES("\"a\" + \"b\""),
	    BYTES("undefined"),
	    BYTES("None"),
	    BYTES("True"),
	    BYTES("NULL"),
	    BYTES("tru"),
	    BYTES(""),
	    BYTES(","),
	    BYTES("1,"),
	    BYTES("1,,\"b\":1"),
	    BYTES(":1"),
	    BYTES("1:1"),
	    BYTES("1,b:1"),
	    BYTES("1,'b':1"),
	    BYTES("1,1:1"),
	    BYTES("1,null:1"),
	    BYTES("1,\"b\""),
	    BYTES("1 \"b\":1"),
	    BYTES("1;\"b\":1"),
	    BYTES("1,\"b\"=1"),
	    BYTES("/* c */1"),
	    BYTES("1/* c */"),
	    BYTES("1 // c\n"),
	    BYTES("1 # c\n"),
	    BYTES("[1,]"),
	    BYTES("[,1]"),
	    BYTES("[1 2]"),
	    BYTES("{\"b\":1,}"),
	    BYTES("[1}"),
	    BYTES("{\"b\":1]"),
	    BYTES("new Date(1)"),
	    BYTES("$ref"),
	    BYTES("\\\"a\\\""),
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(values); i++)
		for_fields(ALL_FIELDS, replace_bytes, &values[i]);
}

static void
what_is_no_object_is_refused(void **state)
{
	static const struct bytes cases[] = {
	    BYTES(""), BYTES(" "), BYTES("\r\n\t"), BYTES("\0"), BYTES("{"),
	    BYTES("}"), BYTES("{}"), BYTES("[]"), BYTES("[{}]"), BYTES("null"),
	    BYTES("true"), BYTES("0"), BYTES("1.5"), BYTES("\"\""),
	    BYTES("\"{}\""), BYTES("item=Laptop&quantity=1"), BYTES("<order/>"),
	    BYTES("{\0\"\0a\0\"\0:\0001\0}\0"), /* UTF-16 */
	    BYTES("\x83\x01"), /* another format's bytes */
	    BYTES("\x00\x00\x00\x00\x01{}"), /* a schema's number first */
	};
	size_t i, c;

	(void)state;
	for (i = 0; i < COUNT(subjects); i++)
		for (c = 0; c < COUNT(cases); c++)
			expect_refused(&subjects[i], cases[c].bytes,
			    cases[c].size);
}

/* Not one of these may do harm; some of them still are documents. */
static void
every_byte_replaced_by_every_other_is_survived(void **state)
{
	struct buffer doc = {0};
	char why[MR_ERROR_SIZE];
	size_t i, at;
	char was;
	int c;

	(void)state;
	for (i = 0; i < COUNT(subjects); i++) {
		write_document(&subjects[i], NO_FIELD, NULL, 0, &doc);
		for (at = 0; at < doc.length; at++) {
			was = doc.data[at];
			for (c = 0; c < 256; c++) {
				doc.data[at] = (char)c;
				(void)take(&subjects[i], doc.data, doc.length,
				    why);
			}
			doc.data[at] = was;
		}
	}
	buffer_free(&doc);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(whole_documents_are_taken),
	    cmocka_unit_test(every_truncation_is_refused),
	    cmocka_unit_test(a_missing_field_is_named),
	    cmocka_unit_test(a_field_of_another_type_is_named),
	    cmocka_unit_test(numbers_that_do_not_fit_are_refused),
	    cmocka_unit_test(what_is_no_json_number_is_refused),
	    cmocka_unit_test(texts_that_are_no_utf8_are_refused),
	    cmocka_unit_test(escapes_that_mean_no_character_are_refused),
	    cmocka_unit_test(nuls_and_bare_controls_are_refused),
	    cmocka_unit_test(
		a_field_given_twice_is_refused_however_it_is_spelt),
	    cmocka_unit_test(deep_nesting_is_refused_before_it_is_parsed),
	    cmocka_unit_test(a_document_with_something_around_it_is_refused),
	    cmocka_unit_test(near_json_is_refused),
	    cmocka_unit_test(what_is_no_object_is_refused),
	    cmocka_unit_test(every_byte_replaced_by_every_other_is_survived),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
