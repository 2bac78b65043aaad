/*
 * metric-producer, driven: samples come once, whatever dies when; /proc is
 * read with care; simulated hosts follow the day, and have their anomalies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "testing/testing.h"

#include "../../cmd/metric-producer/fleet.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/metric-producer/machine.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/metric-producer/sample.c" /* NOLINT(bugprone-suspicious-include) */

int metric_producer_main(int argc, char **argv);
#define main metric_producer_main
#include "../../cmd/metric-producer/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main

static const char topic[] = "system-metrics";

static void
check_crashes(struct testing *t)
{
	struct mr_error err = {0};
	int crashes = 0;

	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
}

static void
simulated_samples_come_once_wherever_it_dies(void **state)
{
	static const char *const flags[] = {"--simulate=3", "--rate=60", NULL};
	struct testing *t = testing_open(&metric_producer, flags);
	const struct testing_record *record;
	struct mr_error err = {0};
	struct metric_event event;
	char host[EVENT_NAME_SIZE];
	int i;

	(void)state;
	testing_advance(t, 300);
	testing_restart(t);
	testing_advance(t, 300);
	assert_true(testing_emitted(t, topic) >= 25);
	assert_int_equal(testing_number(t, "SELECT samples FROM fleet"),
	    testing_emitted(t, topic));
	for (i = 0; i < testing_emitted(t, topic); i++) {
		record = testing_record(t, topic, i);
		if (metric_event_decode(record->value, strlen(record->value),
			&event, &err) != 0)
			fail_msg("%s: %s", record->value, err.message);
		snprintf(host, sizeof(host), "host-%d", 1 + i / METRICS % 3);
		assert_string_equal(event.host, host);
		assert_string_equal(record->key, host);
		assert_string_equal(event.metric, metric_names[i % METRICS]);
		assert_int_equal(event.ts_ms,
		    TESTING_START_MS + i / (3 * METRICS) * 1000);
	}
	check_crashes(t);
	testing_close(t);
}

/* ---- this host ------------------------------------------------------------------ */

