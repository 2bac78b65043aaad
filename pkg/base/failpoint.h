/*
 * failpoint -- named places where a test makes a process die or fail.
 *
 * In builds with MR_FAILPOINTS only; elsewhere FAILPOINT is nothing.  The
 * environment variable MILLRACE_FAILPOINT names a place, an action and how
 * many passes to let through first (0 unless said): "commit.before=kill@3".
 * Several are separated by commas.  Actions: kill (SIGKILL to itself), stop
 * (SIGSTOP), sleep (five seconds), error (the macro is true once), escape (it
 * opens the file "read" and makes "made" in the folder MILLRACE_OUTSIDE, and
 * logs what came of either).  Each acts once.  One that can't be parsed aborts
 * the process at its first failpoint, so that no test passes for a
 * misspelling.  Any thread.
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
