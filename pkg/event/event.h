/*
 * event -- the payloads of all topics, and the only code that knows fields.
 *
 * Each event has a struct, an encoder into a buffer (JSON), and a decoder
 * that bounds and validates every field.  Unknown fields are ignored; a
 * field never changes its meaning.  A decoder's error is a REJECT that names
 * the field: "quantity: must be a whole number from 1 to 1000000, is -3".
 * Text fields are fixed arrays, NUL-terminated UTF-8 without control characters
 * unless said otherwise.
 * Input that is longer than 64 KiB, isn't UTF-8, has a NUL, a duplicate key or
 * a number out of range, or nests deeper than 8 levels is a REJECT; only running
 * out of memory is a RETRY.  Any thread may call; nothing is shared.
 *
 * The type of an event rides in the header `ce_type` (CloudEvents 1.0, Kafka
 * protocol binding, binary mode), so decoders take it as text.
 */
#ifndef MR_EVENT_H
#define MR_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/id.h"

#define EVENT_ITEM_SIZE 65 /* an item's name: 1 to 64 bytes */
#define EVENT_REASON_SIZE 129
#define EVENT_SYMBOL_SIZE 13 /* 1 to 12 of A-Z 0-9 . - */
#define EVENT_NAME_SIZE 65 /* a service, host or id: 1 to 64 bytes */
#define EVENT_MESSAGE_SIZE 16385
#define EVENT_STACK_SIZE 32769
#define EVENT_QUANTITY_MOST 1000000
#define EVENT_STOCK_MOST INT64_C(1000000000000)
#define EVENT_PRICE_MOST_MINOR INT64_C(100000000000) /* a billion */
#define EVENT_CALL_ID_SIZE 65 /* 1 to 64 bytes, as for an item */
#define EVENT_PARTY_SIZE 33 /* who called whom: 1 to 32 bytes */
#define EVENT_PAGE_SIZE 129 /* 1 to 128 bytes, from a "/" on */
#define EVENT_CURRENCY_SIZE 4 /* three of A-Z */
#define EVENT_DURATION_MOST_MS INT64_C(604800000) /* a week */
#define EVENT_METRIC_MOST INT64_C(1000000000000) /* a metric's value */
#define EVENT_SUMMARY_SIZE 201
#define EVENT_FINGERPRINT_SIZE 17 /* 16 of 0-9 a-f */
#define EVENT_VALUE_MOST_BYTES 65536
#define EVENT_DEPTH_MOST 8

/* order-events, key: item */
enum order_event_type { ORDER_CREATED, ORDER_CANCELLED };
struct order_event {
	enum order_event_type type;
	char order_id[ID_UUID_SIZE];
	char item[EVENT_ITEM_SIZE];
	int64_t quantity;
	int64_t ts_ms;
};

/* inventory-events, key: order id; adjusted: item */
enum inventory_event_type {
	INVENTORY_RESERVED,
	INVENTORY_REJECTED,
	INVENTORY_RELEASED,
	INVENTORY_CANCELLED, /* of a rejected order: nothing to release */
	INVENTORY_ADJUSTED
};
struct inventory_event {
	enum inventory_event_type type;
	char order_id[ID_UUID_SIZE]; /* not for adjusted */
	char item[EVENT_ITEM_SIZE];
	int64_t quantity; /* not for adjusted */
	char reason[EVENT_REASON_SIZE]; /* rejected */
	int64_t delta; /* adjusted: to EVENT_STOCK_MOST, both ways */
	int64_t on_hand; /* adjusted: 0 to EVENT_STOCK_MOST */
	int64_t ts_ms;
};

/* stock-prices, key: symbol; {"symbol":"ACME","price":187.32,"ts_ms":...} */
struct price_event {
	char symbol[EVENT_SYMBOL_SIZE];
	int64_t price_minor; /* hundredths; above 0 */
	int64_t ts_ms;
};

