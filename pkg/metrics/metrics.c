#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "metrics/metrics.h"

/* gcc's analyser can't follow what is put into a list of lists. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

enum metric_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM };

static const char *const type_names[] = {
    [TYPE_COUNTER] = "counter",
    [TYPE_GAUGE] = "gauge",
    [TYPE_HISTOGRAM] = "histogram",
};

/* Upper bounds, and as they are written; the last bucket takes the rest. */
static const struct metric_bound time_bounds[] = {
    {100, "0.0001"},
    {250, "0.00025"},
    {500, "0.0005"},
    {1000, "0.001"},
    {2500, "0.0025"},
    {5000, "0.005"},
    {10000, "0.01"},
    {25000, "0.025"},
    {50000, "0.05"},
    {100000, "0.1"},
    {250000, "0.25"},
    {500000, "0.5"},
    {1000000, "1"},
    {2500000, "2.5"},
    {5000000, "5"},
    {10000000, "10"},
    {INT64_MAX, "+Inf"},
};

/* A name, with its metrics sorted by labels. */
struct family {
	struct family *next;
	char *name;
	char *help;
	enum metric_type type;
	struct metric *metrics;
};

/*
 * The value is a whole number, a histogram's the sum in microseconds; once
 * is_real, the other one counts.  They are two since a reader in another
 * thread may come between the store of a number and that of its kind.
 */
struct metric {
	struct metric *next;
	enum metric_type type;
	char *labels;
	const struct metric_bound *bounds; /* of a histogram */
	size_t bound_count;
	atomic_int is_real;
	_Atomic int64_t value;
	_Atomic double real;
	_Atomic int64_t buckets[]; /* bound_count of them */
};

/* Guards the lists, not the values.  Nothing is ever taken out of them. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct family *families;

/* What counts nothing, for who registers while there is no memory. */
static struct metric spare_counter = {.type = TYPE_COUNTER};
static struct metric spare_gauge = {.type = TYPE_GAUGE};
static struct metric spare_histogram = {.type = TYPE_HISTOGRAM,
    .bounds = &time_bounds[sizeof(time_bounds) / sizeof(time_bounds[0]) - 1]};
static struct metric *const spares[] = {
    [TYPE_COUNTER] = &spare_counter,
    [TYPE_GAUGE] = &spare_gauge,
    [TYPE_HISTOGRAM] = &spare_histogram,
};

