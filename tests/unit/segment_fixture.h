/*
 * segment_fixture -- a log in a folder of its own, for tests of pkg/segment.
 */
#ifndef SEGMENT_FIXTURE_H
#define SEGMENT_FIXTURE_H

#include "segment_batches.h"

static struct plog_conf conf;

static int
set_up(void **state)
{

	(void)state;
	make_root();
	plog_conf_default(&conf);
	return (0);
}

static int
tear_down(void **state)
{

	(void)state;
	remove_root();
	return (0);
}

static inline struct plog *
open_log(struct plog_recovery *found)
{
	struct plog *log;
	struct mr_error err = {MR_OK, ""};

	log = plog_open(log_path(), &conf, 0, found, &err);
	if (log == NULL)
		fail_msg("%s", err.message);
	flush_log(log);
	return (log);
}

static inline void
close_log(struct plog *log)
{
	struct mr_error err;

	assert_int_equal(plog_close(log, &err), 0);
}

static inline struct plog_tidied
tidy_log(struct plog *log, int64_t now_ms)
{
	struct plog_tidied did;
	struct plog_tidy *tidy;
	struct mr_error err = {MR_OK, ""};

	memset(&did, 0, sizeof(did));
	flush_log(log);
	if ((tidy = plog_tidy_begin(log, PLOG_DELETE | PLOG_COMPACT, now_ms)) !=
	    NULL) {
		if (plog_tidy_run(tidy, &err) == -1)
			fail_msg("%s", err.message);
		plog_tidy_finish(log, tidy, &did);
	}
	flush_log(log);
	return (did);
}

#endif