/*
 * application-logs and application-errors, key: service; "host", "request_id"
 * and "stack" may be left out.  {"service":"payments","level":"error",
 * "message":"card refused","host":"web-3","request_id":"7f3a","stack":"at
 * pay()\nat main()","ts_ms":...}
 */
enum log_event_level {
	LOG_EVENT_DEBUG,
	LOG_EVENT_INFO,
	LOG_EVENT_WARN,
	LOG_EVENT_ERROR,
	LOG_EVENT_FATAL,
	LOG_EVENT_LEVELS
};
struct log_event {
	enum log_event_level level;
	char service[EVENT_NAME_SIZE];
	char host[EVENT_NAME_SIZE]; /* "": not said; likewise below */
	char request_id[EVENT_NAME_SIZE];
	char message[EVENT_MESSAGE_SIZE]; /* may have line breaks and tabs */
	char stack[EVENT_STACK_SIZE]; /* likewise */
	int64_t ts_ms;
};

/* calls, key: caller; {"call_id":"1-7","caller":"+4930...","callee":"...",
 * "started_ms":...,"duration_s":12.345} */
struct call_event {
	char call_id[EVENT_CALL_ID_SIZE];
	char caller[EVENT_PARTY_SIZE];
	char callee[EVENT_PARTY_SIZE];
	int64_t started_ms;
	int64_t duration_ms; /* 0 to EVENT_DURATION_MOST_MS */
};

/*
 * user-events, key: user id; amount and currency are a purchase's alone, and
 * what others have there isn't looked at.  {"event_id":"1-7","user_id":
 * "user-3","event":"purchase","page":"/checkout","amount_minor":4999,
 * "currency":"EUR","ts_ms":...}
 */
enum user_event_kind {
	USER_CLICK,
	USER_PURCHASE,
	USER_SIGNUP,
	USER_EVENT_KINDS
};
struct user_event {
	enum user_event_kind kind;
	char event_id[EVENT_NAME_SIZE];
	char user_id[EVENT_NAME_SIZE];
	char page[EVENT_PAGE_SIZE];
	int64_t amount_minor; /* 1 to EVENT_PRICE_MOST_MINOR; 0: no purchase */
	char currency[EVENT_CURRENCY_SIZE]; /* "": no purchase */
	int64_t ts_ms;
};

/*
 * system-metrics, key: host; one record a sample.  A metric's name says its
 * unit.  {"host":"web-1","metric":"cpu_percent","value":12.345,"ts_ms":...}
 */
struct metric_event {
	char host[EVENT_NAME_SIZE];
	char metric[EVENT_NAME_SIZE];
	int64_t value_milli; /* thousandths, to EVENT_METRIC_MOST both ways */
	int64_t ts_ms;
};

/*
 * alerts, key: rule/subject/metric; types alert.pending, alert.firing and
 * alert.resolved.  {"fingerprint":"9f86d081884c7d65","alert_id":7,"rule":
 * "cpu-high","kind":"threshold","severity":"critical","summary":"...",
 * "state":"firing","host":"web-1","metric":"cpu_percent","value":97.2,"bound":
 * 90,"started_ms":...,"fired_ms":...,"ts_ms":...}  The same transition has the
 * same fingerprint, whoever computes it again.  No program here reads these
 * records, so there is no decoder.
 */
struct alert_event {
	char fingerprint[EVENT_FINGERPRINT_SIZE];
	int64_t alert_id;
	char rule[EVENT_NAME_SIZE];
	char kind[EVENT_NAME_SIZE];
	char severity[EVENT_NAME_SIZE];
	char summary[EVENT_SUMMARY_SIZE]; /* "": none */
	char state[EVENT_NAME_SIZE]; /* "pending", "firing" or "resolved" */
	char reason[EVENT_NAME_SIZE]; /* why it is resolved; "": it isn't */
	char service[EVENT_NAME_SIZE]; /* "": about a host */
	char host[EVENT_NAME_SIZE], metric[EVENT_NAME_SIZE]; /* likewise */
	double value, bound;
	int scored; /* 1: there is a score, and the bound is of that */
	double score;
	int64_t started_ms;
	int64_t fired_ms, resolved_ms; /* 0: never */
	int64_t ts_ms; /* of the transition */
};