static int
is_name(const char *name)
{
	static const char first[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:";

	return (*name != '\0' && strchr(first, *name) != NULL &&
	    name[strspn(name, first) +
		strspn(name + strspn(name, first),
		    "0123456789abcdefghijklmnopqrstuvwxyz"
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZ_:")] == '\0');
}

/* What OpenMetrics calls the family: a counter's name without _total. */
static size_t
stem_length(const char *name, enum metric_type type)
{
	size_t n = strlen(name);

	if (type == TYPE_COUNTER && n > 6 &&
	    strcmp(name + n - 6, "_total") == 0)
		n -= 6;
	return (n);
}

static int
have_one_stem(const struct family *f, const char *name, enum metric_type type)
{
	size_t n = stem_length(name, type);

	return (f->type != type && stem_length(f->name, f->type) == n &&
	    strncmp(f->name, name, n) == 0);
}

static struct family *
new_family(const char *name, const char *help, enum metric_type type)
{
	struct family *f = calloc(1, sizeof(*f));

	if (f == NULL || (f->name = strdup(name)) == NULL ||
	    (f->help = strdup(help != NULL ? help : "")) == NULL) {
		if (f != NULL)
			free(f->name);
		free(f);
		return (NULL);
	}
	f->type = type;
	return (f);
}

/* NULL without memory. */
static struct family *
find_family(const char *name, const char *help, enum metric_type type)
{
	struct family *f, *before = NULL, *after = families;
	int order = -1;

	for (; after != NULL; before = after, after = after->next)
		if ((order = strcmp(after->name, name)) >= 0)
			break;
	if (after != NULL && order == 0) {
		/* One name of two types could be read by nobody. */
		if (after->type != type)
			abort();
		return (after);
	}
	for (f = families; f != NULL; f = f->next)
		if (have_one_stem(f, name, type))
			abort();
	if ((f = new_family(name, help, type)) == NULL)
		return (NULL);
	f->next = after;
	if (before == NULL)
		families = f;
	else
		before->next = f;
	return (f);
}

static struct metric *
find_metric(const char *name, const char *labels, const char *help,
    enum metric_type type, const struct metric_bound *bounds)
{
	size_t bound_count = 0;
	struct family *f;
	struct metric *m, *before = NULL, *after;
	int order = -1;

	assert(is_name(name));
	if (labels == NULL)
		labels = "";
	if ((f = find_family(name, help, type)) == NULL)
		return (spares[type]);
	for (after = f->metrics; after != NULL;
	     before = after, after = after->next)
		if ((order = strcmp(after->labels, labels)) >= 0)
			break;
	if (after != NULL && order == 0)
		return (after);
	if (bounds != NULL)
		for (bound_count = 1;
		     bounds[bound_count - 1].most_us != INT64_MAX;)
			bound_count++;
	m = calloc(1, sizeof(*m) + bound_count * sizeof(m->buckets[0]));
	if (m == NULL || (m->labels = strdup(labels)) == NULL) {
		free(m);
		return (spares[type]);
	}
	m->type = type;
	m->bounds = bounds;
	m->bound_count = bound_count;
	m->next = after;
	if (before == NULL)
		f->metrics = m;
	else
		before->next = m;
	return (m);
}

static struct metric *
register_metric(const char *name, const char *labels, const char *help,
    enum metric_type type, const struct metric_bound *bounds)
{
	struct metric *m;

	pthread_mutex_lock(&lock);
	m = find_metric(name, labels, help, type, bounds);
	pthread_mutex_unlock(&lock);
	return (m);
}

struct metric *
metrics_counter(const char *name, const char *labels, const char *help)
{

	return (register_metric(name, labels, help, TYPE_COUNTER, NULL));
}

struct metric *
metrics_gauge(const char *name, const char *labels, const char *help)
{

	return (register_metric(name, labels, help, TYPE_GAUGE, NULL));
}

struct metric *
metrics_histogram(const char *name, const char *labels, const char *help)
{

	return (
	    register_metric(name, labels, help, TYPE_HISTOGRAM, time_bounds));
}

struct metric *
metrics_histogram_kept(const char *name, const char *help,
    const struct metric_bound *bounds)
{

	return (register_metric(name, NULL, help, TYPE_HISTOGRAM, bounds));
}

/* One character of a label's value, escaped, into ${text}: its length. */
static size_t
escape_label(const char *value, size_t n, char text[4])
{

	if (n == 0) {
		value = "\xEF\xBF\xBD";
		n = 3;
	} else if (*value == '\\' || *value == '"' || *value == '\n') {
		text[0] = '\\';
		text[1] = *value;
		if (*value == '\n')
			text[1] = 'n';
		return (2);
	}
	memcpy(text, value, n);
	return (n);
}

int
metrics_label(char *out, uint64_t out_size, const char *key, const char *value)
{
	size_t start = strlen(out), at, left, n, length;
	char text[4];
	int written;

	left = strlen(value);
	written = snprintf(out + start, out_size - start, "%s%s=\"",
	    start > 0 ? "," : "", key);
	if (written < 0 || (size_t)written >= out_size - start)
		goto full;
	at = start + (size_t)written;
	while (left > 0) {
		n = utf8_length(value, left);
		length = escape_label(value, n, text);
		if (length >= out_size - at)
			goto full;
		memcpy(out + at, text, length);
		at += length;
		value += n > 0 ? n : 1;
		left -= n > 0 ? n : 1;
	}
	if (out_size - at < 2)
		goto full;
	memcpy(out + at, "\"", 2);
	return (0);

full:
	if (start < out_size)
		out[start] = '\0';
	return (-1);
}

void
metric_add(struct metric *m, int64_t n)
{

	assert(m->type == TYPE_GAUGE || (m->type == TYPE_COUNTER && n >= 0));
	atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}

void
metric_set(struct metric *m, int64_t value)
{

	assert(m->type == TYPE_GAUGE);
	atomic_store_explicit(&m->value, value, memory_order_relaxed);
}

static void
store_real(struct metric *m, double value)
{

	atomic_store_explicit(&m->real, value, memory_order_relaxed);
	atomic_store_explicit(&m->is_real, 1, memory_order_release);
}

void
metric_set_f64(struct metric *m, double value)
{

	assert(m->type == TYPE_GAUGE);
	store_real(m, value);
}

void
metric_set_total(struct metric *m, double total)
{

	assert(m->type == TYPE_COUNTER);
	store_real(m, total);
}

void
metric_set_histogram(struct metric *m, const int64_t *counts, int64_t sum_us)
{
	size_t i;

	assert(m->type == TYPE_HISTOGRAM);
	for (i = 0; i < m->bound_count; i++)
		atomic_store_explicit(&m->buckets[i], counts[i],
		    memory_order_relaxed);
	atomic_store_explicit(&m->value, sum_us, memory_order_relaxed);
}

void
metric_observe_us(struct metric *m, int64_t us)
{
	size_t i = 0;

	assert(m->type == TYPE_HISTOGRAM);
	if (us < 0)
		us = 0;
	while (us > m->bounds[i].most_us)
		i++;
	if (i < m->bound_count) /* the spare one has none */
		atomic_fetch_add_explicit(&m->buckets[i], 1,
		    memory_order_relaxed);
	atomic_fetch_add_explicit(&m->value, us, memory_order_relaxed);
}

int64_t
metric_quantile_us(const struct metric *m, double q)
{
	const int64_t count = metric_value(m);
	const double wanted = q * (double)count;
	int64_t in, lower, seen = 0;
	size_t i;

	assert(m->type == TYPE_HISTOGRAM);
	for (i = 0; count > 0 && i < m->bound_count; i++) {
		in = atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
		lower = i > 0 ? m->bounds[i - 1].most_us : 0;
		if (in > 0 && (double)(seen + in) >= wanted)
			return (m->bounds[i].most_us == INT64_MAX ? lower :
								    lower +
				    (int64_t)((double)(m->bounds[i].most_us -
						  lower) *
					(wanted - (double)seen) / (double)in));
		seen += in;
	}
	return (0);
}

int64_t
metric_value(const struct metric *m)
{
	int64_t count = 0;
	double real;
	size_t i;

	if (m->type == TYPE_HISTOGRAM) {
		for (i = 0; i < m->bound_count; i++)
			count += atomic_load_explicit(&m->buckets[i],
			    memory_order_relaxed);
		return (count);
	}
	if (!atomic_load_explicit(&m->is_real, memory_order_acquire))
		return (atomic_load_explicit(&m->value, memory_order_relaxed));
	real = atomic_load_explicit(&m->real, memory_order_relaxed);
	if (isnan(real))
		return (0);
	if (real >= 0x1p63)
		return (INT64_MAX);
	if (real < -0x1p63)
		return (INT64_MIN);
	return ((int64_t)real);
}

/* ---- Writing ---- */

static void
write_series(struct buffer *out, const char *name, const char *suffix,
    const char *labels, const char *le)
{

	buffer_add_text(out, name);
	buffer_add_text(out, suffix);
	if (labels[0] != '\0' || le != NULL) {
		buffer_add(out, "{", 1);
		buffer_add_text(out, labels);
		if (le != NULL) {
			buffer_add_text(out,
			    labels[0] != '\0' ? ",le=\"" : "le=\"");
			buffer_add_text(out, le);
			buffer_add(out, "\"", 1);
		}
		buffer_add(out, "}", 1);
	}
	buffer_add(out, " ", 1);
}

static void
write_histogram(struct buffer *out, const struct family *f,
    const struct metric *m)
{
	int64_t count = 0, us;
	size_t i;

	for (i = 0; i < m->bound_count; i++) {
		count += atomic_load_explicit(&m->buckets[i],
		    memory_order_relaxed);
		write_series(out, f->name, "_bucket", m->labels,
		    m->bounds[i].le);
		buffer_addf(out, "%lld\n", (long long)count);
	}
	us = atomic_load_explicit(&m->value, memory_order_relaxed);
	write_series(out, f->name, "_sum", m->labels, NULL);
	buffer_addf(out, "%lld.%06lld\n", (long long)(us / 1000000),
	    (long long)(us % 1000000));
	/* The sum of what was read above, so that it agrees with +Inf. */
	write_series(out, f->name, "_count", m->labels, NULL);
	buffer_addf(out, "%lld\n", (long long)count);
}

static void
write_value(struct buffer *out, const struct family *f, const struct metric *m)
{
	double real;

	write_series(out, f->name, "", m->labels, NULL);
	if (!atomic_load_explicit(&m->is_real, memory_order_acquire)) {
		buffer_add_i64(out,
		    atomic_load_explicit(&m->value, memory_order_relaxed));
	} else {
		real = atomic_load_explicit(&m->real, memory_order_relaxed);
		if (isnan(real))
			buffer_add_text(out, "NaN");
		else if (isinf(real))
			buffer_add_text(out, real > 0 ? "+Inf" : "-Inf");
		else
			buffer_add_f64(out, real);
	}
	buffer_add(out, "\n", 1);
}

static void
write_help(struct buffer *out, const char *help, enum metrics_format format)
{

	for (; *help != '\0'; help++) {
		if (*help == '\\')
			buffer_add_text(out, "\\\\");
		else if (*help == '\n')
			buffer_add_text(out, "\\n");
		else if (*help == '"' && format == METRICS_OPENMETRICS)
			buffer_add_text(out, "\\\"");
		else
			buffer_add(out, help, 1);
	}
	buffer_add(out, "\n", 1);
}

static void
write_family(struct buffer *out, const struct family *f,
    enum metrics_format format)
{
	int n = (int)(format == METRICS_OPENMETRICS ?
		stem_length(f->name, f->type) :
		strlen(f->name));
	const struct metric *m;

	if (f->help[0] != '\0') {
		buffer_addf(out, "# HELP %.*s ", n, f->name);
		write_help(out, f->help, format);
	}
	buffer_addf(out, "# TYPE %.*s %s\n", n, f->name, type_names[f->type]);
	for (m = f->metrics; m != NULL; m = m->next) {
		if (f->type == TYPE_HISTOGRAM)
			write_histogram(out, f, m);
		else
			write_value(out, f, m);
	}
}

/* ---- The process itself, as far as /proc is there to be read ---- */

/* A small file of /proc as text; 0 or -1. */
static int
read_proc(const char *path, char *text, size_t size)
{
	ssize_t n;
	int fd;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return (-1);
	n = read(fd, text, size - 1);
	close(fd);
	if (n <= 0)
		return (-1);
	text[n] = '\0';
	return (0);
}

static void
update_memory(void)
{
	char text[128], *end;
	long long pages;

	if (read_proc("/proc/self/statm", text, sizeof(text)))
		return;
	pages = strtoll(text, &end, 10);
	metric_set(find_metric("process_virtual_memory_bytes", NULL,
		       "Virtual memory size in bytes.", TYPE_GAUGE, NULL),
	    (int64_t)pages * sysconf(_SC_PAGESIZE));
	pages = strtoll(end, NULL, 10);
	metric_set(find_metric("process_resident_memory_bytes", NULL,
		       "Resident memory size in bytes.", TYPE_GAUGE, NULL),
	    (int64_t)pages * sysconf(_SC_PAGESIZE));
}

static void
update_fds(void)
{
	struct dirent *entry;
	struct rlimit limit;
	int64_t count = 0;
	DIR *dir;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		store_real(find_metric("process_max_fds", NULL,
			       "Maximum number of open file descriptors.",
			       TYPE_GAUGE, NULL),
		    limit.rlim_cur == RLIM_INFINITY ? (double)INFINITY :
						      (double)limit.rlim_cur);

	if ((dir = opendir("/proc/self/fd")) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	/* Without the one that is doing the counting. */
	metric_set(find_metric("process_open_fds", NULL,
		       "Number of open file descriptors.", TYPE_GAUGE, NULL),
	    count - 1);
}

static void
update_start_time(void)
{
	static int done;
	char text[1024], *p, *end;
	long long ticks;
	double started;
	int field;

	if (done || read_proc("/proc/self/stat", text, sizeof(text)))
		return;
	/* The second field is the name, in parentheses, and may hold any. */
	if ((p = strrchr(text, ')')) == NULL)
		return;
	for (field = 2; field < 22 && p != NULL; field++)
		p = strchr(p + 1, ' ');
	if (p == NULL)
		return;
	ticks = strtoll(p, &end, 10);
	started = (double)(clock_wall_ms() - clock_boot_ms()) / 1000 +
	    (double)ticks / (double)sysconf(_SC_CLK_TCK);
	store_real(find_metric("process_start_time_seconds", NULL,
		       "Start time of the process since the epoch in seconds.",
		       TYPE_GAUGE, NULL),
	    round(started * 100) / 100);
	done = 1;
}

static void
update_cpu_time(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) != 0)
		return;
	store_real(find_metric("process_cpu_seconds_total", NULL,
		       "Total user and system CPU time in seconds.",
		       TYPE_COUNTER, NULL),
	    (double)ts.tv_sec + round((double)ts.tv_nsec / 1e6) / 1e3);
}

static char disk_path[4096]; /* under the lock */

static void
update_disk(void)
{
	struct statvfs fs;

	if (disk_path[0] == '\0' || statvfs(disk_path, &fs) != 0)
		return;
	metric_set(find_metric("millrace_disk_free_bytes", NULL,
		       "Room left on the disk that holds the state.",
		       TYPE_GAUGE, NULL),
	    (int64_t)(fs.f_bavail * fs.f_frsize));
	metric_set(find_metric("millrace_disk_size_bytes", NULL,
		       "Size of the disk that holds the state.", TYPE_GAUGE,
		       NULL),
	    (int64_t)(fs.f_blocks * fs.f_frsize));
}

void
metrics_watch_disk(const char *path)
{

	pthread_mutex_lock(&lock);
	snprintf(disk_path, sizeof(disk_path), "%s", path);
	pthread_mutex_unlock(&lock);
}

void
metrics_restarts(int64_t restarts)
{

	metric_set_total(metrics_counter("millrace_restarts_total", NULL,
			     "How often the supervisor had to start it again."),
	    (double)restarts);
}

/* Apart from the lock, since a collector registers and sets. */
static pthread_mutex_t collector_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*collector)(void *arg);
static void *collector_arg;

void
metrics_collector(void (*collect)(void *arg), void *arg)
{

	pthread_mutex_lock(&collector_lock);
	collector = collect;
	collector_arg = arg;
	pthread_mutex_unlock(&collector_lock);
}

/* ---- What is asked for: RFC 9110, section 12.5.1 ---- */

/* The value of the parameter ${name} of a media range that ends at ${end}, or
 * NULL; its length in *size. */
static const char *
range_parameter(const char *range, const char *end, const char *name,
    size_t *size)
{
	const char *p = range, *value;
	size_t n = strlen(name);

	while ((p = memchr(p, ';', (size_t)(end - p))) != NULL) {
		for (p++; p < end && (*p == ' ' || *p == '\t');)
			p++;
		if ((size_t)(end - p) <= n || strncasecmp(p, name, n) != 0 ||
		    p[n] != '=')
			continue;
		value = p + n + 1;
		*size = strcspn(value, "; \t,");
		return (value);
	}
	return (NULL);
}

/* Does the range name ${type}, in this version if it names one? */
static int
is_range(const char *range, const char *end, const char *type,
    const char *version)
{
	size_t n = strlen(type), size;
	const char *asked;

	if ((size_t)(end - range) < n || strncasecmp(range, type, n) != 0 ||
	    strchr("; \t,", range[n]) == NULL)
		return (0);
	asked = range_parameter(range, end, "version", &size);
	return (asked == NULL || version == NULL ||
	    (strlen(version) == size && strncmp(asked, version, size) == 0));
}

static double
range_quality(const char *range, const char *end)
{
	size_t size;
	const char *q = range_parameter(range, end, "q", &size);
	double value;

	if (q == NULL)
		return (1);
	value = strtod(q, NULL);
	return (value >= 0 && value <= 1 ? value : 0);
}

enum metrics_format
metrics_format_asked(const char *accept)
{
	double openmetrics = 0, text = 0, q;
	const char *range;
	size_t n;

	for (; accept != NULL && *accept != '\0';
	     accept += n + (accept[n] == ',')) {
		n = strcspn(accept, ",");
		range = accept + strspn(accept, " \t");
		q = range_quality(range, accept + n);
		if (is_range(range, accept + n, "application/openmetrics-text",
			"1.0.0"))
			openmetrics = q > openmetrics ? q : openmetrics;
		else if (is_range(range, accept + n, "text/plain", "0.0.4") ||
		    is_range(range, accept + n, "text/*", NULL) ||
		    is_range(range, accept + n, "*/*", NULL))
			text = q > text ? q : text;
	}
	return (openmetrics > 0 && openmetrics >= text ? METRICS_OPENMETRICS :
							 METRICS_TEXT);
}

const char *
metrics_content_type(enum metrics_format format)
{

	if (format == METRICS_OPENMETRICS)
		return ("application/openmetrics-text; version=1.0.0; "
			"charset=utf-8");
	return ("text/plain; version=0.0.4; charset=utf-8");
}

void
metrics_write(struct buffer *out, enum metrics_format format)
{
	const struct family *f;

	pthread_mutex_lock(&collector_lock);
	if (collector != NULL)
		collector(collector_arg);
	pthread_mutex_unlock(&collector_lock);
	pthread_mutex_lock(&lock);
	update_memory();
	update_fds();
	update_start_time();
	update_cpu_time();
	update_disk();
	for (f = families; f != NULL; f = f->next)
		write_family(out, f, format);
	if (format == METRICS_OPENMETRICS)
		buffer_add_text(out, "# EOF\n");
	pthread_mutex_unlock(&lock);
}
