#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "base/utf8.h"
#include "event/event.h"

/* The last millisecond of the year 9999. */
#define TS_MOST_MS INT64_C(253402300799999)

static const char *const order_types[] = {
    [ORDER_CREATED] = "order.created",
    [ORDER_CANCELLED] = "order.cancelled",
};
static const char *const inventory_types[] = {
    [INVENTORY_RESERVED] = "inventory.reserved",
    [INVENTORY_REJECTED] = "inventory.rejected",
    [INVENTORY_RELEASED] = "inventory.released",
    [INVENTORY_CANCELLED] = "inventory.cancelled",
    [INVENTORY_ADJUSTED] = "inventory.adjusted",
};
static const char *const log_levels[LOG_EVENT_LEVELS] = {
    [LOG_EVENT_DEBUG] = "debug",
    [LOG_EVENT_INFO] = "info",
    [LOG_EVENT_WARN] = "warn",
    [LOG_EVENT_ERROR] = "error",
    [LOG_EVENT_FATAL] = "fatal",
};
static const char *const user_kinds[USER_EVENT_KINDS] = {
    [USER_CLICK] = "click",
    [USER_PURCHASE] = "purchase",
    [USER_SIGNUP] = "signup",
};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

const char *
order_event_type_text(enum order_event_type type)
{

	return (order_types[type]);
}

const char *
inventory_event_type_text(enum inventory_event_type type)
{

	return (inventory_types[type]);
}

const char *
log_event_level_text(enum log_event_level level)
{

	return (log_levels[level]);
}

int
log_event_level_find(const char *text)
{
	int i;

	for (i = 0; i < LOG_EVENT_LEVELS; i++)
		if (strcmp(text, log_levels[i]) == 0)
			return (i);
	return (-1);
}

const char *
user_event_kind_text(enum user_event_kind kind)
{

	return (user_kinds[kind]);
}

static int
user_kind_find(const char *text)
{
	int i;

	for (i = 0; i < USER_EVENT_KINDS; i++)
		if (strcmp(text, user_kinds[i]) == 0)
			return (i);
	return (-1);
}

/* ---- Field rules ---- */

/* UTF-8 without C0 (but for those in ${allowed}), DEL and C1 controls. */
static int
is_clean_text(const char *text, size_t length, const char *allowed)
{
	unsigned char c;
	size_t n;

	for (; length > 0; text += n, length -= n) {
		c = (unsigned char)*text;
		if ((c < 0x20 && (c == 0 || strchr(allowed, c) == NULL)) ||
		    c == 0x7F)
			return (0);
		if ((n = utf8_length(text, length)) == 0)
			return (0);
		if (c == 0xC2 && (unsigned char)text[1] < 0xA0)
			return (0);
	}
	return (1);
}

static int
check_text(const char *text, size_t length, size_t most, struct mr_error *err)
{

	if (length < 1 || length > most || !is_clean_text(text, length, ""))
		return (mr_error_set(err, MR_REJECT,
		    "must be 1 to %zu bytes of UTF-8 without control "
		    "characters",
		    most));
	return (0);
}

/* The same with line breaks and tabs. */
static int
check_lines(const char *text, size_t length, size_t most, struct mr_error *err)
{

	if (length < 1 || length > most || !is_clean_text(text, length, "\n\t"))
		return (mr_error_set(err, MR_REJECT,
		    "must be 1 to %zu bytes of UTF-8 without control "
		    "characters but line feeds and tabs",
		    most));
	return (0);
}

static int
check_item(const char *text, size_t length, struct mr_error *err)
{

	return (check_text(text, length, EVENT_ITEM_SIZE - 1, err));
}

static int
is_dots(const char *text, size_t length)
{

	return (
	    (length == 1 || length == 2) && memcmp(text, "..", length) == 0);
}

int
event_check_item(const char *text, size_t length, struct mr_error *err)
{
	const char *end = text + length, *slash;

	if (check_item(text, length, err) != 0)
		return (-1);
	for (;; text = slash + 1) {
		if ((slash = memchr(text, '/', (size_t)(end - text))) == NULL)
			slash = end;
		if (is_dots(text, (size_t)(slash - text)))
			return (mr_error_set(err, MR_REJECT,
			    "must not be \".\" or \"..\", nor have one "
			    "between slashes: no URL leads there"));
		if (slash == end)
			return (0);
	}
}

