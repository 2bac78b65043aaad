/*
 * signals -- SIGTERM and SIGINT as a file descriptor; SIGPIPE ignored.
 *
 * signals_open blocks the two in the calling thread, and so in all threads
 * that it starts later: call it first.  It returns a descriptor that turns
 * readable when one arrives.  signals_take reads it: 1 the first time
 * (drain), and then puts back the default action and unblocks them in the calling
 * thread, so that a second one ends the process at once.  0 when nothing came.
 */
#ifndef MR_SIGNALS_H
#define MR_SIGNALS_H

#include "base/error.h"

int signals_open(struct mr_error *err);
int signals_take(int fd);

#endif
