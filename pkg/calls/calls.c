#include "calls/calls.h"
#include "metrics/metrics.h"

/* All are multiples of 5 s: what calls keeps in its file is finer. */
static const struct metric_bound bounds[CALLS_BOUNDS] = {
    {5000000, "5"},
    {10000000, "10"},
    {20000000, "20"},
    {30000000, "30"},
    {45000000, "45"},
    {60000000, "60"},
    {90000000, "90"},
    {120000000, "120"},
    {180000000, "180"},
    {300000000, "300"},
    {600000000, "600"},
    {INT64_MAX, "+Inf"},
};

int
calls_bound_of(int64_t duration_ms)
{
	int i = 0;

	while (i < CALLS_BOUNDS - 1 && duration_ms > bounds[i].most_us / 1000)
		i++;
	return (i);
}

void
calls_show(int64_t calls, int64_t duration_ms,
    const int64_t counts[CALLS_BOUNDS])
{

	metric_set_total(metrics_counter("millrace_calls_total", NULL,
			     "Calls, as committed to the file."),
	    (double)calls);
	metric_set_total(metrics_counter("millrace_call_duration_seconds_total",
			     NULL, "Duration of those calls together."),
	    (double)duration_ms / 1000);
	metric_set_histogram(
	    metrics_histogram_kept("millrace_call_length_seconds",
		"How long those calls lasted.", bounds),
	    counts, duration_ms * 1000);
}