int
event_check_symbol(const char *text, size_t length, struct mr_error *err)
{
	size_t i;

	for (i = 0; i < length && i < EVENT_SYMBOL_SIZE; i++)
		if (!(text[i] >= 'A' && text[i] <= 'Z') &&
		    !(text[i] >= '0' && text[i] <= '9') && text[i] != '.' &&
		    text[i] != '-')
			break;
	if (length < 1 || length > EVENT_SYMBOL_SIZE - 1 || i < length)
		return (mr_error_set(err, MR_REJECT,
		    "must be 1 to %d characters of A-Z, 0-9, . and -",
		    EVENT_SYMBOL_SIZE - 1));
	return (0);
}

static int
check_range(int64_t n, int64_t least, int64_t most, struct mr_error *err)
{

	if (n < least || n > most)
		return (mr_error_set(err, MR_REJECT,
		    "must be a whole number from %lld to %lld, is %lld",
		    (long long)least, (long long)most, (long long)n));
	return (0);
}

static int
check_order_id(const char *text, size_t length, struct mr_error *err)
{

	/* jansson ends its texts with a NUL, and refuses them inside. */
	if (length != ID_UUID_SIZE - 1 || !id_uuid_valid(text))
		return (mr_error_set(err, MR_REJECT,
		    "must be a UUID in lower case"));
	return (0);
}

static int
check_reason(const char *text, size_t length, struct mr_error *err)
{

	return (check_text(text, length, EVENT_REASON_SIZE - 1, err));
}

int
event_check_name(const char *text, size_t length, struct mr_error *err)
{

	return (check_text(text, length, EVENT_NAME_SIZE - 1, err));
}

static int
check_message(const char *text, size_t length, struct mr_error *err)
{

	return (check_lines(text, length, EVENT_MESSAGE_SIZE - 1, err));
}

static int
check_stack(const char *text, size_t length, struct mr_error *err)
{

	return (check_lines(text, length, EVENT_STACK_SIZE - 1, err));
}

static int
check_level(const char *text, size_t length, struct mr_error *err)
{

	(void)length;
	if (log_event_level_find(text) == -1)
		return (mr_error_set(err, MR_REJECT,
		    "must be debug, info, warn, error or fatal"));
	return (0);
}

static int
check_call_id(const char *text, size_t length, struct mr_error *err)
{

	return (check_text(text, length, EVENT_CALL_ID_SIZE - 1, err));
}

static int
check_party(const char *text, size_t length, struct mr_error *err)
{

	return (check_text(text, length, EVENT_PARTY_SIZE - 1, err));
}

static int
check_user_kind(const char *text, size_t length, struct mr_error *err)
{

	(void)length;
	if (user_kind_find(text) == -1)
		return (mr_error_set(err, MR_REJECT,
		    "must be click, purchase or signup"));
	return (0);
}

static int
check_page(const char *text, size_t length, struct mr_error *err)
{

	if (text[0] != '/')
		return (mr_error_set(err, MR_REJECT, "must begin with a /"));
	return (check_text(text, length, EVENT_PAGE_SIZE - 1, err));
}

static int
check_currency(const char *text, size_t length, struct mr_error *err)
{

	if (length != EVENT_CURRENCY_SIZE - 1 ||
	    strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != length)
		return (mr_error_set(err, MR_REJECT,
		    "must be three letters of A-Z"));
	return (0);
}

/* ---- Encoding ---- */

void
order_event_encode(const struct order_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	json_member_text(&w, "order_id", event->order_id);
	json_member_text(&w, "item", event->item);
	json_member_i64(&w, "quantity", event->quantity);
	json_member_i64(&w, "ts_ms", event->ts_ms);
	json_object_close(&w);
}

void
inventory_event_encode(const struct inventory_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	if (event->type == INVENTORY_ADJUSTED) {
		json_member_text(&w, "item", event->item);
		json_member_i64(&w, "delta", event->delta);
		json_member_i64(&w, "on_hand", event->on_hand);
	} else {
		json_member_text(&w, "order_id", event->order_id);
		json_member_text(&w, "item", event->item);
		json_member_i64(&w, "quantity", event->quantity);
		if (event->type == INVENTORY_REJECTED)
			json_member_text(&w, "reason", event->reason);
	}
	json_member_i64(&w, "ts_ms", event->ts_ms);
	json_object_close(&w);
}

void
price_event_encode(const struct price_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	json_member_text(&w, "symbol", event->symbol);
	json_key(&w, "price");
	json_decimal(&w, event->price_minor, 2);
	json_member_i64(&w, "ts_ms", event->ts_ms);
	json_object_close(&w);
}

