/*
 * program -- what every main does before anything else.
 *
 * program_start pins name resolution to "files dns" (a static glibc would
 * load the host's shared NSS modules otherwise, and can crash in them), sees
 * to it that descriptors 0 to 2 are open, keeps malloc to sixteen arenas, sets
 * umask 007, ignores SIGPIPE, has the calling thread hurry (thread.h), and
 * seeds nothing.  Call it first in main.
 */
#ifndef MR_PROGRAM_H
#define MR_PROGRAM_H

void program_start(void);

#endif
