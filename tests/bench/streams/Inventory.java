import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Inventory's work as Kafka Streams does it: one thread, exactly_once_v2, its
 * state in RocksDB with changelog topics.
 *
 * <p>Inventory BROKERS ID STATE-FOLDER OUTPUT RECORDS. Reads order-events,
 * reserves, writes to OUTPUT; prints first_ms=, last_ms= and count=: the time
 * when the first record was committed and when all RECORDS were. Then it waits to be killed.
 */
public final class Inventory {
    private static final String SOURCE = "order-events";
    private static final String STOCK = "inventory";
    private static final String RESERVATIONS = "reservations";
    private static final long ON_HAND = 1_000_000_000L;
    private static final AtomicLong done = new AtomicLong();

    private static final class Reserve
            implements Processor<String, byte[], String, byte[]> {
        private final ObjectMapper json = new ObjectMapper();
        private final long records;
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, byte[]> stock;
        private KeyValueStore<String, byte[]> reservations;

        Reserve(long records) {
            this.records = records;
        }

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            stock = context.getStateStore(STOCK);
            reservations = context.getStateStore(RESERVATIONS);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            try {
                reserve(record);
            } catch (java.io.IOException e) {
                throw new java.io.UncheckedIOException(e);
            }
            if (done.incrementAndGet() == records) {
                context.commit();
            }
        }

        private void reserve(Record<String, byte[]> record)
                throws java.io.IOException {
            JsonNode order = json.readTree(record.value());
            String id = order.get("order_id").textValue();
            String item = order.get("item").textValue();
            long quantity = order.get("quantity").longValue();
            if (reservations.get(id) != null) {
                return;
            }
            byte[] row = stock.get(item);
            ObjectNode state = row == null
                    ? json.createObjectNode().put("on_hand", ON_HAND)
                    : (ObjectNode) json.readTree(row);
            boolean enough = state.get("on_hand").longValue() >= quantity;
            if (enough) {
                state.put("on_hand",
                        state.get("on_hand").longValue() - quantity);
                state.put("reserved",
                        state.path("reserved").longValue() + quantity);
                state.put("revision", state.path("revision").longValue() + 1);
                stock.put(item, json.writeValueAsBytes(state));
            }
            ObjectNode event = json.createObjectNode();
            event.put("order_id", id).put("item", item)
                    .put("quantity", quantity)
                    .put("ts_ms", order.get("ts_ms").longValue());
            byte[] value = json.writeValueAsBytes(event);
            reservations.put(id, value);
            RecordHeaders headers = new RecordHeaders();
            String type = enough ? "inventory.reserved" : "inventory.rejected";
            headers.add("ce_type", type.getBytes(StandardCharsets.UTF_8));
            headers.add("content-type",
                    "application/json".getBytes(StandardCharsets.UTF_8));
            context.forward(new Record<>(id, value, record.timestamp(),
                    headers));
        }
    }

    private static double commits(KafkaStreams streams) {
        for (Metric metric : streams.metrics().values()) {
            if (metric.metricName().name().equals("commit-total")
                    && metric.metricName().group()
                            .equals("stream-thread-metrics")) {
                return (Double) metric.metricValue();
            }
        }
        return 0;
    }

    /** Until a commit ended that began after now. */
    private static long committed(KafkaStreams streams)
            throws InterruptedException {
        double before = commits(streams);
        while (commits(streams) == before) {
            Thread.sleep(2);
        }
        return System.currentTimeMillis();
    }

    private static Topology topology(String output, long records) {
        Topology topology = new Topology();
        topology.addSource("orders", Serdes.String().deserializer(),
                Serdes.ByteArray().deserializer(), SOURCE);
        topology.addProcessor("reserve", () -> new Reserve(records),
                "orders");
        for (String name : List.of(STOCK, RESERVATIONS)) {
            topology.addStateStore(Stores.keyValueStoreBuilder(
                    Stores.persistentKeyValueStore(name), Serdes.String(),
                    Serdes.ByteArray()), "reserve");
        }
        topology.addSink("events", output, Serdes.String().serializer(),
                Serdes.ByteArray().serializer(), "reserve");
        return topology;
    }

    public static void main(String[] args) throws Exception {
        long records = Long.parseLong(args[4]);
        Properties conf = new Properties();
        conf.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        conf.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        conf.put(StreamsConfig.STATE_DIR_CONFIG, args[2]);
        conf.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
                StreamsConfig.EXACTLY_ONCE_V2);
        conf.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        conf.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        conf.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        try (Admin admin = Admin.create(conf)) {
            admin.createTopics(List.of(new NewTopic(args[3], 3, (short) 1)))
                    .all().get();
        }
        KafkaStreams streams = new KafkaStreams(topology(args[3], records),
                conf);
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            System.exit(1);
            return null;
        });
        streams.start();
        while (done.get() == 0) {
            Thread.sleep(2);
        }
        long first = committed(streams);
        long at = done.get();
        while (done.get() < records) {
            Thread.sleep(2);
        }
        long last = committed(streams);
        System.out.printf("first_ms=%d at_first=%d last_ms=%d%n", first, at,
                last);
        System.out.flush();
        Thread.currentThread().join();
    }
}