void
log_event_encode(const struct log_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	json_member_text(&w, "service", event->service);
	json_member_text(&w, "level", log_levels[event->level]);
	json_member_text(&w, "message", event->message);
	if (event->host[0] != '\0')
		json_member_text(&w, "host", event->host);
	if (event->request_id[0] != '\0')
		json_member_text(&w, "request_id", event->request_id);
	if (event->stack[0] != '\0')
		json_member_text(&w, "stack", event->stack);
	json_member_i64(&w, "ts_ms", event->ts_ms);
	json_object_close(&w);
}

void
call_event_encode(const struct call_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	json_member_text(&w, "call_id", event->call_id);
	json_member_text(&w, "caller", event->caller);
	json_member_text(&w, "callee", event->callee);
	json_member_i64(&w, "started_ms", event->started_ms);
	json_key(&w, "duration_s");
	json_decimal(&w, event->duration_ms, 3);
	json_object_close(&w);
}

void
user_event_encode(const struct user_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	json_member_text(&w, "event_id", event->event_id);
	json_member_text(&w, "user_id", event->user_id);
	json_member_text(&w, "event", user_kinds[event->kind]);
	json_member_text(&w, "page", event->page);
	if (event->kind == USER_PURCHASE) {
		json_member_i64(&w, "amount_minor", event->amount_minor);
		json_member_text(&w, "currency", event->currency);
	}
	json_member_i64(&w, "ts_ms", event->ts_ms);
	json_object_close(&w);
}

void
metric_event_encode(const struct metric_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	json_member_text(&w, "host", event->host);
	json_member_text(&w, "metric", event->metric);
	json_key(&w, "value");
	json_decimal(&w, event->value_milli, 3);
	json_member_i64(&w, "ts_ms", event->ts_ms);
	json_object_close(&w);
}

static void
member_f64(struct json_writer *w, const char *name, double x)
{

	json_key(w, name);
	json_f64(w, x);
}

void
alert_event_encode(const struct alert_event *event, struct buffer *out)
{
	struct json_writer w;

	json_init(&w, out);
	json_object_open(&w);
	json_member_text(&w, "fingerprint", event->fingerprint);
	json_member_i64(&w, "alert_id", event->alert_id);
	json_member_text(&w, "rule", event->rule);
	json_member_text(&w, "kind", event->kind);
	json_member_text(&w, "severity", event->severity);
	if (event->summary[0] != '\0')
		json_member_text(&w, "summary", event->summary);
	json_member_text(&w, "state", event->state);
	if (event->reason[0] != '\0')
		json_member_text(&w, "reason", event->reason);
	if (event->service[0] != '\0') {
		json_member_text(&w, "service", event->service);
	} else {
		json_member_text(&w, "host", event->host);
		json_member_text(&w, "metric", event->metric);
	}
	member_f64(&w, "value", event->value);
	if (event->scored)
		member_f64(&w, "score", event->score);
	member_f64(&w, "bound", event->bound);
	json_member_i64(&w, "started_ms", event->started_ms);
	if (event->fired_ms != 0)
		json_member_i64(&w, "fired_ms", event->fired_ms);
	if (event->resolved_ms != 0)
		json_member_i64(&w, "resolved_ms", event->resolved_ms);
	json_member_i64(&w, "ts_ms", event->ts_ms);
	json_object_close(&w);
}

/* ---- Decoding ---- */

/* Whether brackets outside of texts nest no deeper than we allow. */
static int
is_shallow(const char *p, size_t size)
{
	const char *end = p + size;
	int depth = 0;

	for (; p < end; p++) {
		switch (*p) {
		case '{':
		case '[':
			if (++depth > EVENT_DEPTH_MOST)
				return (0);
			break;
		case '}':
		case ']':
			depth--;
			break;
		case '"':
			for (p++; p < end && *p != '"'; p++)
				if (*p == '\\')
					p++;
			break;
		default:
			break;
		}
	}
	return (1);
}

