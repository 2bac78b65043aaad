/*
 * The decoders of all payloads.  The first byte chooses the event's type, the
 * rest is the value; an upper bit makes an event out of the rest instead.
 * What decodes is within its bounds and encodes to something that decodes
 * equal; every event that is within them decodes from its own encoding.
 */
#include "event/event.h"
#include "fuzz.h"

#define TS_MOST_MS INT64_C(253402300799999)

enum kind {
	ORDERS = 2,
	INVENTORIES = 6,
	PRICES,
	LOGS,
	USERS,
	SAMPLES,
	CALLS,
	KINDS
};

/* ce_type for a kind; those behind the inventory's have none of a topic. */
static const char *
type_of(unsigned int kind)
{

	if (kind < ORDERS)
		return (order_event_type_text((enum order_event_type)kind));
	if (kind < INVENTORIES)
		return (inventory_event_type_text(
		    (enum inventory_event_type)(kind - ORDERS)));
	return (kind == INVENTORIES ? "order.createdx" : NULL);
}

static void
check_refusal(const struct mr_error *err)
{

	assert(err->kind == MR_REJECT);
	assert(err->message[0] != '\0');
	assert(memchr(err->message, '\0', MR_ERROR_SIZE) != NULL);
}

static void
check_text(const char *text, size_t most, int may_be_empty)
{
	size_t i, length = strnlen(text, most + 1);

	assert(length <= most && (may_be_empty || length > 0));
	assert(fuzz_is_utf8(text, length));
	for (i = 0; i < length; i++)
		assert((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
}

/* The same, but for line feeds and tabs. */
static void
check_lines(const char *text, size_t most, int may_be_empty)
{
	size_t i, length = strnlen(text, most + 1);

	assert(length <= most && (may_be_empty || length > 0));
	assert(fuzz_is_utf8(text, length));
	for (i = 0; i < length; i++)
		assert(((unsigned char)text[i] >= 0x20 && text[i] != 0x7f) ||
		    text[i] == '\n' || text[i] == '\t');
}

static void
check_order(const struct order_event *event)
{
	struct buffer out = {0};
	struct order_event again;
	struct mr_error err;

	check_text(event->item, EVENT_ITEM_SIZE - 1, 0);
	assert(id_uuid_valid(event->order_id));
	assert(event->quantity >= 1 && event->quantity <= EVENT_QUANTITY_MOST);
	assert(event->ts_ms >= 0 && event->ts_ms <= TS_MOST_MS);
	order_event_encode(event, &out);
	assert(!out.failed);
	assert(order_event_decode(order_event_type_text(event->type), out.data,
		   out.length, &again, &err) == 0);
	assert(again.type == event->type && again.ts_ms == event->ts_ms);
	assert(again.quantity == event->quantity);
	assert(strcmp(again.order_id, event->order_id) == 0);
	assert(strcmp(again.item, event->item) == 0);
	buffer_free(&out);
}

static void
check_inventory(const struct inventory_event *event)
{
	struct buffer out = {0};
	struct inventory_event again;
	struct mr_error err;

	check_text(event->item, EVENT_ITEM_SIZE - 1, 0);
	check_text(event->reason, EVENT_REASON_SIZE - 1,
	    event->type != INVENTORY_REJECTED);
	assert(event->type == INVENTORY_ADJUSTED ||
	    id_uuid_valid(event->order_id));
	assert(event->on_hand >= 0 && event->on_hand <= EVENT_STOCK_MOST);
	assert(event->delta >= -EVENT_STOCK_MOST &&
	    event->delta <= EVENT_STOCK_MOST);
	assert(event->ts_ms >= 0 && event->ts_ms <= TS_MOST_MS);
	inventory_event_encode(event, &out);
	assert(!out.failed);
	assert(inventory_event_decode(inventory_event_type_text(event->type),
		   out.data, out.length, &again, &err) == 0);
	assert(again.type == event->type && again.ts_ms == event->ts_ms);
	assert(again.quantity == event->quantity);
	assert(strcmp(again.order_id, event->order_id) == 0);
	assert(strcmp(again.item, event->item) == 0);
	assert(strcmp(again.reason, event->reason) == 0);
	assert(again.delta == event->delta);
	assert(again.on_hand == event->on_hand);
	buffer_free(&out);
}

static void
check_price(const struct price_event *event)
{
	struct buffer out = {0};
	struct price_event again;
	struct mr_error err;

	check_text(event->symbol, EVENT_SYMBOL_SIZE - 1, 0);
	assert(event->price_minor >= 1 &&
	    event->price_minor <= EVENT_PRICE_MOST_MINOR);
	assert(event->ts_ms >= 0 && event->ts_ms <= TS_MOST_MS);
	price_event_encode(event, &out);
	assert(!out.failed);
	assert(price_event_decode(out.data, out.length, &again, &err) == 0);
	assert(strcmp(again.symbol, event->symbol) == 0);
	assert(again.price_minor == event->price_minor);
	assert(again.ts_ms == event->ts_ms);
	buffer_free(&out);
}

static void
check_log(const struct log_event *event)
{
	static struct log_event again;
	struct buffer out = {0};
	struct mr_error err;

	check_text(event->service, EVENT_NAME_SIZE - 1, 0);
	check_text(event->host, EVENT_NAME_SIZE - 1, 1);
	check_text(event->request_id, EVENT_NAME_SIZE - 1, 1);
	check_lines(event->message, EVENT_MESSAGE_SIZE - 1, 0);
	check_lines(event->stack, EVENT_STACK_SIZE - 1, 1);
	assert((unsigned int)event->level < LOG_EVENT_LEVELS);
	assert(event->ts_ms >= 0 && event->ts_ms <= TS_MOST_MS);
	log_event_encode(event, &out);
	assert(!out.failed);
	/* Escaped, it may have grown beyond what is read. */
	if (out.length <= EVENT_VALUE_MOST_BYTES) {
		assert(
		    log_event_decode(out.data, out.length, &again, &err) == 0);
		assert(strcmp(again.service, event->service) == 0);
		assert(strcmp(again.host, event->host) == 0);
		assert(strcmp(again.request_id, event->request_id) == 0);
		assert(strcmp(again.message, event->message) == 0);
		assert(strcmp(again.stack, event->stack) == 0);
		assert(again.level == event->level);
		assert(again.ts_ms == event->ts_ms);
	}
	buffer_free(&out);
}

static void
check_user(const struct user_event *event)
{
	struct buffer out = {0};
	struct user_event again;
	struct mr_error err;

	check_text(event->event_id, EVENT_NAME_SIZE - 1, 0);
	check_text(event->user_id, EVENT_NAME_SIZE - 1, 0);
	check_text(event->page, EVENT_PAGE_SIZE - 1, 0);
	check_text(event->currency, EVENT_CURRENCY_SIZE - 1, 1);
	assert((unsigned int)event->kind < USER_EVENT_KINDS);
	assert((event->kind == USER_PURCHASE) == (event->amount_minor > 0));
	assert((event->kind == USER_PURCHASE) == (event->currency[0] != '\0'));
	assert(event->amount_minor <= EVENT_PRICE_MOST_MINOR);
	assert(event->ts_ms >= 0 && event->ts_ms <= TS_MOST_MS);
	user_event_encode(event, &out);
	assert(!out.failed);
	assert(user_event_decode(out.data, out.length, &again, &err) == 0);
	assert(strcmp(again.event_id, event->event_id) == 0);
	assert(strcmp(again.user_id, event->user_id) == 0);
	assert(strcmp(again.page, event->page) == 0);
	assert(strcmp(again.currency, event->currency) == 0);
	assert(again.kind == event->kind && again.ts_ms == event->ts_ms);
	assert(again.amount_minor == event->amount_minor);
	buffer_free(&out);
}

static void
check_metric(const struct metric_event *event)
{
	struct buffer out = {0};
	struct metric_event again;
	struct mr_error err;

	check_text(event->host, EVENT_NAME_SIZE - 1, 0);
	check_text(event->metric, EVENT_NAME_SIZE - 1, 0);
	assert(event->value_milli >= -1000 * EVENT_METRIC_MOST &&
	    event->value_milli <= 1000 * EVENT_METRIC_MOST);
	assert(event->ts_ms >= 0 && event->ts_ms <= TS_MOST_MS);
	metric_event_encode(event, &out);
	assert(!out.failed);
	assert(metric_event_decode(out.data, out.length, &again, &err) == 0);
	assert(strcmp(again.host, event->host) == 0);
	assert(strcmp(again.metric, event->metric) == 0);
	assert(again.value_milli == event->value_milli);
	assert(again.ts_ms == event->ts_ms);
	buffer_free(&out);
}

static void
check_call(const struct call_event *event)
{
	struct buffer out = {0};
	struct call_event again;
	struct mr_error err;

	check_text(event->call_id, EVENT_CALL_ID_SIZE - 1, 0);
	check_text(event->caller, EVENT_PARTY_SIZE - 1, 0);
	check_text(event->callee, EVENT_PARTY_SIZE - 1, 0);
	assert(event->started_ms >= 0 && event->started_ms <= TS_MOST_MS);
	assert(event->duration_ms >= 0 &&
	    event->duration_ms <= EVENT_DURATION_MOST_MS);
	call_event_encode(event, &out);
	assert(!out.failed);
	assert(call_event_decode(out.data, out.length, &again, &err) == 0);
	assert(strcmp(again.call_id, event->call_id) == 0);
	assert(strcmp(again.caller, event->caller) == 0);
	assert(strcmp(again.callee, event->callee) == 0);
	assert(again.started_ms == event->started_ms);
	assert(again.duration_ms == event->duration_ms);
	buffer_free(&out);
}

static void
decode_call(const void *value, size_t size)
{
	struct call_event call;
	struct mr_error err = {MR_OK, ""};

	if (call_event_decode(value, size, &call, &err) == 0) {
		assert(memchr(value, '\0', size) == NULL);
		check_call(&call);
	} else {
		check_refusal(&err);
	}
}

static void
decode(unsigned int kind, const void *value, size_t size)
{
	struct order_event order;
	struct inventory_event inventory;
	struct price_event price;
	struct user_event user;
	struct metric_event metric;
	static struct log_event line;
	struct mr_error err = {MR_OK, ""};
	const char *type = type_of(kind);

	if (kind == CALLS) {
		decode_call(value, size);
		return;
	}
	if (kind == USERS) {
		if (user_event_decode(value, size, &user, &err) == 0) {
			assert(memchr(value, '\0', size) == NULL);
			check_user(&user);
		} else {
			check_refusal(&err);
		}
		return;
	}
	if (kind == SAMPLES) {
		if (metric_event_decode(value, size, &metric, &err) == 0) {
			assert(memchr(value, '\0', size) == NULL);
			check_metric(&metric);
		} else {
			check_refusal(&err);
		}
		return;
	}
	if (kind == LOGS) {
		if (log_event_decode(value, size, &line, &err) == 0) {
			assert(memchr(value, '\0', size) == NULL);
			check_log(&line);
		} else {
			check_refusal(&err);
		}
		return;
	}
	if (kind == PRICES) {
		if (price_event_decode(value, size, &price, &err) == 0) {
			assert(memchr(value, '\0', size) == NULL);
			check_price(&price);
		} else {
			check_refusal(&err);
		}
		return;
	}
	if (order_event_decode(type, value, size, &order, &err) == 0) {
		assert(kind < ORDERS && memchr(value, '\0', size) == NULL);
		check_order(&order);
	} else {
		check_refusal(&err);
	}
	if (inventory_event_decode(type, value, size, &inventory, &err) == 0) {
		assert(kind >= ORDERS && kind < INVENTORIES);
		assert(memchr(value, '\0', size) == NULL);
		check_inventory(&inventory);
	} else {
		check_refusal(&err);
	}
}

/* ---- events made up ----------------------------------------------------- */

/* A number from ${least} to ${most}, which is no more than 2^62 above. */
static int64_t
take_number(struct fuzz_input *in, int64_t least, int64_t most)
{

	return (least +
	    (int64_t)((uint64_t)fuzz_i64(in) % (uint64_t)(most - least + 1)));
}

/* What the rule of a text lets pass, or ${otherwise}. */
static void
take_text(struct fuzz_input *in, char *out, size_t most,
    int (*check)(const char *, size_t, struct mr_error *),
    const char *otherwise)
{
	struct mr_error err;
	const char *bytes;
	size_t length;

	bytes = fuzz_bytes(in, fuzz_byte(in) % (most + 2), &length);
	if (length > most || check(bytes, length, &err) != 0) {
		bytes = otherwise;
		length = strlen(otherwise);
	}
	memcpy(out, bytes, length);
	out[length] = '\0';
}

static void
encode_user(struct fuzz_input *in)
{
	struct user_event user = {.page = "/"};

	user.kind = (enum user_event_kind)take_number(in, 0,
	    USER_EVENT_KINDS - 1);
	user.ts_ms = take_number(in, 0, TS_MOST_MS);
	take_text(in, user.event_id, EVENT_NAME_SIZE - 1, event_check_name,
	    "1-1");
	take_text(in, user.user_id, EVENT_NAME_SIZE - 1, event_check_name,
	    "user-1");
	take_text(in, user.page + 1, EVENT_NAME_SIZE - 1, event_check_name,
	    "cart");
	if (user.kind == USER_PURCHASE) {
		user.amount_minor = take_number(in, 1, EVENT_PRICE_MOST_MINOR);
		memcpy(user.currency, "EUR", sizeof("EUR"));
	}
	check_user(&user);
}

static void
encode_call(struct fuzz_input *in)
{
	struct call_event call = {.started_ms = 0};

	call.started_ms = take_number(in, 0, TS_MOST_MS);
	call.duration_ms = take_number(in, 0, EVENT_DURATION_MOST_MS);
	take_text(in, call.call_id, EVENT_CALL_ID_SIZE - 1, event_check_name,
	    "1-1");
	/* A name's rule is a party's, and that is shorter. */
	take_text(in, call.caller, EVENT_PARTY_SIZE - 1, event_check_name,
	    "+49301");
	take_text(in, call.callee, EVENT_PARTY_SIZE - 1, event_check_name,
	    "agent-1");
	check_call(&call);
}

static void
encode(unsigned int kind, struct fuzz_input *in)
{
	static const char id[] = "01890a5d-ac96-774b-bcce-b302099a8057";
	struct order_event order = {.type = ORDER_CREATED};
	struct inventory_event inventory = {.type = INVENTORY_RESERVED};
	struct price_event price = {.ts_ms = 0};
	struct metric_event metric = {.ts_ms = 0};

	if (kind < ORDERS) {
		order.type = (enum order_event_type)kind;
		memcpy(order.order_id, id, sizeof(id));
		order.quantity = take_number(in, 1, EVENT_QUANTITY_MOST);
		order.ts_ms = take_number(in, 0, TS_MOST_MS);
		take_text(in, order.item, EVENT_ITEM_SIZE - 1, event_check_item,
		    "Laptop");
		check_order(&order);
	} else if (kind < INVENTORIES) {
		inventory.type = (enum inventory_event_type)(kind - ORDERS);
		inventory.ts_ms = take_number(in, 0, TS_MOST_MS);
		take_text(in, inventory.item, EVENT_ITEM_SIZE - 1,
		    event_check_item, "Laptop");
		if (inventory.type == INVENTORY_ADJUSTED) {
			inventory.delta = take_number(in, -EVENT_STOCK_MOST,
			    EVENT_STOCK_MOST);
			inventory.on_hand = take_number(in, 0,
			    EVENT_STOCK_MOST);
		} else {
			memcpy(inventory.order_id, id, sizeof(id));
			inventory.quantity = take_number(in, 1,
			    EVENT_QUANTITY_MOST);
		}
		/* An item's rule is a reason's, and it is shorter. */
		if (inventory.type == INVENTORY_REJECTED)
			take_text(in, inventory.reason, EVENT_ITEM_SIZE - 1,
			    event_check_item, "none");
		check_inventory(&inventory);
	} else if (kind == LOGS) {
		static struct log_event line;

		line.level = (enum log_event_level)take_number(in, 0,
		    LOG_EVENT_LEVELS - 1);
		line.ts_ms = take_number(in, 0, TS_MOST_MS);
		take_text(in, line.service, EVENT_NAME_SIZE - 1,
		    event_check_name, "web");
		/* A name is a message, too. */
		take_text(in, line.message, EVENT_NAME_SIZE - 1,
		    event_check_name, "hello");
		check_log(&line);
	} else if (kind == USERS) {
		encode_user(in);
	} else if (kind == CALLS) {
		encode_call(in);
	} else if (kind == SAMPLES) {
		metric.value_milli = take_number(in, -1000 * EVENT_METRIC_MOST,
		    1000 * EVENT_METRIC_MOST);
		metric.ts_ms = take_number(in, 0, TS_MOST_MS);
		take_text(in, metric.host, EVENT_NAME_SIZE - 1,
		    event_check_name, "web-1");
		take_text(in, metric.metric, EVENT_NAME_SIZE - 1,
		    event_check_name, "load_1m");
		check_metric(&metric);
	} else {
		price.price_minor = take_number(in, 1, EVENT_PRICE_MOST_MINOR);
		price.ts_ms = take_number(in, 0, TS_MOST_MS);
		take_text(in, price.symbol, EVENT_SYMBOL_SIZE - 1,
		    event_check_symbol, "ACME");
		check_price(&price);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint8_t choice = fuzz_byte(&in);

	if (choice & 0x80)
		encode((choice & 0x7fU) % KINDS, &in);
	else
		decode(choice % (KINDS + 1), in.p, in.left);
	return (0);
}
