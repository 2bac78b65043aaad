#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "kafka/kafka_internal.h"

#define STACK_BYTES ((size_t)512 * 1024)
#define PROPERTIES_MAX 65536 /* a properties file's bytes */

/*
 * Properties that may not be set, and why.  librdkafka's aliases of each are
 * here too.
 */
static const struct {
	const char *name;
	const char *reason;
} refused[] = {
    {"bootstrap.servers", "use --brokers"},
    {"metadata.broker.list", "use --brokers"},
    {"client.id", "it is the instance's name"},
    {"group.id", "it is the program's name"},
    {"group.protocol", "cooperative rebalancing is what the core expects"},
    {"partition.assignment.strategy",
	"cooperative rebalancing is what the core expects"},
    {"enable.auto.commit", "positions are kept in the service's file"},
    {"auto.commit.enable", "positions are kept in the service's file"},
    {"enable.auto.offset.store", "positions are kept in the service's file"},
    {"auto.offset.reset", "a lost position must halt, not skip"},
    {"isolation.level", "aborted records must not be applied"},
    {"enable.partition.eof", "idle positions are found by it"},
    {"check.crcs", "damaged records must not be applied"},
    {"enable.idempotence", "set by --delivery"},
    {"enable.gapless.guarantee", "set by --delivery"},
    {"transactional.id", "set by --delivery"},
    {"acks", "set by --delivery"},
    {"request.required.acks", "set by --delivery"},
    {"retries", "set by --delivery"},
    {"message.send.max.retries", "set by --delivery"},
    {"max.in.flight", "more than one lets records overtake each other"},
    {"max.in.flight.requests.per.connection",
	"more than one lets records overtake each other"},
    {"message.timeout.ms", "records are not dropped by time"},
    {"delivery.timeout.ms", "records are not dropped by time"},
    {"message.max.bytes", "what is in an outbox must fit"},
    {"queuing.strategy", "records must stay in order"},
    {"delivery.report.only.error", "every record needs its report"},
    {"produce.offset.report", "every report needs its offset"},
    {"partitioner", "a key's partition must be the same everywhere"},
    {"msg_order_cmp", "records must stay in order"},
    {"log.queue", "log lines are forwarded as they come"},
};

/* Properties that are secrets: from the file only. */
static const char *const secrets[] = {
    "sasl.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl_key",
    "ssl.keystore.password",
};

/* Properties that name a file with a secret. */
static const char *const secret_files[] = {
    "ssl.key.location",
    "ssl.keystore.location",
    "sasl.oauthbearer.assertion.private.key.file",
};

/* Every client's, before the user's own. */
static const struct setting common[] = {
    {"reconnect.backoff.max.ms", "2000"},
    /*
     * Where the network was silent for a while, TCP tries again only after
     * as long once more.  New connections are sooner there: so a request is
     * given up after 10 s, which transactions need to be at most, and an
     * attempt to connect before its packets come more seldom than every 4 s.
     */
    {"socket.timeout.ms", "10000"},
    {"socket.connection.setup.timeout.ms", "7000"},
    {"topic.metadata.refresh.interval.ms", "30000"},
    {"socket.keepalive.enable", "true"},
    {"statistics.interval.ms", "0"},
    {"enable.metrics.push", "false"},
    {NULL, NULL},
};

const struct config_option *
kafka_options(struct kafka_conf *conf)
{
	static struct config_option table[] = {
	    {.name = "brokers",
		.kind = CONFIG_TEXT,
		.fallback = "localhost:9092",
		.help = "where Kafka is: host:port, more after commas",
		.group = "Kafka"},
	    {.name = "property",
		.kind = CONFIG_LIST,
		.help = "a librdkafka property, key=value; may be repeated"},
	    {.name = "properties-file",
		.kind = CONFIG_TEXT,
		.help = "a file of librdkafka properties, key=value lines, for "
			"TLS and SASL; mode 0600"},
	    {.name = NULL},
	};

	table[0].target = &conf->brokers;
	table[1].target = &conf->properties;
	table[2].target = &conf->properties_file;
	return (table);
}

static int
set_property(rd_kafka_conf_t *settings, const char *name, const char *value,
    struct mr_error *err)
{
	char why[160];

	if (rd_kafka_conf_set(settings, name, value, why, sizeof(why)) ==
	    RD_KAFKA_CONF_OK)
		return (0);
	return (mr_error_set(err, MR_REJECT, "can't set Kafka property %s: %s",
	    name, why));
}