/* The object that a record's value is; to be let go of by json_decref. */
static json_t *
parse_object(const void *value, size_t size, struct mr_error *err)
{
	json_error_t why;
	json_t *root;
	int out_of_memory;

	if (value == NULL || size == 0) {
		mr_error_set(err, MR_REJECT, "value: is empty");
		return (NULL);
	}
	if (size > EVENT_VALUE_MOST_BYTES) {
		mr_error_set(err, MR_REJECT,
		    "value: must be at most %d bytes, is %zu",
		    EVENT_VALUE_MOST_BYTES, size);
		return (NULL);
	}
	/* jansson overlooks one that follows a number. */
	if (memchr(value, '\0', size) != NULL) {
		mr_error_set(err, MR_REJECT, "value: has a NUL");
		return (NULL);
	}
	if (!is_shallow(value, size)) {
		mr_error_set(err, MR_REJECT,
		    "value: nests deeper than %d levels", EVENT_DEPTH_MOST);
		return (NULL);
	}
	root = json_read(value, size, JSON_REJECT_DUPLICATES, &why,
	    &out_of_memory);
	if (out_of_memory) {
		mr_error_set(err, MR_RETRY,
		    "value: out of memory while parsing");
		return (NULL);
	}
	if (root == NULL) {
		mr_error_set(err, MR_REJECT, "value: is no JSON at byte %d: %s",
		    why.position, why.text);
		return (NULL);
	}
	if (!json_is_object(root)) {
		mr_error_set(err, MR_REJECT, "value: must be a JSON object");
		json_decref(root);
		return (NULL);
	}
	return (root);
}

/* What a field holds instead of what it must. */
static const char *
kind_of(const json_t *field)
{

	if (field == NULL)
		return ("missing");
	switch (json_typeof(field)) {
	case JSON_OBJECT:
		return ("an object");
	case JSON_ARRAY:
		return ("an array");
	case JSON_STRING:
		return ("text");
	case JSON_INTEGER:
		return ("a whole number");
	case JSON_REAL:
		return ("a number with a fraction or exponent");
	case JSON_NULL:
		return ("null");
	default:
		return ("a truth value");
	}
}

static int
get_i64(const json_t *root, const char *name, int64_t least, int64_t most,
    int64_t *out, struct mr_error *err)
{
	const json_t *field = json_object_get(root, name);

	if (!json_is_integer(field))
		return (mr_error_set(err, MR_REJECT,
		    "%s: must be a whole number from %lld to %lld, is %s", name,
		    (long long)least, (long long)most, kind_of(field)));
	*out = (int64_t)json_integer_value(field);
	if (check_range(*out, least, most, err))
		return (mr_error_wrap(err, "%s", name));
	return (0);
}

/* ${check} has to refuse what doesn't fit into ${out}. */
static int
get_text(const json_t *root, const char *name,
    int (*check)(const char *, size_t, struct mr_error *), char *out,
    struct mr_error *err)
{
	const json_t *field = json_object_get(root, name);
	const char *text;
	size_t length;

	if (!json_is_string(field))
		return (mr_error_set(err, MR_REJECT, "%s: must be text, is %s",
		    name, kind_of(field)));
	text = json_string_value(field);
	length = json_string_length(field);
	if (check(text, length, err))
		return (mr_error_wrap(err, "%s", name));
	memcpy(out, text, length + 1);
	return (0);
}

/* The same for a field that may be left out, ${out} being "" then. */
static int
get_text_if_there(const json_t *root, const char *name,
    int (*check)(const char *, size_t, struct mr_error *), char *out,
    struct mr_error *err)
{

	if (json_object_get(root, name) == NULL)
		return (0);
	return (get_text(root, name, check, out, err));
}

static int
get_ts(const json_t *root, int64_t *ts_ms, struct mr_error *err)
{

	return (get_i64(root, "ts_ms", 0, TS_MOST_MS, ts_ms, err));
}

/* The index of ${type} among ${types}, or -1. */
static int
find_type(const char *type, const char *const *types, int count,
    struct mr_error *err)
{
	int i;

	if (type == NULL)
		return (mr_error_set(err, MR_REJECT, "ce_type: is missing"));
	for (i = 0; i < count; i++)
		if (strcmp(type, types[i]) == 0)
			return (i);
	return (mr_error_set(err, MR_REJECT,
	    "ce_type: must be %s, or another of this topic, is \"%.64s\"",
	    types[0], type));
}

int
event_check_type(const char *type, const char *only, struct mr_error *err)
{

	if (type == NULL || strcmp(type, only) == 0)
		return (0);
	return (mr_error_set(err, MR_REJECT,
	    "ce_type: must be %s, is \"%.64s\"", only, type));
}

int
event_check_ahead(const char *name, int64_t event_ms, int64_t record_ms,
    int64_t most_ms, const char *setting, struct mr_error *err)
{
	const char *what = "the record's own time";

	if (record_ms == -1) {
		record_ms = clock_wall_ms();
		what = "now, and the record has no time";
	}
	/* Foreign records may have any time, and events have bounded ones. */
	if (event_ms - most_ms <= record_ms)
		return (0);
	return (mr_error_set(err, MR_REJECT,
	    "%s: is more than %lld s%s%s%s ahead of %s", name,
	    (long long)most_ms / 1000, setting != NULL ? " (" : "",
	    setting != NULL ? setting : "", setting != NULL ? ")" : "", what));
}