static void
write_file(const char *folder, const char *name, const char *text)
{
	char path[96];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_non_null(f = fopen(path, "we"));
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void
a_host_is_sampled_from_its_proc(void **state)
{
	char folder[] = "/tmp/millrace-test-XXXXXX", flag[96], path[96];
	const char *const flags[] = {flag, "--host=h1", "--count=11", NULL};
	struct testing *t;
	int i;

	(void)state;
	assert_non_null(mkdtemp(folder));
	write_file(folder, "meminfo",
	    "MemTotal: 8000 kB\nMemAvailable: 6000 kB\n");
	write_file(folder, "loadavg", "1.25 0 0 1/200 4711\n");
	snprintf(flag, sizeof(flag), "--proc=%s", folder);
	producer_settings.rate = -1; /* the test before gave one */
	t = testing_open(&metric_producer, flags);
	testing_advance(t, 4000);
	assert_in_range(testing_emitted(t, topic), 8, 10);
	assert_string_equal(testing_record(t, topic, 0)->key, "h1");
	assert_string_equal(testing_record(t, topic, 0)->value,
	    "{\"host\":\"h1\",\"metric\":\"memory_percent\",\"value\":25.000,"
	    "\"ts_ms\":1800000000000}");
	assert_non_null(strstr(testing_record(t, topic, 1)->value,
	    "\"metric\":\"load_1m\",\"value\":1.250,"));
	check_crashes(t);
	/* It ends where it was to, in the midst of a look.  One more and the
	 * program ends, which the driver takes for a failure. */
	for (i = 0; i < 4 && testing_emitted(t, topic) < 11; i++)
		testing_advance(t, 500);
	assert_int_equal(testing_emitted(t, topic), 11);
	testing_close(t);
	snprintf(path, sizeof(path), "%s/meminfo", folder);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/loadavg", folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void
the_machine_at_hand_can_be_read(void **state)
{
	struct machine_counters before, now;
	struct sample sample;

	(void)state;
	machine_read("/proc", &before);
	machine_read("/proc", &now);
	now.at_us = before.at_us + 1000000;
	machine_compare(&before, &now, &sample);
	assert_true(now.has_cpu && now.has_memory && now.has_load);
	assert_true(sample.known[METRIC_MEMORY] &&
	    sample.value_milli[METRIC_MEMORY] > 0 &&
	    sample.value_milli[METRIC_MEMORY] < 100000);
	machine_read("/nowhere", &now);
	assert_false(now.has_cpu || now.has_memory || now.has_load ||
	    now.has_disks || now.has_network);
}

static void
processors_and_memory_and_load_are_parsed(void **state)
{
	static const struct {
		const char *text;
		int has;
		uint64_t busy, total;
	} stats
	    [] =
		{
		    {"cpu  100 10 50 800 40 1 2 3 7 9\ncpu0 1 2 3 4\n", 1, 166,
			1006},
		    {"cpu  1 2 3 4", 1, 6, 10},
		    {"cpu  1 2 3 4 5", 1, 6, 15},
		    {"cpu  1 2 3\n", 0, 0, 0},
		    {"cpu0 1 2 3 4 5 6 7 8\n", 0, 0, 0},
		    {"cpu  1 2 -3 4 5 6 7 8\n", 0, 0, 0},
		    {"cpu  1 2 3x 4 5 6 7 8\n", 0, 0, 0},
		    {"cpu  99999999999999999999 2 3 4\n", 0, 0, 0},
		    {"cpu ", 0, 0, 0},
		    {"cpu", 0, 0, 0},
		    {"", 0, 0, 0},
		    {"\n\n", 0, 0, 0},
		},
       memories[] = {
	   {"MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 60 kB\n", 1, 40,
	       100},
	   {"MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 5 kB\n",
	       1, 80, 100},
	   {"MemAvailable:7 kB\nMemTotal:\t9", 1, 2, 9},
	   {"MemTotal: 100 kB\nMemAvailable: 900 kB\n", 1, 0, 100},
	   {"MemTotal: 0 kB\nMemAvailable: 0 kB\n", 0, 0, 0},
	   {"MemTotal: 100 kB\n", 0, 0, 0},
	   {"MemTotal: -1 kB\nMemAvailable: 1 kB\n", 0, 0, 0},
	   {"MemTotal: many\nMemAvailable: 1 kB\n", 0, 0, 0},
	   {"MemAvailable: 1 kB\n", 0, 0, 0},
	   {"MemTotal:", 0, 0, 0},
	   {"", 0, 0, 0},
       };
	static const struct {
		const char *text;
		int has;
		int64_t milli;
	} loads[] = {
	    {"0.52 0.48 0.40 2/345 6789\n", 1, 520},
	    {"12.5", 1, 12500},
	    {"3.1415926", 1, 3141},
	    {"7.", 1, 7000},
	    {"7", 0, 0},
	    {"-1.00", 0, 0},
	    {".5", 0, 0},
	    {"nan", 0, 0},
	    {"99999999999999999999999.0", 0, 0},
	    {"", 0, 0},
	};
	struct machine_counters now;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(stats) / sizeof(stats[0]); i++) {
		memset(&now, 0, sizeof(now));
		machine_parse_stat(stats[i].text, &now);
		if (now.has_cpu != stats[i].has ||
		    now.cpu_busy != stats[i].busy ||
		    now.cpu_total != stats[i].total)
			fail_msg("%s", stats[i].text);
	}
	for (i = 0; i < sizeof(memories) / sizeof(memories[0]); i++) {
		memset(&now, 0, sizeof(now));
		machine_parse_meminfo(memories[i].text, &now);
		if (now.has_memory != memories[i].has ||
		    now.memory_used != memories[i].busy ||
		    now.memory_total != memories[i].total)
			fail_msg("%s", memories[i].text);
	}
	for (i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		memset(&now, 0, sizeof(now));
		machine_parse_loadavg(loads[i].text, &now);
		if (now.has_load != loads[i].has ||
		    now.load_milli != loads[i].milli)
			fail_msg("%s", loads[i].text);
	}
}

static void
disks_and_interfaces_are_counted_once(void **state)
{
	struct machine_counters now = {0};

	(void)state;
	machine_parse_diskstats("   7 0 loop0 9 9 9 9 9 9 9 9 9 9 9\n"
				" 259 0 nvme0n1 1 0 100 0 1 0 200 0 0 30 0 0\n"
				" 259 1 nvme0n1p1 1 0 60 0 1 0 90 0 0 30 0\n"
				" 259 2 nvme0n10 1 0 1 0 1 0 2 0 0 3 0\n"
				"   8 0 sda 1 0 10 0 1 0 20 0 0 3 0\n"
				"   8 0 sda 1 0 10 0 1 0 20 0 0 3 0\n"
				"   8 17 sda17 1 0 10 0 1 0 20 0 0 3 0\n"
				"   8 16 sdaa 1 0 1000 0 1 0 2000 0 0 300 0\n"
				"   8 32 sdc 1 0 10 0 1 0 20 0 0\n"
				"   8 48 sdd 1 0 x 0 1 0 20 0 0 3 0\n"
				" 253 0 dm-0 9 9 9 9 9 9 9 9 9 9 9\n"
				"rubbish\n\n 8 0\n 8 0 \n",
	    &now);
	assert_true(now.has_disks);
	assert_int_equal(now.disks, 4);
	assert_int_equal(now.sectors_read, 1111);
	assert_int_equal(now.sectors_written, 2222);
	assert_int_equal(now.disk_busy_ms, 336);
	machine_parse_diskstats("", &now);
	assert_false(now.has_disks);
	assert_int_equal(now.sectors_read, 0);

	machine_parse_net_dev(
	    "Inter-|   Receive                    |  Transmit\n"
	    " face |bytes packets errs|bytes packets\n"
	    "    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n"
	    "  eth0:100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n"
	    "wlan0: 10 1 0 0 0 0 0 0 20\n"
	    "short: 1 2 3 4 5 6 7 8\n"
	    ": 1 2 3 4 5 6 7 8 9\n"
	    "bad: 1 2 3 4 5 6 7 8 18446744073709551616\n",
	    &now);
	assert_true(now.has_network);
	assert_int_equal(now.received, 110);
	assert_int_equal(now.sent, 220);
	machine_parse_net_dev("Inter-|", &now);
	assert_false(now.has_network);
}

static void
any_bytes_are_parsed_in_bounds(void **state)
{
	static const char alphabet[] = "cpu  0123456789\n:.-MemTotal sda";
	struct machine_counters now = {0};
	struct id_rng rng;
	char *text;
	size_t length, i;
	int round;

	(void)state;
	id_rng_seed(&rng, 11);
	for (round = 0; round < 20000; round++) {
		/* Of exactly its size, for the sanitizers. */
		length = (size_t)(id_rng_uniform(&rng) * 120);
		assert_non_null(text = malloc(length + 1));
		for (i = 0; i < length; i++)
			if (round % 2 == 0)
				text[i] = (char)(1 + id_rng_next(&rng) % 255);
			else
				text[i] = alphabet[id_rng_next(&rng) %
				    (sizeof(alphabet) - 1)];
		if (length >= 4 && round % 4 == 1)
			memcpy(text, "cpu ", 4);
		text[length] = '\0';
		machine_parse_stat(text, &now);
		machine_parse_meminfo(text, &now);
		machine_parse_loadavg(text, &now);
		machine_parse_diskstats(text, &now);
		machine_parse_net_dev(text, &now);
		free(text);
	}
}

static void
rates_are_of_the_time_between_looks(void **state)
{
	struct machine_counters before = {.at_us = 1000000,
	    .has_cpu = 1,
	    .has_disks = 1,
	    .has_network = 1,
	    .cpu_busy = 100,
	    .cpu_total = 1000,
	    .disks = 2,
	    .sectors_read = 10,
	    .disk_busy_ms = 500,
	    .received = 1000,
	    .sent = 5000};
	struct machine_counters now = before;
	struct sample sample;

	(void)state;
	now.at_us += 2000000;
	now.cpu_busy += 50;
	now.cpu_total += 200;
	now.sectors_read += 4;
	now.disk_busy_ms += 1000;
	now.received += 3;
	now.sent = 4999; /* an interface went away */
	machine_compare(&before, &now, &sample);
	assert_int_equal(sample.value_milli[METRIC_CPU], 25000);
	assert_int_equal(sample.value_milli[METRIC_DISK_READ], 1024000);
	assert_true(sample.known[METRIC_DISK_WRITTEN]);
	assert_int_equal(sample.value_milli[METRIC_DISK_WRITTEN], 0);
	assert_int_equal(sample.value_milli[METRIC_DISK_BUSY], 25000);
	assert_int_equal(sample.value_milli[METRIC_NET_RECEIVED], 1500);
	assert_false(sample.known[METRIC_NET_SENT]);
	assert_false(sample.known[METRIC_MEMORY] || sample.known[METRIC_LOAD]);
	now.disks = 1; /* so did a disk */
	now.received = COUNTER_MOST * 200; /* nobody receives that much */
	machine_compare(&before, &now, &sample);
	assert_false(sample.known[METRIC_DISK_READ] ||
	    sample.known[METRIC_NET_RECEIVED]);
	machine_compare(&now, &now, &sample);
	assert_false(sample.known[METRIC_CPU] || sample.known[METRIC_NET_SENT]);
}

/* ---- simulated hosts -------------------------------------------------------------- */

static struct fleet one, other;

static struct fleet_settings
plain(int64_t seed)
{

	return ((struct fleet_settings){.hosts = 5,
	    .every_ms = 1000,
	    .anomaly_every_ms = 600000,
	    .late_share = 0.1,
	    .late_ms = 30000,
	    .start_ms = TESTING_START_MS,
	    .seed = seed});
}

static void
steps_of_any_size_make_the_same_stream(void **state)
{
	struct fleet_settings set = plain(7);
	int i, done = 0, size = 1, late = 0;

	(void)state;
	memset(&one, 0, sizeof(one));
	memset(&other, 0, sizeof(other));
	fleet_step(&one, &set, TESTING_START_MS + 5, 1000);
	while (done < 1000) {
		fleet_step(&other, &set, TESTING_START_MS,
		    size < 1000 - done ? size : 1000 - done);
		for (i = 0; i < other.made_count; i++)
			assert_memory_equal(&other.made[i], &one.made[done + i],
			    sizeof(one.made[0]));
		done += other.made_count;
		size = size % 37 + 3;
	}
	for (i = 1; i < 1000; i++)
		late += one.made[i].ts_ms < one.made[i - 1].ts_ms;
	assert_in_range(late, 60, 140);
	set = plain(8);
	memset(&other, 0, sizeof(other));
	fleet_step(&other, &set, TESTING_START_MS, 1000);
	assert_int_not_equal(other.made[5].value_milli,
	    one.made[5].value_milli);
}

/* Of so many minutes. */
static double
mean_value(const struct fleet_settings *set, int64_t host,
    enum metric_kind kind, int64_t from_ms, int minutes)
{
	double sum = 0;
	int i;

	for (i = 0; i < minutes; i++)
		sum += (double)fleet_value(set, host, kind,
		    from_ms + i * INT64_C(60000));
	return (sum / minutes);
}

static void
hosts_follow_the_day(void **state)
{
	struct fleet_settings set = plain(3);
	const int64_t midnight_ms = TESTING_START_MS -
	    TESTING_START_MS % DAY_MS;
	int64_t host;
	int kind;

	(void)state;
	set.anomaly_every_ms = 0;
	for (host = 1; host <= 5; host++)
		for (kind = 0; kind < METRICS; kind++)
			if (mean_value(&set, host, (enum metric_kind)kind,
				midnight_ms + INT64_C(15) * HOUR_MS, 120) <=
			    mean_value(&set, host, (enum metric_kind)kind,
				midnight_ms + INT64_C(3) * HOUR_MS, 120))
				fail_msg("%s of %d", metric_names[kind],
				    (int)host);
}

static void
anomalies_are_where_they_were_planted(void **state)
{
	struct fleet_settings set = plain(5), calm = set;
	struct fleet_anomaly anomaly;
	int64_t ts_ms, usual, value;
	int found = 0, span, kind;

	(void)state;
	calm.anomaly_every_ms = 0;
	for (span = 0; span < 1000; span++) {
		ts_ms = TESTING_START_MS + span * INT64_C(600000);
		if (!fleet_anomaly(&set, 2, ts_ms, &anomaly))
			continue;
		found++;
		assert_true(anomaly.from_ms >= ts_ms &&
		    anomaly.to_ms > anomaly.from_ms &&
		    anomaly.to_ms <= ts_ms + 600000);
		for (kind = 0; kind < METRICS; kind++) {
			usual = fleet_value(&calm, 2, (enum metric_kind)kind,
			    anomaly.from_ms);
			value = fleet_value(&set, 2, (enum metric_kind)kind,
			    anomaly.from_ms);
			if ((enum metric_kind)kind != anomaly.kind)
				assert_int_equal(value, usual);
			else
				assert_true(anomaly.down ?
					value <= usual / 10 :
					value > usual + usual / 4);
		}
		assert_int_equal(fleet_value(&set, 2, anomaly.kind,
				     anomaly.to_ms),
		    fleet_value(&calm, 2, anomaly.kind, anomaly.to_ms));
	}
	/* Four of five spans: within five standard deviations. */
	assert_in_range(found, 737, 863);
}

static void
the_clock_is_brought_to_the_machines_where_it_follows(void **state)
{
	struct fleet_settings set = plain(1);

	(void)state;
	memset(&one, 0, sizeof(one));
	set.late_share = 0;
	set.start_ms = 0;
	set.follow = 1;
	fleet_step(&one, &set, TESTING_START_MS, 10);
	fleet_step(&one, &set, TESTING_START_MS + 3600000, 1);
	assert_int_equal(one.made[0].ts_ms, TESTING_START_MS + 3600000);
	/* A run as fast as possible gets hours ahead; a plain one goes back. */
	set.follow = 0;
	set.every_ms = HOUR_MS;
	fleet_step(&one, &set, TESTING_START_MS + 3600000, 1000);
	assert_true(one.made[999].ts_ms >= TESTING_START_MS + DAY_MS);
	set.follow = 1;
	set.every_ms = 1000;
	fleet_step(&one, &set, TESTING_START_MS + 3600000, 1);
	assert_int_equal(one.made[0].ts_ms, TESTING_START_MS + 3600000);
}

/* Its last sample of an hour leaves the clock ahead by a part of the next. */
static void
a_slow_clock_that_follows_leaps_once_a_step(void **state)
{
	struct fleet_settings set = plain(1);
	int i;

	(void)state;
	memset(&one, 0, sizeof(one));
	set.hosts = 1;
	set.every_ms = HOUR_MS;
	set.late_share = 0;
	set.start_ms = 0;
	set.follow = 1;
	for (i = 0; i < 3 * METRICS; i++) {
		fleet_step(&one, &set,
		    TESTING_START_MS + i * (HOUR_MS / METRICS), 1);
		assert_int_equal(one.made[0].ts_ms,
		    TESTING_START_MS + i / METRICS * HOUR_MS);
	}
}

/* Whose samples of that time are made already. */
static void
fewer_hosts_than_before_go_on_with_the_next_time(void **state)
{
	struct fleet_settings set = plain(1);

	(void)state;
	memset(&one, 0, sizeof(one));
	set.late_share = 0;
	fleet_step(&one, &set, TESTING_START_MS, 3 * METRICS);
	set.hosts = 4;
	fleet_step(&one, &set, TESTING_START_MS, 1);
	assert_string_equal(one.made[0].host, "host-4");
	assert_int_equal(one.made[0].ts_ms, TESTING_START_MS);
	set.hosts = 2;
	fleet_step(&one, &set, TESTING_START_MS, 2 * METRICS + 1);
	assert_string_equal(one.made[0].host, "host-1");
	assert_int_equal(one.made[0].ts_ms, TESTING_START_MS + 1000);
	assert_int_equal(one.made[2 * METRICS - 1].ts_ms,
	    TESTING_START_MS + 1000);
	assert_string_equal(one.made[2 * METRICS].host, "host-1");
	assert_int_equal(one.made[2 * METRICS].ts_ms, TESTING_START_MS + 2000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(simulated_samples_come_once_wherever_it_dies),
	    cmocka_unit_test(a_host_is_sampled_from_its_proc),
	    cmocka_unit_test(the_machine_at_hand_can_be_read),
	    cmocka_unit_test(processors_and_memory_and_load_are_parsed),
	    cmocka_unit_test(disks_and_interfaces_are_counted_once),
	    cmocka_unit_test(any_bytes_are_parsed_in_bounds),
	    cmocka_unit_test(rates_are_of_the_time_between_looks),
	    cmocka_unit_test(steps_of_any_size_make_the_same_stream),
	    cmocka_unit_test(hosts_follow_the_day),
	    cmocka_unit_test(anomalies_are_where_they_were_planted),
	    cmocka_unit_test(fewer_hosts_than_before_go_on_with_the_next_time),
	    cmocka_unit_test(a_slow_clock_that_follows_leaps_once_a_step),
	    cmocka_unit_test(
		the_clock_is_brought_to_the_machines_where_it_follows),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