int
client_conf_set(rd_kafka_conf_t *settings, const struct setting *table,
    struct mr_error *err)
{

	for (; table->name != NULL; table++) {
		if (table->value != NULL &&
		    set_property(settings, table->name, table->value, err) != 0)
			return (-1);
	}
	return (0);
}

static char *
trim(char *text)
{
	size_t length;

	text += strspn(text, " \t\r");
	length = strlen(text);
	while (length > 0 && strchr(" \t\r", text[length - 1]) != NULL)
		text[--length] = '\0';
	return (text);
}

static int
is_among(const char *name, const char *const *names, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (strcmp(name, names[i]) == 0)
			return (1);
	}
	return (0);
}
#define IS_AMONG(name, names) \
	is_among((name), (names), sizeof(names) / sizeof((names)[0]))

/*
 * What holds secrets must be its owner's alone; root's may be readable by a
 * group that services run in.
 */
static int
check_private(const char *path, const struct stat *sb, struct mr_error *err)
{

	if ((sb->st_mode & 077) == 0 ||
	    (sb->st_uid == 0 && (sb->st_mode & 037) == 0))
		return (0);
	return (mr_error_set(err, MR_REJECT,
	    "%s can be read or written by others (mode %04o): run chmod 600 on "
	    "it (root's own may be 0640)",
	    path, (unsigned int)(sb->st_mode & 07777)));
}

/* A file that isn't there is for librdkafka to complain of. */
static int
check_secret_file(const char *path, struct mr_error *err)
{
	struct stat sb;

	return (stat(path, &sb) == 0 ? check_private(path, &sb, err) : 0);
}

/*
 * No core dump has the secrets of a process that has some.  By the limit, and
 * not by PR_SET_DUMPABLE, which makes root the owner of what is in /proc, by
 * which a stopped instance is told from strangers (store's pen).  One byte and
 * not none: where dumps are piped to a program the kernel takes that alone for
 * a refusal (core(5)).  What may be set lower is.
 */
static void
refuse_core_dumps(void)
{
	struct rlimit limit = {.rlim_cur = 1, .rlim_max = 1};

	if (setrlimit(RLIMIT_CORE, &limit) == 0)
		return;
	limit.rlim_cur = limit.rlim_max = 0;
	if (setrlimit(RLIMIT_CORE, &limit) != 0)
		log_warn("can't refuse core dumps", "reason", strerror(errno));
}

/* Set "name=value", which is written into; ${from_file} if it came from one. */
static int
set_line(rd_kafka_conf_t *settings, char *line, int from_file,
    struct mr_error *err)
{
	char *name, *value;
	const char *known;
	size_t i;

	if ((value = strchr(line, '=')) == NULL)
		return (mr_error_set(err, MR_REJECT,
		    "a Kafka property has no '=': expected key=value"));
	*value++ = '\0';
	name = trim(line);
	value = trim(value);
	/* librdkafka takes a topic's properties with this in front, too. */
	known = strncmp(name, "topic.", 6) == 0 ? name + 6 : name;
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (strcmp(known, refused[i].name) == 0)
			return (mr_error_set(err, MR_REJECT,
			    "Kafka property %s can't be set: %s", name,
			    refused[i].reason));
	}
	if (!from_file && IS_AMONG(name, secrets))
		return (mr_error_set(err, MR_REJECT,
		    "Kafka property %s is a secret: it belongs into the file "
		    "named by --properties-file",
		    name));
	if (IS_AMONG(name, secret_files)) {
		if (check_secret_file(value, err) != 0)
			return (-1);
		refuse_core_dumps();
	}
	return (set_property(settings, name, value, err));
}

/* Read the whole file into ${text}. */
static int
read_properties(const char *path, char *text, size_t size, struct mr_error *err)
{
	struct stat sb;
	size_t length = 0;
	ssize_t n;
	int fd, status = -1;

	/* O_NONBLOCK: a FIFO must not hang us. */
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return (mr_error_set(err, MR_REJECT, "can't open %s: %s", path,
		    strerror(errno)));
	if (fstat(fd, &sb) != 0) {
		mr_error_set(err, MR_REJECT, "can't stat %s: %s", path,
		    strerror(errno));
		goto done;
	}
	if (!S_ISREG(sb.st_mode)) {
		mr_error_set(err, MR_REJECT, "%s is no regular file", path);
		goto done;
	}
	if (check_private(path, &sb, err) != 0)
		goto done;
	while (length < size - 1 &&
	    (n = read(fd, text + length, size - 1 - length)) != 0) {
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1) {
			mr_error_set(err, MR_REJECT, "can't read %s: %s", path,
			    strerror(errno));
			goto done;
		}
		length += (size_t)n;
	}
	text[length] = '\0';
	if (length == size - 1 || strlen(text) != length) {
		mr_error_set(err, MR_REJECT,
		    "%s is larger than %d bytes or not text", path,
		    PROPERTIES_MAX - 1);
		goto done;
	}
	status = 0;
