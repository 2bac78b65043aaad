/*
 * invariants -- what must hold, as queries over what was told.
 *
 * `known` is what a file issued as of its snapshot, whether it is on its
 * topic by now or still in its outbox.  `seen` is what a service has consumed as of
 * its snapshot: the records below its positions, without a relay's repeats.
 * Everything about files is said in these two, so it holds at every moment,
 * services running or not.
 */
#include "check/internal.h"

/* ---- what is told --------------------------------------------------------- */

static const char sql_schema_told[] =
    "CREATE TABLE topics ("
    " topic TEXT NOT NULL PRIMARY KEY,"
    " topic_id TEXT NOT NULL) STRICT;"
    /* middle: the end before the files were read; next: the end after it */
    "CREATE TABLE partitions ("
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " first INTEGER NOT NULL,"
    " middle INTEGER NOT NULL,"
    " next INTEGER NOT NULL,"
    " PRIMARY KEY (topic, partition)) STRICT, WITHOUT ROWID;"
    /* Records first to next - 1 are there and can't be read. */
    "CREATE TABLE unread ("
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " first INTEGER NOT NULL,"
    " next INTEGER NOT NULL,"
    " PRIMARY KEY (topic, partition, first)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE files ("
    " service TEXT NOT NULL PRIMARY KEY,"
    " path TEXT NOT NULL,"
    " issued INTEGER NOT NULL,"
    " dead_issued INTEGER NOT NULL) STRICT;"
    /* number: of the file's database id, NULL if no file has it; upto: the
     * highest seq under it that the file knows of */
    "CREATE TABLE sources ("
    " id INTEGER NOT NULL PRIMARY KEY,"
    " source TEXT NOT NULL,"
    " service TEXT NOT NULL,"
    " number INTEGER,"
    " upto INTEGER) STRICT;"
    /* Rows of what is older than this may have expired. */
    "CREATE TABLE expiry ("
    " what TEXT NOT NULL PRIMARY KEY,"
    " before_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE acknowledged ("
    " id TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;"
    /* offset: NULL in an outbox; before: the source's highest seq so far in
     * the partition, -1: none; fresh 0: a reader drops it as a repeat; good
     * 0: its topic doesn't take it; hash: of its key, NULL without one */
    "CREATE TABLE records ("
    " n INTEGER NOT NULL PRIMARY KEY,"
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " offset INTEGER,"
    " source INTEGER,"
    " seq INTEGER,"
    " predecessor INTEGER,"
    " before INTEGER NOT NULL,"
    " fresh INTEGER NOT NULL,"
    " good INTEGER NOT NULL,"
    " type TEXT,"
    " order_id TEXT,"
    " item TEXT,"
    " quantity INTEGER,"
    " delta INTEGER,"
    " on_hand INTEGER,"
    " ts_ms INTEGER NOT NULL,"
    " cause_topic TEXT,"
    " cause_partition INTEGER,"
    " cause_offset INTEGER,"
    " dead_topic TEXT,"
    " dead_partition INTEGER,"
    " dead_offset INTEGER,"
    " digest INTEGER NOT NULL,"
    " hash INTEGER) STRICT;"
    "CREATE TABLE positions ("
    " service TEXT NOT NULL,"
    " topic_id TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " topic TEXT NOT NULL,"
    " next_offset INTEGER NOT NULL,"
    " PRIMARY KEY (service, topic_id, partition)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE marks ("
    " service TEXT NOT NULL,"
    " source TEXT NOT NULL,"
    " topic_id TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY (service, source, topic_id, partition)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE tails ("
    " service TEXT NOT NULL,"
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY (service, topic, partition)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE dead_rows ("
    " n INTEGER NOT NULL PRIMARY KEY,"
    " service TEXT NOT NULL,"
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " offset INTEGER NOT NULL,"
    " gone INTEGER NOT NULL) STRICT;" /* 1: a row that went on purpose */
    /* Among how many partitions keys are spread, from which seq on; 0: they
     * aren't. */
    "CREATE TABLE placements ("
    " service TEXT NOT NULL,"
    " topic TEXT NOT NULL,"
    " from_seq INTEGER NOT NULL,"
    " partitions INTEGER NOT NULL,"
    " PRIMARY KEY (service, topic, from_seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE orders ("
    " id TEXT NOT NULL PRIMARY KEY,"
    " item TEXT NOT NULL,"
    " quantity INTEGER NOT NULL,"
    " status TEXT NOT NULL,"
    " reason TEXT) STRICT, WITHOUT ROWID;"
    "CREATE TABLE trace ("
    " order_id TEXT NOT NULL,"
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " offset INTEGER NOT NULL,"
    " type TEXT NOT NULL,"
    " PRIMARY KEY (order_id, topic, partition, offset)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE inventory ("
    " item TEXT NOT NULL PRIMARY KEY,"
    " on_hand INTEGER NOT NULL,"
    " reserved INTEGER NOT NULL,"
    " received INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE catalogue ("
    " item TEXT NOT NULL PRIMARY KEY,"
    " received INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE reservations ("
    " order_id TEXT NOT NULL PRIMARY KEY,"
    " item TEXT NOT NULL,"
    " quantity INTEGER NOT NULL,"
    " status TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE notifications ("
    " order_id TEXT NOT NULL,"
    " outcome TEXT NOT NULL,"
    " created_at_ms INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY (order_id, outcome)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE cursors ("
    " service TEXT NOT NULL PRIMARY KEY,"
    " seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE symbols ("
    " symbol TEXT NOT NULL PRIMARY KEY,"
    " seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/* What services read (of those whose files say it, it is taken from there), what
 * an event becomes, and what is derived. */
static const char sql_schema_derived[] =
    "CREATE TABLE inputs ("
    " service TEXT NOT NULL,"
    " topic TEXT NOT NULL,"
    " PRIMARY KEY (service, topic)) STRICT, WITHOUT ROWID;"
    "INSERT INTO inputs VALUES ('orders', 'inventory-events'),"
    " ('inventory', 'order-events'), ('notifications', 'inventory-events'),"
    " ('prices', 'stock-prices');"
    "CREATE TABLE outcomes ("
    " type TEXT NOT NULL PRIMARY KEY,"
    " cause TEXT NOT NULL,"
    " outcome TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO outcomes VALUES"
    " ('inventory.reserved', 'order.created', 'confirmed'),"
    " ('inventory.rejected', 'order.created', 'rejected'),"
    " ('inventory.released', 'order.cancelled', 'cancelled'),"
    " ('inventory.cancelled', 'order.cancelled', 'cancelled');"
    "CREATE TABLE emitted ("
    " source INTEGER NOT NULL,"
    " seq INTEGER NOT NULL,"
    " service TEXT NOT NULL,"
    " n INTEGER NOT NULL,"
    " PRIMARY KEY (source, seq)) STRICT, WITHOUT ROWID;"
    "CREATE VIEW known AS SELECT e.service, r.* FROM emitted e"
    " JOIN records r ON r.n = e.n;"
    "CREATE VIEW seen AS SELECT p.service, r.* FROM positions p"
    " JOIN topics t ON t.topic = p.topic AND t.topic_id = p.topic_id"
    " JOIN records r ON r.topic = p.topic AND r.partition = p.partition"
    "  AND r.offset < p.next_offset"
    " WHERE r.fresh;"
    "CREATE TABLE dead ("
    " service TEXT NOT NULL,"
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " offset INTEGER NOT NULL,"
    " row_count INTEGER NOT NULL,"
    " gone_count INTEGER NOT NULL,"
    " record_count INTEGER NOT NULL,"
    " ts_ms INTEGER,"
    " PRIMARY KEY (service, topic, partition, offset)"
    ") STRICT, WITHOUT ROWID;"
    /* Counts that a topic may have had. */
    "CREATE TABLE numbers (n INTEGER NOT NULL PRIMARY KEY) STRICT;"
    /* What a file knows of how a record with a key was placed: issued 1, it is
     * of this file as it is; known, the count as of it, or of the last record
     * before it that is; soonest, the first count that the file knows.  NULL:
     * nothing. */
    "CREATE VIEW placing AS SELECT r.n, r.topic, r.partition, r.offset, r.seq,"
    " r.source, r.hash, s.service, coalesce(r.seq <= s.upto, 0) AS issued,"
    " (SELECT p.partitions FROM placements p WHERE p.service = s.service"
    "  AND p.topic = r.topic AND p.from_seq <= min(r.seq, coalesce(s.upto, 0))"
    "  ORDER BY p.from_seq DESC LIMIT 1) AS known,"
    " (SELECT p.partitions FROM placements p WHERE p.service = s.service"
    "  AND p.topic = r.topic ORDER BY p.from_seq LIMIT 1) AS soonest"
    " FROM records r JOIN sources s ON s.id = r.source"
    " WHERE r.hash IS NOT NULL AND r.offset IS NOT NULL;"
    "CREATE TABLE placed_orders ("
    " order_id TEXT NOT NULL PRIMARY KEY,"
    " created_count INTEGER NOT NULL,"
    " cancelled_count INTEGER NOT NULL,"
    " n INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    /* What inventory has seen of each order, and what it has said of it. */
    "CREATE TABLE heard ("
    " order_id TEXT NOT NULL PRIMARY KEY,"
    " created INTEGER,"
    " cancelled INTEGER) STRICT, WITHOUT ROWID;"
    "CREATE TABLE said ("
    " order_id TEXT NOT NULL PRIMARY KEY,"
    " reserved INTEGER NOT NULL,"
    " rejected INTEGER NOT NULL,"
    " released INTEGER NOT NULL,"
    " cancelled INTEGER NOT NULL,"
    " least INTEGER NOT NULL,"
    " most INTEGER NOT NULL,"
    " item TEXT NOT NULL,"
    " other_item TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    /* What orders has seen of each, and what notifications should tell. */
    "CREATE TABLE answers ("
    " order_id TEXT NOT NULL PRIMARY KEY,"
    " reserved INTEGER,"
    " rejected INTEGER,"
    " cancelled INTEGER) STRICT, WITHOUT ROWID;"
    "CREATE TABLE due ("
    " order_id TEXT NOT NULL,"
    " outcome TEXT NOT NULL,"
    " ts_ms INTEGER NOT NULL,"
    " PRIMARY KEY (order_id, outcome)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE bounds ("
    " service TEXT NOT NULL PRIMARY KEY,"
    " seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    /* Where what can't be read may have seqs of a source: above after, up to
     * upto; and which of them are nowhere else. */
    "CREATE TABLE hidden ("
    " n INTEGER NOT NULL PRIMARY KEY,"
    " source INTEGER NOT NULL,"
    " topic TEXT NOT NULL,"
    " partition INTEGER NOT NULL,"
    " after INTEGER NOT NULL,"
    " upto INTEGER NOT NULL) STRICT;"
    "CREATE TABLE hidden_seqs ("
    " service TEXT NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY (service, seq)) STRICT, WITHOUT ROWID;";

const struct store_migration check_schema[] = {
    {1, "told", sql_schema_told},
    {2, "derived", sql_schema_derived},
    {0, NULL, NULL},
};

const char *const check_derive[] = {
    "CREATE INDEX records_by_place ON records (topic, partition, offset)",
    "CREATE INDEX records_by_seq ON records (source, seq)",
    /* An id that was replaced reaches up to where the next one began: what
     * is above it was issued by a file that was put back since. */
    "UPDATE sources SET upto = min("
    " (SELECT issued FROM files f WHERE f.service = sources.service),"
    " coalesce((SELECT min((SELECT min(r.seq) FROM records r"
    "   WHERE r.source = s.id)) - 1 FROM sources s"
    "  WHERE s.service = sources.service AND s.number > sources.number),"
    "  9223372036854775807))"
    " WHERE number IS NOT NULL",
    "INSERT INTO emitted (source, seq, service, n)"
    " SELECT r.source, r.seq, s.service, r.n FROM records r"
    " JOIN sources s ON s.id = r.source"
    " WHERE r.fresh AND r.seq <= s.upto"
    " ORDER BY r.offset IS NULL, r.n ON CONFLICT DO NOTHING",
    "INSERT INTO dead (service, topic, partition, offset, row_count,"
    " gone_count, record_count, ts_ms)"
    " SELECT service, topic, partition, offset, sum(gone IS 0),"
    " sum(gone IS 1), sum(gone IS NULL), max(ts_ms)"
    " FROM (SELECT service, topic, partition, offset, gone,"
    "  NULL AS ts_ms FROM dead_rows UNION ALL"
    "  SELECT service, dead_topic, dead_partition, dead_offset, NULL, ts_ms"
    "  FROM known"
    "  WHERE dead_topic IS NOT NULL AND topic = service || '.dead-letter')"
    " GROUP BY service, topic, partition, offset",
    "INSERT INTO numbers (n) WITH RECURSIVE up (n) AS (VALUES (1) UNION ALL"
    "  SELECT n + 1 FROM up WHERE n < (SELECT max(had) FROM"
    "   (SELECT partition + 1 AS had FROM partitions UNION ALL"
    "   SELECT partitions FROM placements))) SELECT n FROM up",
    "INSERT INTO placed_orders (order_id, created_count, cancelled_count, n)"
    " SELECT order_id, sum(type = 'order.created'),"
    " sum(type = 'order.cancelled'),"
    " coalesce(min(CASE type WHEN 'order.created' THEN n END), min(n))"
    " FROM known WHERE service = 'orders' AND topic = 'order-events'"
    " AND order_id IS NOT NULL GROUP BY order_id",
    "INSERT INTO heard (order_id, created, cancelled) SELECT order_id,"
    " min(CASE type WHEN 'order.created' THEN n END),"
    " max(CASE type WHEN 'order.cancelled' THEN n END)"
    " FROM seen WHERE service = 'inventory' AND order_id IS NOT NULL"
    " GROUP BY order_id",
    "INSERT INTO said (order_id, reserved, rejected, released, cancelled,"
    " least, most, item, other_item)"
    " SELECT order_id, sum(type = 'inventory.reserved'),"
    " sum(type = 'inventory.rejected'), sum(type = 'inventory.released'),"
    " sum(type = 'inventory.cancelled'),"
    " min(quantity), max(quantity), min(item), max(item)"
    " FROM known WHERE service = 'inventory' AND topic = 'inventory-events'"
    " AND order_id IS NOT NULL GROUP BY order_id",
    "INSERT INTO answers (order_id, reserved, rejected, cancelled)"
    " SELECT order_id, min(CASE type WHEN 'inventory.reserved' THEN n END),"
    " min(CASE type WHEN 'inventory.rejected' THEN n END),"
    " min(CASE WHEN type = 'inventory.released'"
    "  OR type = 'inventory.cancelled' THEN n END)"
    " FROM seen WHERE service = 'orders' AND order_id IS NOT NULL"
    " GROUP BY order_id",
    "INSERT INTO due (order_id, outcome, ts_ms)"
    " SELECT s.order_id, x.outcome, min(s.ts_ms)"
    " FROM seen s JOIN outcomes x ON x.type = s.type"
    " WHERE s.service = 'notifications' AND s.order_id IS NOT NULL"
    " GROUP BY s.order_id, x.outcome",
    /* Below this seq, retention has deleted what a service issued. */
    "INSERT INTO bounds (service, seq)"
    " SELECT f.service, max(CASE WHEN p.topic IS NULL THEN 0"
    "  ELSE coalesce((SELECT min(k.seq) - 1 FROM known k"
    "   WHERE k.service = f.service AND k.topic = p.topic"
    "   AND k.partition = p.partition), t.seq) END)"
    " FROM files f LEFT JOIN tails t ON t.service = f.service"
    " LEFT JOIN partitions p ON p.topic = t.topic"
    "  AND p.partition = t.partition AND p.first > 0"
    " GROUP BY f.service",
    /* What the next record of the source doesn't name as its predecessor. */
    "INSERT INTO hidden (source, topic, partition, after, upto)"
    " SELECT r.source, r.topic, r.partition, max(r.before, 0),"
    "  r.predecessor"
    " FROM records r WHERE r.fresh AND r.offset IS NOT NULL"
    "  AND r.predecessor > max(r.before, 0)"
    "  AND EXISTS (SELECT 1 FROM unread u WHERE u.topic = r.topic"
    "   AND u.partition = r.partition AND u.next <= r.offset"
    "   AND u.first > coalesce((SELECT max(e.offset) FROM records e"
    "    WHERE e.source = r.source AND e.seq = r.before AND e.fresh"
    "    AND e.topic = r.topic AND e.partition = r.partition), -1))",
    /* Or, if there is no next one, what was issued. */
    "INSERT INTO hidden (source, topic, partition, after, upto)"
    " SELECT * FROM (SELECT DISTINCT s.id, u.topic, u.partition,"
    "  coalesce((SELECT max(r.seq) FROM records r WHERE r.source = s.id"
    "   AND r.topic = u.topic AND r.partition = u.partition"
    "   AND r.offset IS NOT NULL), 0) AS after,"
    "  CASE WHEN s.number = (SELECT max(number) FROM sources y"
    "   WHERE y.service = s.service) THEN t.seq ELSE s.upto END AS upto"
    "  FROM unread u JOIN tails t ON t.topic = u.topic"
    "   AND t.partition = u.partition"
    "  JOIN sources s ON s.service = t.service AND s.number IS NOT NULL"
    "  WHERE NOT EXISTS (SELECT 1 FROM records r WHERE r.source = s.id"
    "   AND r.topic = u.topic AND r.partition = u.partition"
    "   AND r.offset >= u.next AND r.fresh))"
    " WHERE upto > after",
    "WITH RECURSIVE span (service, seq, upto) AS (SELECT f.service,"
    "  h.after + 1, min(h.upto, f.issued) FROM hidden h"
    "  JOIN sources s ON s.id = h.source"
    "  JOIN files f ON f.service = s.service"
    "  WHERE h.after < f.issued UNION"
    "  SELECT service, seq + 1, upto FROM span WHERE seq < upto)"
    " INSERT INTO hidden_seqs (service, seq)"
    " SELECT DISTINCT service, seq FROM span x WHERE NOT EXISTS"
    "  (SELECT 1 FROM sources s JOIN emitted e ON e.source = s.id"
    "   WHERE s.service = x.service AND e.seq = x.seq)",
    NULL,
};

/*
 * What can't be read is no offence: where a record's place or seq says that it
 * may be that, the queries leave it out, and otherwise they name the topic of
 * the record that is missing, and as many are excused as can't be read of it.
 */

/* Whether that place, or that seq, is among what can't be read. */
#define UNREAD(t, p, o)                                     \
	"EXISTS (SELECT 1 FROM unread u WHERE u.topic = " t \
	" AND u.partition = " p " AND u.first <= " o " AND " o " < u.next)"
#define HIDDEN(s, t, p, q)                                              \
	"EXISTS (SELECT 1 FROM hidden h WHERE h.source = " s            \
	" AND h.topic = " t " AND h.partition = " p " AND h.after < " q \
	" AND " q " <= h.upto)"
/* How many records of a topic can't be read. */
#define UNREAD_OF(topic)                                     \
	"(SELECT coalesce(sum(next - first), 0) FROM unread" \
	" WHERE topic = '" topic "')"

/* ---- what must hold -------------------------------------------------------- */

/* A record's place as text, by the alias of its table. */
#define AT_R "r.topic || '/' || r.partition || '/' || r.offset"
#define AT_S "s.topic || '/' || s.partition || '/' || s.offset"
#define AT_T "t.topic || '/' || t.partition || '/' || t.offset"
#define AT_D "d.topic || '/' || d.partition || '/' || d.offset"

static const char sql_acknowledged_offenders[] =
    "SELECT 'order ' || a.id || ' was acknowledged and is not there'"
    " FROM acknowledged a LEFT JOIN orders o ON o.id = a.id"
    " WHERE o.id IS NULL ORDER BY a.id";

static const char sql_orders_offenders[] =
    "SELECT 'order ' || id || ' has the status ' || status FROM orders"
    " WHERE status NOT IN ('CONFIRMED', 'REJECTED', 'CANCELLED', 'PENDING')";
static const char sql_orders_counts[] =
    "SELECT count(*) || ' = ' || sum(status = 'CONFIRMED') || ' confirmed + '"
    " || sum(status = 'REJECTED') || ' rejected + '"
    " || sum(status = 'CANCELLED') || ' cancelled + '"
    " || sum(status = 'PENDING') || ' pending' FROM orders"
    " HAVING count(*) > 0";

static const char sql_pending_offenders[] =
    "SELECT 'order ' || id || ' is still PENDING',"
    " CASE WHEN NOT EXISTS (SELECT 1 FROM answers h WHERE h.order_id = id)"
    "  THEN 'order-events inventory-events' END"
    " FROM orders WHERE status = 'PENDING' ORDER BY id";

static const char sql_announced_offenders[] =
    "SELECT 'order ' || coalesce(o.id, p.order_id) || CASE"
    "  WHEN o.id IS NULL THEN ' was announced and is not in the file'"
    "  WHEN coalesce(p.created_count, 0) = 0 THEN ' was never announced'"
    "  WHEN p.created_count > 1 THEN ' was announced ' || p.created_count"
    "   || ' times'"
    "  WHEN p.cancelled_count > 1 THEN ' was cancelled '"
    "   || p.cancelled_count || ' times'"
    "  ELSE ' is ' || o.quantity || ' ' || o.item || ', announced as '"
    "   || r.quantity || ' ' || r.item END,"
    " CASE WHEN o.id IS NOT NULL AND coalesce(p.created_count, 0) = 0"
    "  THEN 'order-events' END"
    " FROM orders o FULL JOIN placed_orders p ON p.order_id = o.id"
    " LEFT JOIN records r ON r.n = p.n"
    " WHERE o.id IS NULL OR p.order_id IS NULL OR p.created_count != 1"
    "  OR p.cancelled_count > 1 OR r.quantity != o.quantity"
    "  OR r.item != o.item";

static const char sql_status_offenders[] =
    "WITH expected AS (SELECT o.id, o.status, CASE"
    "  WHEN coalesce(p.cancelled_count, 0) > 0"
    "   OR h.cancelled IS NOT NULL THEN 'CANCELLED'"
    "  WHEN h.rejected IS NOT NULL AND (h.reserved IS NULL"
    "   OR h.rejected < h.reserved) THEN 'REJECTED'"
    "  WHEN h.reserved IS NOT NULL THEN 'CONFIRMED'"
    "  ELSE 'PENDING' END AS status_due"
    "  FROM orders o LEFT JOIN answers h ON h.order_id = o.id"
    "  LEFT JOIN placed_orders p ON p.order_id = o.id)"
    " SELECT 'order ' || id || ' is ' || status || ', its events say '"
    "  || status_due, CASE WHEN status = 'CANCELLED'"
    "   THEN 'order-events inventory-events'"
    "  WHEN status_due = 'PENDING' THEN 'inventory-events' END"
    " FROM expected WHERE status != status_due";

static const char sql_trace_offenders[] =
    "SELECT 'order ' || t.order_id || ' names ' || " AT_T " || ', where"
    " no ' || t.type || ' of it is'"
    " FROM trace t JOIN partitions p ON p.topic = t.topic"
    "  AND p.partition = t.partition AND t.offset >= p.first"
    " LEFT JOIN records r ON r.topic = t.topic AND r.partition = t.partition"
    "  AND r.offset = t.offset"
    " WHERE (r.n IS NULL OR r.order_id IS NOT t.order_id"
    "  OR r.type IS NOT t.type)"
    "  AND NOT " UNREAD("t.topic", "t.partition",
	"t.offset") " UNION ALL"
		    " SELECT 'order ' || s.order_id || ' has no trace of ' || s.type"
		    "  || ' at ' || " AT_S
		    " FROM seen s JOIN orders o ON o.id = s.order_id"
		    " LEFT JOIN trace t ON t.order_id = s.order_id AND t.topic = s.topic"
		    "  AND t.partition = s.partition AND t.offset = s.offset"
		    " WHERE s.service = 'orders' AND t.order_id IS NULL"
		    /* Of a repeat, the first may be what can't be read. */
		    "  AND NOT EXISTS (SELECT 1 FROM trace f WHERE f.topic = s.topic"
		    "   AND f.order_id = s.order_id AND f.type = s.type"
		    "   AND f.partition = s.partition"
		    "   AND " UNREAD("f.topic", "f.partition", "f.offset") ")";

static const char sql_decisions_offenders[] =
    "SELECT 'order ' || coalesce(v.order_id, h.order_id) || CASE"
    "  WHEN v.order_id IS NULL THEN ' was created at ' || " AT_R
    "   || ' and inventory has not decided on it'"
    "  WHEN h.created IS NULL THEN ' is ' || v.status"
    "   || ', but no event below the position created it'"
    "  WHEN h.cancelled > h.created AND v.status = 'reserved'"
    "   THEN ' was cancelled and is still reserved'"
    "  WHEN v.status = 'released' AND NOT coalesce(h.cancelled, 0)"
    "   > h.created THEN ' is released, but was never cancelled'"
    "  ELSE ' of ' || r.quantity || ' ' || r.item || ' is decided as '"
    "   || v.quantity || ' ' || v.item END,"
    " CASE WHEN v.order_id IS NOT NULL AND (h.created IS NULL"
    "   OR (v.status = 'released' AND h.cancelled IS NULL"
    "    AND r.quantity = v.quantity AND r.item = v.item))"
    "  THEN 'order-events' END"
    " FROM reservations v FULL JOIN heard h ON h.order_id = v.order_id"
    " LEFT JOIN records r ON r.n = h.created"
    " WHERE (v.order_id IS NULL AND h.created IS NOT NULL)"
    "  OR (v.order_id IS NOT NULL AND (h.created IS NULL"
    "   OR (h.cancelled > h.created AND v.status = 'reserved')"
    "   OR (v.status = 'released'"
    "    AND NOT coalesce(h.cancelled, 0) > h.created)"
    "   OR r.quantity != v.quantity OR r.item != v.item))";

static const char sql_outcomes_offenders[] =
    "SELECT 'order ' || coalesce(v.order_id, s.order_id) || ' is '"
    "  || coalesce(v.status || ' (' || v.quantity || ' ' || v.item || ')',"
    "   'not known') || ', its events say ' || coalesce(s.reserved"
    "  || ' reserved, ' || s.rejected || ' rejected, ' || s.released"
    "  || ' released, ' || s.cancelled || ' cancelled (' || s.least || ' '"
    "  || s.item || ')', 'nothing'),"
    " CASE WHEN s.order_id IS NULL THEN 'inventory-events'"
    "  WHEN s.reserved > (v.status != 'rejected')"
    "   OR s.rejected > (v.status = 'rejected')"
    "   OR s.released > (v.status = 'released') OR s.least != v.quantity"
    "   OR s.most != v.quantity OR s.item != v.item"
    "   OR s.other_item != v.item THEN NULL"
    "  WHEN s.cancelled <= (v.status = 'rejected'"
    "   AND coalesce(h.cancelled, 0) > h.created) THEN 'inventory-events'"
    "  WHEN v.status = 'rejected' AND s.cancelled = 1"
    "   AND (h.created IS NULL OR h.cancelled IS NULL)"
    "   THEN 'order-events' END"
    " FROM reservations v FULL JOIN said s ON s.order_id = v.order_id"
    " LEFT JOIN heard h ON h.order_id = v.order_id"
    " WHERE v.order_id IS NULL OR s.order_id IS NULL"
    "  OR s.reserved != (v.status != 'rejected')"
    "  OR s.rejected != (v.status = 'rejected')"
    "  OR s.released != (v.status = 'released')"
    "  OR s.cancelled > (v.status = 'rejected'"
    "   AND coalesce(h.cancelled, 0) > h.created) OR s.least != v.quantity"
    "  OR s.most != v.quantity OR s.item != v.item OR s.other_item != v.item";

static const char sql_stock_offenders[] =
    "WITH held AS (SELECT item, sum(quantity) AS quantity FROM reservations"
    "  WHERE status = 'reserved' GROUP BY item),"
    " came AS (SELECT item, sum(quantity) AS quantity FROM"
    "  (SELECT item, received AS quantity FROM catalogue UNION ALL"
    "  SELECT item, delta FROM known WHERE service = 'inventory'"
    "   AND type = 'inventory.adjusted' AND good) GROUP BY item),"
    " items AS (SELECT item FROM inventory UNION SELECT item FROM held"
    "  UNION SELECT item FROM came)"
    " SELECT a.item || ': on hand ' || coalesce(i.on_hand, 'nothing')"
    "  || ' + reserved ' || coalesce(i.reserved, 'nothing') || ' = received '"
    "  || coalesce(i.received, 'nothing') || '; reservations hold '"
    "  || coalesce(h.quantity, 0) || ', events brought '"
    "  || coalesce(c.quantity, 0),"
    " CASE WHEN i.on_hand >= 0 AND i.reserved >= 0"
    "  AND i.on_hand + i.reserved = i.received"
    "  AND i.reserved = coalesce(h.quantity, 0)"
    "  THEN 'inventory-events' END"
    " FROM items a LEFT JOIN inventory i ON i.item = a.item"
    " LEFT JOIN held h ON h.item = a.item LEFT JOIN came c ON c.item = a.item"
    " WHERE i.item IS NULL OR i.on_hand < 0 OR i.reserved < 0"
    "  OR i.on_hand + i.reserved != i.received"
    "  OR i.reserved != coalesce(h.quantity, 0)"
    "  OR i.received != coalesce(c.quantity, 0)";

static const char sql_history_offenders[] =
    "WITH moves AS (SELECT k.seq, k.item, k.type, k.quantity, k.on_hand,"
    "  k.order_id, CASE k.type WHEN 'inventory.adjusted' THEN k.delta"
    "   WHEN 'inventory.reserved' THEN -k.quantity"
    "   WHEN 'inventory.released' THEN k.quantity ELSE 0 END AS moved"
    "  FROM known k WHERE k.service = 'inventory'"
    "  AND k.topic = 'inventory-events' AND k.good"
    /* The level isn't known beyond a move that can't be read. */
    "  AND k.seq < coalesce((SELECT min(seq) FROM hidden_seqs"
    "   WHERE service = 'inventory'), k.seq + 1)),"
    " levels AS (SELECT m.*, coalesce(c.received, 0) + sum(m.moved) OVER"
    "  (PARTITION BY m.item ORDER BY m.seq) AS level"
    "  FROM moves m LEFT JOIN catalogue c ON c.item = m.item)"
    " SELECT item || ' has ' || level || ' on hand after seq ' || seq || ', '"
    "  || type || coalesce(' of order ' || order_id, '') || CASE"
    "  WHEN type = 'inventory.adjusted' AND level >= 0"
    "   THEN ', which says ' || on_hand"
    "  WHEN type = 'inventory.rejected' THEN ' (' || quantity || ' wanted)'"
    "  ELSE '' END FROM levels"
    " WHERE level < 0 OR (type = 'inventory.adjusted' AND level != on_hand)"
    "  OR (type = 'inventory.rejected' AND level >= quantity)";

static const char sql_causes_offenders[] =
    "SELECT k.type || ' of order ' || k.order_id || ' (seq ' || k.seq"
    "  || ') names ' || coalesce(k.cause_topic || '/' || k.cause_partition"
    "   || '/' || k.cause_offset, 'nothing') || ' as its cause'"
    " FROM known k JOIN outcomes x ON x.type = k.type"
    " LEFT JOIN seen c ON c.service = 'inventory'"
    "  AND c.topic = k.cause_topic AND c.partition = k.cause_partition"
    "  AND c.offset = k.cause_offset"
    " WHERE k.service = 'inventory' AND k.order_id IS NOT NULL"
    "  AND (c.n IS NULL OR c.order_id IS NOT k.order_id"
    "   OR c.type IS NOT x.cause)"
    "  AND NOT " UNREAD("coalesce(k.cause_topic, '')", "k.cause_partition",
	"k.cause_offset");

static const char sql_notifications_offenders[] =
    "WITH sent AS (SELECT seq AS count FROM cursors"
    "  WHERE service = 'notifications')"
    " SELECT CASE WHEN n.order_id IS NULL"
    "  THEN 'no notification that order ' || d.order_id || ' is '"
    "   || d.outcome"
    "  ELSE 'a notification that order ' || n.order_id || ' is '"
    "   || n.outcome || ', which no event says' END,"
    " CASE WHEN d.order_id IS NULL THEN 'inventory-events' END"
    " FROM due d FULL JOIN notifications n ON n.order_id = d.order_id"
    "  AND n.outcome = d.outcome"
    " JOIN expiry e ON e.what = 'notifications'"
    " WHERE d.order_id IS NULL OR (n.order_id IS NULL"
    "  AND d.ts_ms >= e.before_ms)"
    " UNION ALL SELECT sent.count || ' notifications were sent, of '"
    "  || (SELECT count(*) FROM due) || ' outcomes', NULL FROM sent"
    "  WHERE sent.count - (SELECT count(*) FROM due)"
    "   NOT BETWEEN 0 AND " UNREAD_OF(
	"inventory-events") " UNION ALL"
			    " SELECT count(*) || ' notifications have seq ' || seq, NULL"
			    "  FROM notifications GROUP BY seq HAVING count(*) > 1"
			    "  OR seq > (SELECT count FROM sent)";

static const char sql_prices_offenders[] =
    "WITH due AS (SELECT count(*) AS count FROM seen"
    "  WHERE service = 'prices' AND good),"
    " done AS (SELECT seq AS count FROM cursors WHERE service = 'prices')"
    " SELECT done.count || ' prices were applied, of ' || due.count"
    "  || ' below the positions' FROM due, done"
    "  WHERE done.count - due.count"
    "   NOT BETWEEN 0 AND " UNREAD_OF(
	"stock-prices") " UNION ALL"
			" SELECT symbol || ' was last changed by price ' || seq"
			"  || ', of ' || done.count FROM symbols, done WHERE seq > done.count"
			" UNION ALL SELECT 'no symbol was changed by the last price, '"
			"  || done.count FROM done WHERE done.count > 0"
			"  AND NOT EXISTS (SELECT 1 FROM symbols WHERE seq = done.count)";

static const char sql_positions_offenders[] =
    "SELECT p.service || ' is at ' || p.topic || '/' || p.partition || '/'"
    "  || p.next_offset || CASE WHEN t.topic IS NULL THEN ', no such topic'"
    "  WHEN t.topic_id != p.topic_id THEN ' of ' || p.topic_id"
    "   || ', the topic was made anew as ' || t.topic_id"
    "  WHEN q.partition IS NULL THEN ', no such partition'"
    "  WHEN p.next_offset > q.next THEN ', the log ends at ' || q.next"
    "  ELSE ', the log begins at ' || q.first END"
    " FROM positions p LEFT JOIN topics t ON t.topic = p.topic"
    " LEFT JOIN partitions q ON q.topic = p.topic"
    "  AND q.partition = p.partition"
    " WHERE t.topic IS NULL OR t.topic_id != p.topic_id"
    "  OR q.partition IS NULL OR p.next_offset > q.next"
    "  OR p.next_offset < q.first";

/* A mark may be above what was seen only where somebody accepted a gap: then
 * it is what the next record names as its predecessor, or was carried over
 * to a new topic. */
static const char sql_marks_offenders[] =
    "WITH due AS (SELECT s.service, x.source, x.id, t.topic, t.topic_id,"
    "  s.partition, max(s.seq) AS seq FROM seen s"
    "  JOIN sources x ON x.id = s.source JOIN topics t ON t.topic = s.topic"
    "  GROUP BY s.service, x.id, t.topic_id, s.partition)"
    " SELECT coalesce(d.service, m.service) || ' has for '"
    "  || coalesce(d.source, m.source) || ' in '"
    "  || coalesce(d.topic, t.topic) || '/'"
    "  || coalesce(d.partition, m.partition) || coalesce(' the mark '"
    "  || m.seq, ' no mark') || coalesce(', has seen it up to ' || d.seq,"
    "  ', has seen nothing of it')"
    " FROM due d FULL JOIN marks m ON m.service = d.service"
    "  AND m.source = d.source AND m.topic_id = d.topic_id"
    "  AND m.partition = d.partition"
    " LEFT JOIN topics t ON t.topic_id = m.topic_id"
    " LEFT JOIN sources x ON x.source = m.source"
    " WHERE m.seq IS NULL OR m.seq < d.seq"
    "  OR (m.seq > d.seq AND NOT EXISTS (SELECT 1 FROM records r"
    "   WHERE r.source = d.id AND r.topic = d.topic"
    "   AND r.partition = d.partition AND r.offset IS NOT NULL"
    "   AND r.predecessor = m.seq)"
    "   AND NOT " HIDDEN("d.id", "d.topic", "d.partition",
	"m.seq") ")"
		 "  OR (d.seq IS NULL AND t.topic IS NOT NULL AND (m.seq > x.upto"
		 "   OR EXISTS (SELECT 1 FROM records r WHERE r.source = x.id"
		 "    AND r.topic = t.topic AND r.partition = m.partition"
		 "    AND r.offset IS NOT NULL AND r.seq <= m.seq))"
		 "   AND NOT " HIDDEN("x.id", "t.topic", "m.partition",
		     "m.seq") ")";

static const char sql_dead_offenders[] =
    /* What can't be applied is a dead letter. */
    "SELECT s.service || ' has passed ' || " AT_S " || ', which can''t"
    " be applied, and has no dead letter of it',"
    " s.service || '.dead-letter'"
    " FROM seen s JOIN inputs i ON i.service = s.service"
    "  AND i.topic = s.topic"
    " LEFT JOIN dead d ON d.service = s.service AND d.topic = s.topic"
    "  AND d.partition = s.partition AND d.offset = s.offset"
    " WHERE NOT s.good AND d.service IS NULL"
    /* A dead letter is of a record that was consumed. */
    " UNION ALL SELECT d.service || ' has a dead letter of ' || " AT_D
    "  || CASE WHEN p.topic IS NULL THEN ', which is above its position'"
    "  ELSE ', where no record is that was its to apply' END, NULL"
    " FROM dead d JOIN partitions q ON q.topic = d.topic"
    "  AND q.partition = d.partition AND d.offset >= q.first"
    " LEFT JOIN positions p ON p.service = d.service AND p.topic = d.topic"
    "  AND p.partition = d.partition AND p.next_offset > d.offset"
    " LEFT JOIN records r ON r.topic = d.topic AND r.partition = d.partition"
    "  AND r.offset = d.offset AND r.fresh"
    " WHERE p.topic IS NULL OR (r.n IS NULL"
    "  AND NOT " UNREAD("d.topic", "d.partition",
	"d.offset") ")"
		    /* The rows and the topic say the same. */
		    " UNION ALL SELECT d.service || ' has ' || d.row_count || ' rows'"
		    "  || CASE d.gone_count WHEN 0 THEN '' ELSE ' (and ' || d.gone_count"
		    "   || ' that went on purpose)' END || ' and '"
		    "  || d.record_count || ' records of the dead letter of ' || " AT_D
		    ", CASE WHEN d.row_count + d.gone_count > d.record_count"
		    "  THEN d.service || '.dead-letter' END"
		    " FROM dead d JOIN expiry x ON x.what = 'dead-letters'"
		    " WHERE d.row_count + d.gone_count > d.record_count"
		    "  OR (d.row_count + d.gone_count < d.record_count"
		    "   AND d.ts_ms >= x.before_ms)"
		    " UNION ALL SELECT f.service || ' has put away ' || f.dead_issued"
		    "  || ' dead letters, its topic has ' || coalesce(sum(d.record_count), 0)"
		    ", NULL"
		    " FROM files f LEFT JOIN dead d ON d.service = f.service"
		    " GROUP BY f.service"
		    " HAVING f.dead_issued - coalesce(sum(d.record_count), 0)"
		    "  NOT BETWEEN 0 AND (SELECT coalesce(sum(next - first), 0)"
		    "   FROM unread WHERE topic = f.service || '.dead-letter')";

static const char sql_sequence_offenders[] =
    "SELECT " AT_R " || ': seq ' || r.seq || ' of ' || s.source || CASE"
    "  WHEN NOT r.fresh THEN ' comes after ' || r.before"
    "   || ' and is no repeat'"
    "  WHEN r.predecessor > r.before THEN ' names ' || r.predecessor"
    "   || ' as its predecessor, which is missing after '"
    "   || max(r.before, 0)"
    "  ELSE ' names ' || r.predecessor || ' as its predecessor, but comes"
    " after ' || r.before END"
    " FROM records r JOIN sources s ON s.id = r.source"
    " JOIN partitions p ON p.topic = r.topic AND p.partition = r.partition"
    " WHERE r.offset IS NOT NULL AND CASE WHEN r.fresh"
    "  THEN r.predecessor != max(r.before, 0)"
    "   AND NOT (r.before = -1 AND p.first > 0)"
    "   AND NOT EXISTS (SELECT 1 FROM hidden h WHERE h.source = r.source"
    "    AND h.topic = r.topic AND h.partition = r.partition"
    "    AND h.after = max(r.before, 0) AND h.upto = r.predecessor)"
    "  ELSE p.first = 0 AND NOT EXISTS (SELECT 1 FROM records e"
    "   WHERE e.source = r.source AND e.seq = r.seq AND e.n < r.n"
    "   AND e.offset IS NOT NULL AND e.topic = r.topic"
    "   AND e.partition = r.partition AND e.digest = r.digest"
    "   AND e.predecessor = r.predecessor)"
    "   AND NOT " HIDDEN("r.source", "r.topic", "r.partition", "r.seq") " END";
static const char sql_sequence_counts[] =
    "SELECT sum(NOT fresh) || ' repeats' FROM records"
    " WHERE source IS NOT NULL HAVING sum(NOT fresh) > 0";

/*
 * By the count that its maker had.  Where no file says it, some count has to do
 * that the topic may have had: those before it were placed in partitions that
 * were there (`least`), and partitions are only added (`most`); but for a topic
 * that has fewer now, since it was made anew.
 */
static const char sql_placed_offenders[] =
    "SELECT " AT_R " || ': its key belongs to partition '"
    "  || r.hash % r.known || ' of ' || r.known"
    " FROM placing r WHERE r.issued AND r.known > 0"
    "  AND r.hash % r.known != r.partition"
    " UNION ALL SELECT " AT_R " || ': its key belongs to another partition,'"
    "  || ' of however many'"
    " FROM (SELECT p.*, max(coalesce(p.known, 1), 1 + max(p.partition) OVER"
    "   (PARTITION BY p.source, p.topic ORDER BY p.seq)) AS least,"
    "   CASE WHEN p.issued AND p.soonest IS NOT NULL THEN p.soonest"
    "    ELSE (SELECT max(q.partition) + 1 FROM partitions q"
    "     WHERE q.topic = p.topic) END AS most"
    "  FROM placing p WHERE NOT p.issued OR p.known IS NULL) r"
    " WHERE NOT EXISTS (SELECT 1 FROM placements w WHERE"
    "   w.service = r.service AND w.topic = r.topic AND w.partitions = 0)"
    "  AND NOT EXISTS (SELECT 1 FROM numbers i WHERE i.n BETWEEN CASE"
    "    WHEN r.least <= r.most THEN r.least ELSE 1 END AND"
    "    max(r.least, r.most) AND r.hash % i.n = r.partition)"
    " UNION ALL SELECT 'seq ' || r.seq || ' of ' || s.source"
    "  || ' is in several partitions'"
    " FROM records r JOIN sources s ON s.id = r.source"
    " WHERE r.fresh GROUP BY r.source, r.seq"
    " HAVING min(r.topic || '/' || r.partition)"
    "  != max(r.topic || '/' || r.partition)";

static const char sql_issued_offenders[] =
    "WITH seqs AS (SELECT e.service, e.seq FROM emitted e UNION ALL"
    "  SELECT service, seq FROM hidden_seqs UNION ALL"
    "  SELECT service, issued + 1 FROM files),"
    " steps AS (SELECT q.service, q.seq, lag(q.seq, 1, b.seq) OVER"
    "  (PARTITION BY q.service ORDER BY q.seq) AS previous"
    "  FROM seqs q JOIN bounds b ON b.service = q.service"
    "  WHERE q.seq > b.seq)"
    " SELECT service || ' has issued seq ' || (previous + 1) || CASE"
    "  WHEN seq - previous > 2 THEN ' to ' || (seq - 1) ELSE '' END"
    "  || ', in no topic and not in its outbox'"
    " FROM steps WHERE seq > previous + 1"
    " UNION ALL SELECT t.service || ' has issued seq ' || t.seq || ' to '"
    "  || t.topic || '/' || t.partition || ', where the last is '"
    "  || coalesce((SELECT max(k.seq) FROM known k WHERE"
    "   k.service = t.service AND k.topic = t.topic"
    "   AND k.partition = t.partition), 'none')"
    " FROM tails t JOIN bounds b ON b.service = t.service"
    " WHERE t.seq > b.seq AND t.seq IS NOT (SELECT max(k.seq) FROM known k"
    "  WHERE k.service = t.service AND k.topic = t.topic"
    "  AND k.partition = t.partition)"
    "  AND NOT EXISTS (SELECT 1 FROM hidden h JOIN sources s"
    "   ON s.id = h.source WHERE s.service = t.service"
    "   AND h.topic = t.topic AND h.partition = t.partition"
    "   AND h.upto = t.seq)"
    " UNION ALL SELECT count(*) || ' seqs that services have issued are"
    " nowhere, and only ' || (SELECT sum(next - first) FROM unread)"
    "  || ' records can''t be read' FROM hidden_seqs"
    " HAVING count(*) > (SELECT sum(next - first) FROM unread)";
static const char sql_issued_counts[] =
    "SELECT count(*) || ' records on topics are of a file that was put back'"
    " FROM records r JOIN sources s ON s.id = r.source"
    " WHERE r.fresh AND r.offset IS NOT NULL AND r.seq > s.upto"
    "  AND s.number < (SELECT max(number) FROM sources y"
    "   WHERE y.service = s.service)"
    " HAVING count(*) > 0";

/* Of sources whose service has a file here. */
static const char sql_foreign_offenders[] =
    "SELECT " AT_R " || ': seq ' || r.seq || ' of ' || s.source || CASE"
    "  WHEN s.number IS NULL THEN ', an id that ' || f.path || ' never had'"
    "  ELSE ', but ' || f.path || ' has issued only up to ' || f.issued END"
    " FROM records r JOIN sources s ON s.id = r.source"
    " JOIN partitions p ON p.topic = r.topic AND p.partition = r.partition"
    " JOIN files f ON f.service = s.service"
    " WHERE r.fresh AND r.offset < p.middle AND (s.number IS NULL"
    "  OR (r.seq > s.upto AND s.number = (SELECT max(number) FROM sources y"
    "   WHERE y.service = s.service)))";

static const char sql_foreign_counts[] =
    "SELECT count(*) || ' of ' || group_concat(DISTINCT s.service)"
    "  || ' not judged, without their files'"
    " FROM records r JOIN sources s ON s.id = r.source"
    " WHERE r.offset IS NOT NULL AND NOT EXISTS"
    "  (SELECT 1 FROM files f WHERE f.service = s.service)"
    " HAVING count(*) > 0";
static const char sql_foreign_unless[] =
    "SELECT 'no file of ' || group_concat(DISTINCT s.service) || ' is told of'"
    " FROM records r JOIN sources s ON s.id = r.source"
    " LEFT JOIN files f ON f.service = s.service"
    " WHERE r.offset IS NOT NULL"
    " HAVING count(*) > 0 AND count(f.service) = 0";

static const char sql_outbox_offenders[] =
    "SELECT s.service || ' has seq ' || o.seq || ' in its outbox for '"
    "  || o.topic || '/' || o.partition || CASE"
    "  WHEN o.seq > f.issued THEN ', but has issued only up to ' || f.issued"
    "  ELSE ', another record than at ' || " AT_R " END"
    " FROM records o JOIN sources s ON s.id = o.source"
    " JOIN files f ON f.service = s.service"
    " LEFT JOIN records r ON r.source = o.source AND r.seq = o.seq"
    "  AND r.offset IS NOT NULL"
    " WHERE o.offset IS NULL AND (o.seq > f.issued OR r.topic != o.topic"
    "  OR r.partition != o.partition OR r.digest != o.digest"
    "  OR r.predecessor != o.predecessor)"
    " UNION ALL SELECT service || ' has seq ' || seq || ' for ' || topic"
    "  || '/' || partition || ' with the predecessor ' || predecessor"
    "  || ', not ' || previous"
    " FROM (SELECT k.*, p.first, lag(k.seq, 1, 0) OVER (PARTITION BY"
    "   k.source, k.topic, k.partition ORDER BY k.seq) AS previous"
    "  FROM known k LEFT JOIN partitions p ON p.topic = k.topic"
    "   AND p.partition = k.partition) w"
    " WHERE offset IS NULL AND predecessor != previous"
    "  AND NOT (previous = 0 AND coalesce(first, 0) > 0)"
    "  AND NOT EXISTS (SELECT 1 FROM hidden h WHERE h.source = w.source"
    "   AND h.topic = w.topic AND h.partition = w.partition"
    "   AND h.after = previous AND predecessor <= h.upto)";

static const char sql_drained_offenders[] =
    "SELECT f.service || ' has ' || count(*) || ' records in its outbox'"
    " FROM records o JOIN sources s ON s.id = o.source"
    " JOIN files f ON f.service = s.service WHERE o.offset IS NULL"
    " GROUP BY f.service"
    " UNION ALL SELECT f.service || ' is at ' || coalesce(p.next_offset,"
    "  'no position') || ' of ' || q.next || ' in ' || q.topic || '/'"
    "  || q.partition"
    " FROM files f JOIN inputs i ON i.service = f.service"
    " JOIN partitions q ON q.topic = i.topic JOIN topics t"
    "  ON t.topic = q.topic"
    " LEFT JOIN positions p ON p.service = f.service"
    "  AND p.topic_id = t.topic_id AND p.partition = q.partition"
    " WHERE q.next > q.first AND p.next_offset IS NOT q.next";

#define COUNT(table) "SELECT count(*) FROM " table

const struct check_invariant check_invariants[] = {
    {.name = "acknowledged",
	.says = "every acknowledged order exists",
	.needs = {"orders"},
	.acknowledged = 1,
	.judged = COUNT("acknowledged"),
	.offenders = sql_acknowledged_offenders},
    {.name = "orders",
	.says = "orders = confirmed + rejected + cancelled + pending",
	.needs = {"orders"},
	.judged = COUNT("orders"),
	.counts = sql_orders_counts,
	.offenders = sql_orders_offenders},
    {.name = "pending",
	.says = "no order is pending any more",
	.needs = {"orders"},
	.settled = 1,
	.judged = COUNT("orders"),
	.offenders = sql_pending_offenders},
    {.name = "announced",
	.says = "each order was announced exactly once, as it is",
	.needs = {"orders"},
	.topics = {"order-events"},
	.judged = COUNT("orders"),
	.offenders = sql_announced_offenders},
    {.name = "statuses",
	.says = "each order's status is what its events say",
	.needs = {"orders"},
	.topics = {"order-events", "inventory-events"},
	.judged = COUNT("orders"),
	.offenders = sql_status_offenders},
    {.name = "trace",
	.says = "each order's trace names its events, and all of them",
	.needs = {"orders"},
	.topics = {"order-events", "inventory-events"},
	.judged = COUNT("trace"),
	.offenders = sql_trace_offenders},
    {.name = "decisions",
	.says = "inventory decided once on each order that it has seen",
	.needs = {"inventory"},
	.topics = {"order-events"},
	.judged = COUNT("reservations"),
	.offenders = sql_decisions_offenders},
    {.name = "outcomes",
	.says = "inventory announced each decision exactly once",
	.needs = {"inventory"},
	.topics = {"inventory-events"},
	.judged = COUNT("reservations"),
	.offenders = sql_outcomes_offenders},
    {.name = "causes",
	.says = "each decision names the event that it answers",
	.needs = {"inventory"},
	.topics = {"order-events", "inventory-events"},
	.judged = COUNT("reservations"),
	.offenders = sql_causes_offenders},
    {.name = "stock",
	.says = "on hand + reserved = catalogue + restocked, by item",
	.needs = {"inventory"},
	.topics = {"inventory-events"},
	.judged = COUNT("inventory"),
	.offenders = sql_stock_offenders},
    {.name = "stock-history",
	.says = "stock was never below zero, nor refused while there",
	.needs = {"inventory"},
	.topics = {"inventory-events"},
	.judged = COUNT("known WHERE service = 'inventory'"),
	.offenders = sql_history_offenders},
    {.name = "notifications",
	.says = "exactly one notification for each outcome",
	.needs = {"notifications"},
	.topics = {"inventory-events"},
	.judged = COUNT("notifications"),
	.offenders = sql_notifications_offenders},
    {.name = "prices",
	.says = "each price was applied exactly once",
	.needs = {"prices"},
	.topics = {"stock-prices"},
	.judged = "SELECT seq FROM cursors WHERE service = 'prices'",
	.offenders = sql_prices_offenders},
    {.name = "positions",
	.says = "positions are within the logs that they are of",
	.judged = COUNT("positions"),
	.offenders = sql_positions_offenders},
    {.name = "marks",
	.says = "marks are the last seen of each source, none above",
	.judged = COUNT("marks"),
	.offenders = sql_marks_offenders},
    {.name = "dead-letters",
	.says = "dead letters are on file, on their topic, and deserved",
	.judged = COUNT("dead"),
	.offenders = sql_dead_offenders},
    {.name = "sequence",
	.says = "seqs rise in each partition, no gap, but for repeats",
	.judged = COUNT("records WHERE source IS NOT NULL"
			" AND offset IS NOT NULL"),
	.counts = sql_sequence_counts,
	.offenders = sql_sequence_offenders},
    {.name = "placed",
	.says = "each record is in its key's partition, and only there",
	.judged = COUNT("records WHERE source IS NOT NULL"),
	.offenders = sql_placed_offenders},
    {.name = "issued",
	.says = "all that was issued is on its topic or in the outbox",
	.judged = "SELECT coalesce(sum(issued), 0) FROM files",
	.counts = sql_issued_counts,
	.offenders = sql_issued_offenders},
    {.name = "foreign",
	.says = "topics have nothing that no file issued",
	.unless = sql_foreign_unless,
	.judged = COUNT("records r JOIN sources s ON s.id = r.source"
			" JOIN files f ON f.service = s.service"
			" WHERE r.offset IS NOT NULL"),
	.counts = sql_foreign_counts,
	.offenders = sql_foreign_offenders},
    {.name = "outbox",
	.says = "outboxes go on where their topics end",
	.judged = COUNT("records WHERE offset IS NULL"),
	.offenders = sql_outbox_offenders},
    {.name = "drained",
	.says = "outboxes are empty, and all has been consumed",
	.settled = 1,
	.judged = COUNT("files"),
	.offenders = sql_drained_offenders},
    {.name = NULL},
};
