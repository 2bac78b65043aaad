/*
 * failpoint -- named places where a test makes a process die or fail.
 *
 * In builds with MR_FAILPOINTS only; elsewhere FAILPOINT is nothing.  The
 * environment variable MILLRACE_FAILPOINT names one place, an action and how
 * many passes to let through first: "commit.before=kill@3".  Actions: kill
 * (SIGKILL to itself), stop (SIGSTOP), sleep (five seconds), error (the
 * macro is true once).  Any thread.
 */
#ifndef MR_FAILPOINT_H
#define MR_FAILPOINT_H

#ifdef MR_FAILPOINTS
int failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) 0
#endif

#endif