const char *order_event_type_text(enum order_event_type type);
const char *inventory_event_type_text(enum inventory_event_type type);
/* "click", "purchase", "signup" */
const char *user_event_kind_text(enum user_event_kind kind);
/* "debug", "info", "warn", "error", "fatal"; and back: -1 for another text */
const char *log_event_level_text(enum log_event_level level);
int log_event_level_find(const char *text);

/* The encoders trust the event, and add to ${out} what it says.  Escaped, a
 * long log line may come to more than the 64 KiB that are read. */
void order_event_encode(const struct order_event *event, struct buffer *out);
void inventory_event_encode(const struct inventory_event *event,
    struct buffer *out);
void price_event_encode(const struct price_event *event, struct buffer *out);
void call_event_encode(const struct call_event *event, struct buffer *out);
void log_event_encode(const struct log_event *event, struct buffer *out);
void user_event_encode(const struct user_event *event, struct buffer *out);
void metric_event_encode(const struct metric_event *event, struct buffer *out);
void alert_event_encode(const struct alert_event *event, struct buffer *out);

/*
 * ${type} is the ce_type header's text, NULL if the record has none; that and
 * a type of another topic are a REJECT.  A price may be any JSON number within
 * a millionth of a hundredth, a duration one within a tenth of a microsecond of
 * a millisecond.  A metric's value is any, and rounded to thousandths, halves
 * away from 0.  0, or -1 with *event undefined.
 */
int order_event_decode(const char *type, const void *value, size_t size,
    struct order_event *event, struct mr_error *err);
int inventory_event_decode(const char *type, const void *value, size_t size,
    struct inventory_event *event, struct mr_error *err);
int price_event_decode(const void *value, size_t size,
    struct price_event *event, struct mr_error *err);
int call_event_decode(const void *value, size_t size, struct call_event *event,
    struct mr_error *err);
int log_event_decode(const void *value, size_t size, struct log_event *event,
    struct mr_error *err);
int user_event_decode(const void *value, size_t size, struct user_event *event,
    struct mr_error *err);
int metric_event_decode(const void *value, size_t size,
    struct metric_event *event, struct mr_error *err);

/* ce_type on the topics that have records of one type. */
#define PRICE_EVENT_TYPE "price.changed"
#define CALL_EVENT_TYPE "call.ended"
#define USER_EVENT_TYPE "user.acted"
#define METRIC_EVENT_TYPE "metric.sampled"

/*
 * event_check_type -- is ${type}, a record's ce_type, the ${only} one that its
 * topic has?  A record without (NULL) is taken for one: programs that aren't
 * Millrace's needn't send headers.  0, or -1 REJECT.
 */
int event_check_type(const char *type, const char *only, struct mr_error *err);

/*
 * event_check_ahead -- is an event's time, its field ${name}, no more than
 * ${most_ms} ahead of ${record_ms}, its record's own?  One that is would hold
 * what goes by the newest time until the clock has come to it.  ${setting}
 * ("--ahead") is named to who reads the dead letter; NULL if it can't be set.
 * A record without a time (-1) goes by the machine's.  0, or -1 REJECT.
 */
int event_check_ahead(const char *name, int64_t event_ms, int64_t record_ms,
    int64_t most_ms, const char *setting, struct mr_error *err);

/*
 * Field rules shared with request bodies: 0, or -1 REJECT with a message
 * that starts with what is wrong ("must be ...").  An item stands in a URL's
 * path, which browsers and nginx take parts "." and ".." out of: it may not be
 * one, nor have one between slashes.  In a record it may, as older ones have.
 */
int event_check_item(const char *text, size_t length, struct mr_error *err);
int event_check_symbol(const char *text, size_t length, struct mr_error *err);
int event_check_name(const char *text, size_t length, struct mr_error *err);

#endif
