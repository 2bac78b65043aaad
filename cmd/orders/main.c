/*
 * orders -- takes orders, and follows what inventory makes of them.
 */
#include "migrations.h"
#include "service/service.h"

#include "orders.h"

static const struct stream_service stream = {
    .name = "orders",
    .inputs = (const char *const[]){"inventory-events", NULL},
    .outputs = (const char *const[]){"order-events", NULL},
    .migrations = migrations_orders,
    .decode = orders_decode,
    .decoded_size = sizeof(struct inventory_event),
    .apply = orders_apply,
    .command = orders_command,
};

static const struct service orders = {
    .summary = "Takes orders over HTTP, announces them in order-events, and "
	       "follows inventory-events to tell what became of each.",
    .stream = &stream,
    .routes = orders_routes,
    .epilogue =
	"URLs:\n"
	"  POST   /orders       {\"item\":\"Laptop\",\"quantity\":1}: place one\n"
	"  GET    /orders       ?status=&limit=&after=: list, newest first\n"
	"  GET    /orders/{id}  one, with its trace through Kafka\n"
	"  DELETE /orders/{id}  cancel one that is pending or confirmed\n"
	"\n"
	"Examples:\n"
	"  orders --brokers localhost:9092 --fcgi unix:run/orders.sock\n"
	"  curl -X POST localhost:8000/orders "
	"-H 'Content-Type: application/json' \\\n"
	"      -H 'Idempotency-Key: 4711' "
	"-d '{\"item\":\"Laptop\",\"quantity\":1}'\n"
	"  curl 'localhost:8000/orders?status=PENDING&limit=10'\n"
	"  sqlite3 -readonly data/orders.db 'select * from orders'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &orders));
}
