/*
 * notify -- tell the service manager how it goes, by systemd's protocol:
 * lines of text in a datagram to the socket that NOTIFY_SOCKET names, as
 * sd_notify(3) and sd_watchdog_enabled(3) of systemd describe it.
 *
 * Without NOTIFY_SOCKET nothing is ever sent.  While the manager's queue is
 * full, READY=1 and STOPPING=1 wait, for two seconds at most.  A message that
 * can't be sent is dropped: the manager's own deadlines say what follows.  One
 * a process; all calls are for the thread that main runs in.
 */
#ifndef MR_SERVICE_NOTIFY_H
#define MR_SERVICE_NOTIFY_H

#include <stddef.h>

/*
 * notify_open -- connect to the socket, while the process may still reach it,
 * and take its name and the watchdog's time from the environment, so that
 * nothing that is started speaks for this process.  Again: a new socket.
 */
void notify_open(void);

/*
 * notify_starting -- EXTEND_TIMEOUT_USEC=, two minutes from now.
 *
 * For what a start may take long with, as often as it has got a step further:
 * it is sent once a second at most, and from a second after notify_open on.
 * A start that takes no more steps is ended by the manager when these are over.
 * The thread that starts calls it, which main is then waiting for or is.
 */
void notify_starting(void);

/*
 * notify_ready -- READY=1.  If the manager has a watchdog for this process, a
 * thread sends WATCHDOG=1 at half its time, as long as ${alive}, which may be
 * NULL, returns 1 to it.  ${arg} is borrowed until notify_stopping.
 */
void notify_ready(int (*alive)(void *arg, char *reason, size_t reason_size),
    void *arg);

/* notify_draining -- STOPPING=1: what follows has the manager's stop timeout.
 * The thread that drains calls it, which main is then waiting for or is. */
void notify_draining(void);
/*
 * notify_stopping -- STOPPING=1, unless it was said, and no more of the
 * watchdog's thread, which is waited for.
 */
void notify_stopping(void);

#endif
