/*
 * stream_driver -- runs services of pkg/stream in this process, over
 * fake_kafka, so that a test can say what comes in and see what goes out.
 *
 *	driver_start();
 *	fake_topic("order-events", 3);
 *	d = driver_run(&my_service, "one", NULL);
 *	fake_put("order-events", 0, "{...}");
 *	WAIT(driver_number("SELECT count(*) FROM things") == 1);
 *	driver_stop(d);
 *	driver_end();
 *
 * Each instance is a stream_run in a thread of its own; all of one test share
 * a file, as the processes on a host would.  A process's own lock on the
 * file (pkg/store's pen.c) is replaced by one that threads can queue at.  Time
 * passes as it does, and by driver_pass_ms in a leap.
 *
 * A test file includes stream_driver.c and fake_kafka.c, and links with
 * --wrap for the clocks: see the .ldflags beside it.
 */
#ifndef MR_STREAM_DRIVER_H
#define MR_STREAM_DRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stream/stream.h"

struct driven;

/* driver_start -- an empty cluster, and a folder for the file. */
void driver_start(void);
/* driver_end -- stop what still runs, whatever it says; remove the file. */
void driver_end(void);

/* The settings that an instance starts with; short waits, no log lines about
 * records. */
struct stream_conf driver_conf(void);
/*
 * driver_open, driver_begin -- make a stream, and run it in a thread.
 * driver_run does both.  ${conf} is copied; NULL: driver_conf.  ${name} is
 * the instance's, and a literal.  driver_take -- the same as driver_open, of a
 * stream that the test has made.
 */
struct driven *driver_open(const struct stream_service *svc, const char *name,
    const struct stream_conf *conf);
struct driven *driver_take(struct stream *s);
void driver_begin(struct driven *d);
struct driven *driver_run(const struct stream_service *svc, const char *name,
    const struct stream_conf *conf);
struct stream *driver_stream(struct driven *d);
/* driver_signals -- the descriptor of signals_open for those that run from now
 * on; -1: none. */
void driver_signals(int fd);
/* driver_ask -- have it drain.  driver_over -- 1 once stream_run returned. */
void driver_ask(struct driven *d);
int driver_over(struct driven *d);
/* driver_stop -- ask, wait, and fail the test unless it drained. */
void driver_stop(struct driven *d);
/* driver_failed -- wait for it to end by itself; fail the test unless its
 * error has ${part} in it. */
void driver_failed(struct driven *d, const char *part);

/* driver_ready -- 1 when stream_ready says so. */
int driver_ready(struct driven *d);
/* driver_says -- 1 if it isn't ready, for a reason with ${part} in it. */
int driver_says(struct driven *d, const char *part);

/* driver_number -- what a query gives of the file as it is committed: a
 * number; -1 if there is none.  driver_text -- or a text, in a buffer that the
 * next call uses again. */
int64_t driver_number(const char *sql);
const char *driver_text(const char *sql);
/* driver_exec -- change the file behind the services' backs. */
void driver_exec(const char *sql);
/* driver_save -- copy the file as it is.  While nothing has it open:
 * driver_restore puts the copy's bytes back, driver_replace the copy itself. */
void driver_save(void);
void driver_restore(void);
void driver_replace(void);

/* driver_pass_ms -- let all of the clocks leap. */
void driver_pass_ms(int64_t ms);
/* driver_disk_full -- 1: nothing more can be written to any file. */
void driver_disk_full(int full);

/* WAIT -- until it is so, or fail the test after twenty seconds.  NEVER --
 * watch a moment for what shall not happen. */
#define WAIT(condition)                                                  \
	do {                                                             \
		int64_t wait_until_ = driver_deadline();                 \
		while (!(condition)) {                                   \
			if (driver_late(wait_until_))                    \
				fail_msg("not in time: %s", #condition); \
		}                                                        \
	} while (0)
#define NEVER(condition, ms)                                             \
	do {                                                             \
		int64_t never_until_ = driver_moment(ms);                \
		while (!driver_late(never_until_))                       \
			if (condition)                                   \
				fail_msg("it happened: %s", #condition); \
	} while (0)
int64_t driver_deadline(void);
int64_t driver_moment(int64_t ms);
int driver_late(int64_t until_us); /* 1, or 0 after a millisecond */

#endif
