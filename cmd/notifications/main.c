/*
 * notifications -- tells customers what became of their orders.
 */
#include "migrations.h"
#include "service/service.h"

#include "notifications.h"

static const struct config_option options[] = {
    {.name = "keep",
	.kind = CONFIG_DURATION,
	.group = "Notifications",
	.target = &notifications_keep_ms,
	.fallback = "30d",
	.least = 1000,
	.most = 3e12,
	.help = "how long a notification is kept after its event"},
    {.name = NULL},
};

static const struct stream_service stream = {
    .name = "notifications",
    .inputs = (const char *const[]){"inventory-events", NULL},
    .migrations = migrations_notifications,
    .decode = notifications_decode,
    .decoded_size = sizeof(struct inventory_event),
    .apply = notifications_apply,
    .tick = notifications_tick,
    .tick_ms = 10000,
};

static const struct service notifications = {
    .summary = "Reads inventory-events and notifies of each outcome of an "
	       "order exactly once: a row and a log line.",
    .stream = &stream,
    .routes = notifications_routes,
    .options = options,
    .epilogue =
	"URLs:\n"
	"  GET /notifications  ?since=&order_id=&limit=: those after a cursor,\n"
	"                      or the newest\n"
	"\n"
	"Examples:\n"
	"  notifications --brokers localhost:9092 "
	"--fcgi unix:run/notifications.sock\n"
	"  curl 'localhost:8000/notifications?limit=5'\n"
	"  curl 'localhost:8000/notifications?since=120'\n"
	"  sqlite3 -readonly data/notifications.db \\\n"
	"      'select message from notifications order by seq desc limit 5'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &notifications));
}