int
order_event_decode(const char *type, const void *value, size_t size,
    struct order_event *event, struct mr_error *err)
{
	json_t *root;
	int found, status = -1;

	if ((found = find_type(type, order_types, COUNT(order_types), err)) < 0)
		return (-1);
	if ((root = parse_object(value, size, err)) == NULL)
		return (-1);
	memset(event, 0, sizeof(*event));
	event->type = (enum order_event_type)found;
	if (get_text(root, "order_id", check_order_id, event->order_id, err) ||
	    get_text(root, "item", check_item, event->item, err) ||
	    get_i64(root, "quantity", 1, EVENT_QUANTITY_MOST, &event->quantity,
		err) ||
	    get_ts(root, &event->ts_ms, err))
		goto done;
	status = 0;
done:
	json_decref(root);
	return (status);
}

static int
decode_adjusted(const json_t *root, struct inventory_event *event,
    struct mr_error *err)
{

	if (get_text(root, "item", check_item, event->item, err) ||
	    get_i64(root, "delta", -EVENT_STOCK_MOST, EVENT_STOCK_MOST,
		&event->delta, err) ||
	    get_i64(root, "on_hand", 0, EVENT_STOCK_MOST, &event->on_hand,
		err) ||
	    get_ts(root, &event->ts_ms, err))
		return (-1);
	return (0);
}

static int
decode_outcome(const json_t *root, struct inventory_event *event,
    struct mr_error *err)
{

	if (get_text(root, "order_id", check_order_id, event->order_id, err) ||
	    get_text(root, "item", check_item, event->item, err) ||
	    get_i64(root, "quantity", 1, EVENT_QUANTITY_MOST, &event->quantity,
		err) ||
	    get_ts(root, &event->ts_ms, err))
		return (-1);
	if (event->type == INVENTORY_REJECTED &&
	    get_text(root, "reason", check_reason, event->reason, err))
		return (-1);
	return (0);
}

int
inventory_event_decode(const char *type, const void *value, size_t size,
    struct inventory_event *event, struct mr_error *err)
{
	json_t *root;
	int found, status;

	found = find_type(type, inventory_types, COUNT(inventory_types), err);
	if (found < 0)
		return (-1);
	if ((root = parse_object(value, size, err)) == NULL)
		return (-1);
	memset(event, 0, sizeof(*event));
	event->type = (enum inventory_event_type)found;
	if (event->type == INVENTORY_ADJUSTED)
		status = decode_adjusted(root, event, err);
	else
		status = decode_outcome(root, event, err);
	json_decref(root);
	return (status);
}

/* A number with a fixed number of decimals, kept as a whole one. */
struct decimal {
	const char *name;
	int64_t scale; /* 100: in hundredths */
	int64_t least, most; /* scaled */
	const char *least_text;
	const char *decimals_text; /* NULL: further ones are rounded away */
};

/*
 * JSON's numbers are decimal and doubles aren't: what is within a ten
 * thousandth of the last decimal was meant to be that.
 */
static int
get_decimal(const json_t *root, const struct decimal *decimal, int64_t *out,
    struct mr_error *err)
{
	const json_t *field = json_object_get(root, decimal->name);
	double scaled, nearest;

	if (!json_is_number(field))
		return (
		    mr_error_set(err, MR_REJECT, "%s: must be a number, is %s",
			decimal->name, kind_of(field)));
	scaled = json_number_value(field) * (double)decimal->scale;
	nearest = round(scaled);
	if (!(nearest >= (double)decimal->least &&
		nearest <= (double)decimal->most))
		return (mr_error_set(err, MR_REJECT,
		    "%s: must be from %s to %lld, is %g", decimal->name,
		    decimal->least_text,
		    (long long)(decimal->most / decimal->scale),
		    json_number_value(field)));
	if (decimal->decimals_text != NULL && !(fabs(scaled - nearest) <= 1e-4))
		return (mr_error_set(err, MR_REJECT,
		    "%s: must have at most %s decimals, is %.10g",
		    decimal->name, decimal->decimals_text,
		    json_number_value(field)));
	*out = (int64_t)nearest;
	return (0);
}

