/*
 * inventory -- reserves stock for orders, or rejects them.
 */
#include "migrations.h"
#include "service/service.h"

#include "inventory.h"

static const struct stream_service stream = {
    .name = "inventory",
    .inputs = (const char *const[]){"order-events", NULL},
    .outputs = (const char *const[]){"inventory-events", NULL},
    .migrations = migrations_inventory,
    .decode = inventory_decode,
    .decoded_size = sizeof(struct order_event),
    .apply = inventory_apply,
    .command = inventory_command,
};

static const struct service inventory = {
    .summary = "Reserves stock for the orders in order-events or rejects "
	       "them, gives back what was cancelled, and says so in "
	       "inventory-events.",
    .stream = &stream,
    .routes = inventory_routes,
    .epilogue =
	"URLs:\n"
	"  GET  /stock         ?limit=&after=: what there is, by item\n"
	"  POST /stock/{item}  {\"quantity\":100}: restock; a new item is made\n"
	"\n"
	"Examples:\n"
	"  inventory --brokers localhost:9092 --fcgi unix:run/inventory.sock\n"
	"  curl localhost:8000/stock\n"
	"  curl -X POST localhost:8000/stock/Laptop "
	"-H 'Content-Type: application/json' \\\n"
	"      -d '{\"quantity\":100}'\n"
	"  sqlite3 -readonly data/inventory.db 'select * from inventory'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &inventory));
}