done:
	close(fd);
	return (status);
}

static int
set_file(rd_kafka_conf_t *settings, const char *path, struct mr_error *err)
{
	static _Thread_local char text[PROPERTIES_MAX + 1];
	char *line, *next;
	int number = 0, status = 0;

	refuse_core_dumps();
	if (read_properties(path, text, PROPERTIES_MAX, err) != 0)
		status = -1;
	for (line = text; status == 0 && line != NULL; line = next) {
		number++;
		if ((next = strchr(line, '\n')) != NULL)
			*next++ = '\0';
		line = trim(line);
		if (*line == '\0' || *line == '#')
			continue;
		if (set_line(settings, line, 1, err) != 0) {
			mr_error_wrap(err, "%s line %d", path, number);
			status = -1;
		}
	}
	explicit_bzero(text, sizeof(text));
	return (status);
}

static int
set_list(rd_kafka_conf_t *settings, const struct config_list *list,
    struct mr_error *err)
{
	char line[1024];
	int i;

	for (i = 0; i < list->count; i++) {
		if (strlen(list->items[i]) >= sizeof(line))
			return (mr_error_set(err, MR_REJECT,
			    "a Kafka property is longer than %d characters",
			    (int)sizeof(line) - 1));
		memcpy(line, list->items[i], strlen(list->items[i]) + 1);
		if (set_line(settings, line, 0, err) != 0)
			return (-1);
	}
	return (0);
}

/*
 * librdkafka's own lines.  Errors also come as events, which the owner of
 * the client reports: those lines are for debugging, like its informative
 * ones, and those about properties that are of another kind of client.
 */
static void
forward_log(const rd_kafka_t *client, int level, const char *facility,
    const char *text)
{
	static const char *const minor[] = {"FAIL", "ERROR", "FATAL",
	    "CONFWARN"};
	enum log_level as = LOG_DEBUG;
	size_t i;

	if (level <= 4)
		as = level <= 2 ? LOG_ERROR : LOG_WARN;
	for (i = 0; i < sizeof(minor) / sizeof(minor[0]); i++) {
		if (strcmp(facility, minor[i]) == 0)
			as = LOG_DEBUG;
	}
	if (log_enabled(as))
		log_write(as, "librdkafka", "client",
		    client != NULL ? rd_kafka_name(client) : "", "facility",
		    facility, "text", text, (const char *)0);
}

rd_kafka_conf_t *
client_conf_new(const struct kafka_conf *conf, const struct setting *defaults,
    const struct setting *fixed, void *opaque, struct mr_error *err)
{
	rd_kafka_conf_t *settings = rd_kafka_conf_new();
	const struct setting named[] = {
	    {"bootstrap.servers", conf->brokers},
	    {"client.id", conf->client_id},
	    {NULL, NULL},
	};

	if (conf->brokers == NULL || conf->brokers[0] == '\0') {
		mr_error_set(err, MR_REJECT,
		    "no brokers to connect to: give --brokers host:port");
		goto fail;
	}
	rd_kafka_conf_set_opaque(settings, opaque);
	rd_kafka_conf_set_log_cb(settings, forward_log);
	if (client_tls_set(settings, err) != 0 ||
	    client_conf_set(settings, common, err) != 0 ||
	    client_conf_set(settings, defaults, err) != 0 ||
	    (conf->properties_file != NULL &&
		set_file(settings, conf->properties_file, err) != 0) ||
	    set_list(settings, &conf->properties, err) != 0 ||
	    client_conf_set(settings, named, err) != 0 ||
	    client_conf_set(settings, fixed, err) != 0)
		goto fail;
	return (settings);
fail:
	rd_kafka_conf_destroy(settings);
	return (NULL);
}

/* Properties whose value is a file's or a folder's name. */
static const char *const named_paths[] = {
    "https.ca.location",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
};

/* Beside /etc: OpenSSL's folder, and what links in it lead to. */
static const char *const certificate_folders[] = {"/usr/lib/ssl",
    "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates"};