static const struct decimal price = {"price", 100, 1, EVENT_PRICE_MOST_MINOR,
    "0.01", "two"};
static const struct decimal duration = {"duration_s", 1000, 0,
    EVENT_DURATION_MOST_MS, "0", "three"};
static const struct decimal metric_value = {"value", 1000,
    -1000 * EVENT_METRIC_MOST, 1000 * EVENT_METRIC_MOST, "-1000000000000",
    NULL};

int
price_event_decode(const void *value, size_t size, struct price_event *event,
    struct mr_error *err)
{
	json_t *root;
	int status = -1;

	if ((root = parse_object(value, size, err)) == NULL)
		return (-1);
	memset(event, 0, sizeof(*event));
	if (get_text(root, "symbol", event_check_symbol, event->symbol, err) ||
	    get_decimal(root, &price, &event->price_minor, err) ||
	    get_ts(root, &event->ts_ms, err))
		goto done;
	status = 0;
done:
	json_decref(root);
	return (status);
}

int
log_event_decode(const void *value, size_t size, struct log_event *event,
    struct mr_error *err)
{
	char level[8];
	json_t *root;
	int status = -1;

	if ((root = parse_object(value, size, err)) == NULL)
		return (-1);
	event->host[0] = event->request_id[0] = event->stack[0] = '\0';
	if (get_text(root, "service", event_check_name, event->service, err) ||
	    get_text(root, "level", check_level, level, err) ||
	    get_text(root, "message", check_message, event->message, err) ||
	    get_text_if_there(root, "host", event_check_name, event->host,
		err) ||
	    get_text_if_there(root, "request_id", event_check_name,
		event->request_id, err) ||
	    get_text_if_there(root, "stack", check_stack, event->stack, err) ||
	    get_ts(root, &event->ts_ms, err))
		goto done;
	event->level = (enum log_event_level)log_event_level_find(level);
	status = 0;
done:
	json_decref(root);
	return (status);
}

int
call_event_decode(const void *value, size_t size, struct call_event *event,
    struct mr_error *err)
{
	json_t *root;
	int status = -1;

	if ((root = parse_object(value, size, err)) == NULL)
		return (-1);
	memset(event, 0, sizeof(*event));
	if (get_text(root, "call_id", check_call_id, event->call_id, err) ||
	    get_text(root, "caller", check_party, event->caller, err) ||
	    get_text(root, "callee", check_party, event->callee, err) ||
	    get_i64(root, "started_ms", 0, TS_MOST_MS, &event->started_ms,
		err) ||
	    get_decimal(root, &duration, &event->duration_ms, err))
		goto done;
	status = 0;
done:
	json_decref(root);
	return (status);
}

static int
decode_purchase(const json_t *root, struct user_event *event,
    struct mr_error *err)
{

	if (get_i64(root, "amount_minor", 1, EVENT_PRICE_MOST_MINOR,
		&event->amount_minor, err) ||
	    get_text(root, "currency", check_currency, event->currency, err))
		return (-1);
	return (0);
}

int
user_event_decode(const void *value, size_t size, struct user_event *event,
    struct mr_error *err)
{
	char kind[16];
	json_t *root;
	int status = -1;

	if ((root = parse_object(value, size, err)) == NULL)
		return (-1);
	memset(event, 0, sizeof(*event));
	if (get_text(root, "event_id", event_check_name, event->event_id,
		err) ||
	    get_text(root, "user_id", event_check_name, event->user_id, err) ||
	    get_text(root, "event", check_user_kind, kind, err) ||
	    get_text(root, "page", check_page, event->page, err) ||
	    get_ts(root, &event->ts_ms, err))
		goto done;
	event->kind = (enum user_event_kind)user_kind_find(kind);
	if (event->kind == USER_PURCHASE &&
	    decode_purchase(root, event, err) != 0)
		goto done;
	status = 0;
done:
	json_decref(root);
	return (status);
}

int
metric_event_decode(const void *value, size_t size, struct metric_event *event,
    struct mr_error *err)
{
	json_t *root;
	int status = -1;

	if ((root = parse_object(value, size, err)) == NULL)
		return (-1);
	memset(event, 0, sizeof(*event));
	if (get_text(root, "host", event_check_name, event->host, err) ||
	    get_text(root, "metric", event_check_name, event->metric, err) ||
	    get_decimal(root, &metric_value, &event->value_milli, err) ||
	    get_ts(root, &event->ts_ms, err))
		goto done;
	status = 0;
done:
	json_decref(root);
	return (status);
}
