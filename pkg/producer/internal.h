/*
 * producer/internal -- what the files of this module share.
 */
#ifndef MR_PRODUCER_INTERNAL_H
#define MR_PRODUCER_INTERNAL_H

#include "producer/producer.h"

/*
 * The pace of steps.  It remembers when the step before was, and nothing that
 * a record depends on but how many are made at a time.
 */
struct producer_pace {
	int64_t began_ms; /* the first step; 0: none yet */
	int64_t before_ms; /* the step before */
	int64_t now_ms; /* this step */
};

extern const char *const producer_compressions[];

/* The time between steps that --rate asks for. */
int64_t producer_pace_interval_ms(double rate);
/*
 * producer_pace_due -- how many records are due in the step at ${now_ms}, when
 * the source has made ${made}; at most a second's worth, so that what stood
 * still makes no burst.  Asked again about the same step it answers the same.
 * -1: there are to be no more, --count or --duration is over.
 */
int producer_pace_due(struct producer_pace *pace, int64_t now_ms,
    int64_t interval_ms, int64_t made);

/*
 * producer_partitioner -- the function for --partitioner, into *chosen: NULL for
 * what Kafka's clients do by themselves.  0, or -1 FATAL if the settings don't
 * go together.
 */
int producer_partitioner(const struct producer *p, kafka_partitioner **chosen,
    struct mr_error *err);

/*
 * What was done, for the terminal and the summary.  Counters are metrics, so
 * any thread may count; the others are for the thread that makes records.
 */
void producer_report_open(const char *topic, int exactly_once);
void producer_report_made(int64_t records, int64_t bytes);
void producer_report_delivered(int64_t latency_us);
void producer_report_failed(void);
/* Write the line about progress, if there is a terminal and it is time. */
void producer_report_progress(void);
void producer_report_close(void);

#endif