int
kafka_reads(const struct kafka_conf *conf,
    void (*reads)(void *arg, const char *path), void *arg, struct mr_error *err)
{
	static const char *const environment[] = {"SSL_CERT_FILE",
	    "SSL_CERT_DIR"};
	static const struct setting none[] = {{NULL, NULL}};
	rd_kafka_conf_t *settings;
	char value[1024];
	const char *path;
	size_t i, size;

	if ((settings = client_conf_new(conf, none, none, NULL, err)) == NULL)
		return (-1);
	if (conf->properties_file != NULL)
		reads(arg, conf->properties_file);
	for (i = 0; i < sizeof(named_paths) / sizeof(named_paths[0]); i++) {
		size = sizeof(value);
		if (rd_kafka_conf_get(settings, named_paths[i], value, &size) ==
			RD_KAFKA_CONF_OK &&
		    strchr(value, '/') != NULL)
			reads(arg, value);
	}
	rd_kafka_conf_destroy(settings);
	for (i = 0;
	     i < sizeof(certificate_folders) / sizeof(certificate_folders[0]);
	     i++)
		reads(arg, certificate_folders[i]);
	for (i = 0; i < sizeof(environment) / sizeof(environment[0]); i++) {
		if ((path = getenv(environment[i])) != NULL)
			reads(arg, path);
	}
	return (0);
}

struct making {
	rd_kafka_type_t type;
	rd_kafka_conf_t *settings;
	rd_kafka_t *client;
	char why[200];
};

/* A client's threads are started by this one, or by each other. */
static void *
make(void *arg)
{
	struct making *m = arg;

	thread_give_way();
	m->client = rd_kafka_new(m->type, m->settings, m->why, sizeof(m->why));
	return (NULL);
}

/* Its threads fetch and send by the batch, so they have time. */
rd_kafka_t *
client_new(rd_kafka_type_t type, rd_kafka_conf_t *settings,
    struct mr_error *err)
{
	struct making m = {.type = type, .settings = settings};
	pthread_t thread;
	int e;

	if ((e = thread_start(&thread, "client", STACK_BYTES, make, &m)) != 0)
		snprintf(m.why, sizeof(m.why), "a thread: %s", strerror(e));
	else
		pthread_join(thread, NULL);
	if (m.client == NULL) {
		rd_kafka_conf_destroy(settings);
		mr_error_set(err, e != 0 ? MR_RETRY : MR_REJECT,
		    "can't make a Kafka client: %s", m.why);
	}
	return (m.client);
}

enum mr_error_kind
client_error_kind(rd_kafka_resp_err_t code)
{

	switch ((int)code) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
		return (MR_OK);
	case RD_KAFKA_RESP_ERR__FATAL:
		return (MR_FATAL);
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
	case RD_KAFKA_RESP_ERR_INVALID_RECORD:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
	case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
	case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
	case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
	case RD_KAFKA_RESP_ERR_INVALID_REQUEST:
	case RD_KAFKA_RESP_ERR_TOPIC_DELETION_DISABLED:
	case RD_KAFKA_RESP_ERR__INVALID_ARG:
	case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
		return (MR_REJECT);
	default:
		return (MR_RETRY);
	}
}

int
client_wake_new(struct mr_error *err)
{
	int fd;

	if ((fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) == -1)
		mr_error_set(err, MR_FATAL,
		    "can't make an event descriptor: %s", strerror(errno));
	return (fd);
}

void
client_wake_set(int fd)
{
	const uint64_t one = 1;

	/* EAGAIN: it is readable as can be. */
	if (write(fd, &one, sizeof(one)) == -1)
		return;
}

void
client_wake_clear(int fd)
{
	uint64_t count;

	/* EAGAIN: nothing to clear. */
	if (read(fd, &count, sizeof(count)) == -1)
		return;
}

void
client_watch(rd_kafka_queue_t *queue, int fd)
{
	const uint64_t one = 1;

	rd_kafka_queue_io_event_enable(queue, fd, &one, sizeof(one));
}

void
client_metadata(const rd_kafka_topic_partition_t *entry, char *text,
    size_t size)
{

	if (size > 0)
		snprintf(text, size, "%.*s",
		    entry->metadata == NULL ? 0 : (int)entry->metadata_size,
		    entry->metadata == NULL ? "" :
					      (const char *)entry->metadata);
}

void *
client_unconst(const void *p)
{
	union {
		const void *from;
		void *to;
	} u;

	u.from = p;
	return (u.to);
}

const char *
kafka_version_text(void)
{

	return (rd_kafka_version_str());
}
