#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/internal.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/*
 * The bytes of the lock file.  PEN is the right to write.  TURN makes the
 * queue fair: it is held while waiting for PEN, so that who has just put PEN
 * down can't pick it up again before a waiter has woken.  It is a courtesy
 * only, passed by when it can't be had.  HERE is held shared by each writer
 * for as long as it has the file open.
 */
enum { PEN = 0, TURN = 1, HERE = 2 };

#define TURN_WAIT_MS 1000
#define TICK_MS 1000
#define REMIND_MS 30000
#define WAKE_SIGNAL (SIGRTMIN + 5)

struct pen {
	int fd;
	char *path;
	dev_t dev;
	ino_t ino;
	int64_t patience_ms;
	int turn_stuck; /* somebody stopped while having it */
	LIST_ENTRY(pen) others;
};

/* The lock files that this process has open: never a second descriptor. */
LIST_HEAD(pen_list, pen);
static struct pen_list pens = LIST_HEAD_INITIALIZER(pens);
static pthread_mutex_t pens_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t wake_once = PTHREAD_ONCE_INIT;

static void
wake(int signo)
{
	(void)signo; /* it has interrupted fcntl: that's all it is for */
}

static void
wake_install(void)
{
	struct sigaction action = {.sa_handler = wake};

	sigemptyset(&action.sa_mask);
	(void)sigaction(WAKE_SIGNAL, &action, NULL);
}

/* fcntl on one byte of the lock file: 1 done, 0 somebody has it, -1. */
static int
byte_lock(const struct pen *pen, int command, short type, int byte)
{
	struct flock lock = {.l_type = type,
	    .l_whence = SEEK_SET,
	    .l_start = byte,
	    .l_len = 1};

	if (fcntl(pen->fd, command, &lock) == 0)
		return (1);
	if (command == F_SETLK && (errno == EACCES || errno == EAGAIN))
		return (0);
	return (-1);
}

static void
byte_free(const struct pen *pen, int byte)
{
	(void)byte_lock(pen, F_SETLK, F_UNLCK, byte);
}

/* Who has a byte: a pid, 0 if it is in another pid namespace, -1 nobody. */
static pid_t
holder(const struct pen *pen, int byte)
{
	struct flock lock = {.l_type = F_WRLCK,
	    .l_whence = SEEK_SET,
	    .l_start = byte,
	    .l_len = 1};

	if (fcntl(pen->fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK)
		return (-1);
	return (lock.l_pid > 0 ? lock.l_pid : 0);
}

/* A process's name and state, as in proc(5); '?' if it can't be read. */
static char
process_state(pid_t pid, char name[32])
{
	char path[64], text[512];
	char *left, *right;
	ssize_t n;
	int fd;

	(void)snprintf(name, 32, "?");
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return ('?');
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return ('?');
	text[n] = '\0';
	left = strchr(text, '(');
	right = strrchr(text, ')');
	if (left == NULL || right == NULL || right[1] != ' ')
		return ('?');
	*right = '\0';
	(void)snprintf(name, 32, "%.31s", left + 1);
	return (right[2]);
}

/* 1 if ${pid} has the same there as we; 0 if not; -1 if it can't be seen. */
static int
same_link(pid_t pid, const char *what)
{
	char path[64];
	struct stat ours, theirs;

	(void)snprintf(path, sizeof(path), "/proc/self/%s", what);
	if (stat(path, &ours) != 0)
		return (-1);
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	if (stat(path, &theirs) != 0)
		return (-1);
	return (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino);
}

/* Of our name and user, where /proc is that of our pid namespace. */
static int
same_name(pid_t pid)
{
	char path[64], link[32] = "", self[32], ours[32], theirs[32];
	struct stat owner;

	(void)snprintf(self, sizeof(self), "%d", (int)getpid());
	(void)snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return (readlink("/proc/self", link, sizeof(link) - 1) > 0 &&
	    strcmp(link, self) == 0 && stat(path, &owner) == 0 &&
	    owner.st_uid == geteuid() && process_state(getpid(), ours) != '?' &&
	    process_state(pid, theirs) != '?' && strcmp(ours, theirs) == 0);
}

/*
 * This program, in our pid namespace, by name and user and not by its file:
 * an upgrade replaces that, and the old version is the one to be rid of.  It
 * holds a lock that only writers of this state file take, so the name is a
 * second look and not the only one.  Landlock keeps ns/pid from a process's
 * view of others that have entered it: then F_GETLK's having given us a pid
 * at all says that it is in our namespace or below.
 */
static int
same_program(pid_t pid)
{
	return (same_link(pid, "ns/pid") != 0 && same_name(pid));
}

/*
 * Kill ${pid} if it is this program, stopped, in this pid namespace, and
 * still the holder.  The pidfd comes first, so that all of this is about one
 * process, even if the pid is given to another meanwhile.
 */
static void
kill_if_stopped(const struct pen *pen, pid_t pid)
{
	char name[32];
	int pidfd;

	if ((pidfd = (int)syscall(SYS_pidfd_open, pid, 0)) == -1)
		return;
	if (process_state(pid, name) == 'T' && same_program(pid) &&
	    holder(pen, PEN) == pid) {
		if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) ==
		    0)
			log_warn("killed the stopped holder of the writer lock",
			    "path", pen->path, "pid", log_i64(pid), "name",
			    name);
		else
			log_warn("cannot kill the stopped holder of the writer "
				 "lock",
			    "path", pen->path, "pid", log_i64(pid), "reason",
			    strerror(errno));
	}
	(void)close(pidfd);
}

/* The wait is long: say for whom, and do what can be done. */
static void
look_at_holder(const struct pen *pen, int64_t waited_ms, int64_t *next_ms)
{
	char name[32] = "?", state[2] = "?";
	pid_t pid;

	if ((pid = holder(pen, PEN)) == -1)
		return;
	if (waited_ms >= *next_ms) {
		if (pid > 0)
			state[0] = process_state(pid, name);
		log_warn("waiting for the writer lock", "path", pen->path,
		    "waited_ms", log_i64(waited_ms), "holder_pid",
		    pid > 0 ? log_i64(pid) : "in another pid namespace",
		    "holder", name, "holder_state", state);
		*next_ms = waited_ms + REMIND_MS;
	}
	if (pid > 0)
		kill_if_stopped(pen, pid);
}

/* A timer whose signal interrupts this thread, again and again, so that one
 * that comes between two calls of fcntl isn't the last. */
static int
alarm_start(timer_t *timer, int64_t first_ms)
{
	const struct timespec tick = {.tv_sec = TICK_MS / 1000};
	struct timespec first;
	struct sigevent event = {0};
	struct itimerspec when;

	(void)pthread_once(&wake_once, wake_install);
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = WAKE_SIGNAL;
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &event, timer) != 0)
		return (-1);
	if (first_ms < 1)
		first_ms = 1;
	first.tv_sec = (time_t)(first_ms / 1000);
	first.tv_nsec = (long)(first_ms % 1000) * 1000000;
	when.it_value = first;
	when.it_interval = first_ms > TICK_MS ? tick : first;
	if (timer_settime(*timer, 0, &when, NULL) != 0) {
		(void)timer_delete(*timer);
		return (-1);
	}
	return (0);
}

/*
 * Wait for ${byte}.  With ${most_ms} above 0 give up then; otherwise wait on,
 * looking at the holder once patience is over.  1 got it, 0 gave up, -1 error.
 */
static int
wait_loop(const struct pen *pen, int byte, int64_t most_ms)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	int64_t start_us = clock_mono_us(), waited_ms, next_ms = 0;

	for (;;) {
		if (byte_lock(pen, F_SETLKW, F_WRLCK, byte) == 1)
			return (1);
		/*
		 * The kernel takes threads that wait for different files'
		 * pens for a deadlock at times.
		 */
		if (errno == EDEADLK)
			(void)nanosleep(&moment, NULL);
		else if (errno != EINTR)
			return (-1);
		waited_ms = (clock_mono_us() - start_us) / 1000;
		if (most_ms > 0 && waited_ms >= most_ms)
			return (0);
		if (most_ms == 0 && waited_ms >= pen->patience_ms)
			look_at_holder(pen, waited_ms, &next_ms);
	}
}

static int
byte_wait(const struct pen *pen, int byte, int64_t most_ms)
{
	sigset_t set, old;
	timer_t timer;
	int got;

	if (alarm_start(&timer, most_ms > 0 ? most_ms : pen->patience_ms) != 0)
		return (-1);
	sigemptyset(&set);
	sigaddset(&set, WAKE_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, &old);
	got = wait_loop(pen, byte, most_ms);
	(void)timer_delete(timer);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return (got);
}

static int
pen_fail(const struct pen *pen, struct mr_error *err)
{
	return (mr_error_set(err,
	    errno == EAGAIN || errno == ENOLCK || errno == ENOMEM ? MR_RETRY :
								    MR_FATAL,
	    "lock %s: %s", pen->path, strerror(errno)));
}

int
pen_take(struct pen *pen, struct mr_error *err)
{
	int turn, got;

	turn = byte_lock(pen, F_SETLK, F_WRLCK, TURN);
	if (turn == 0 && !pen->turn_stuck)
		turn = byte_wait(pen, TURN, TURN_WAIT_MS);
	pen->turn_stuck = turn == 0;
	got = turn == -1 ? -1 : byte_lock(pen, F_SETLK, F_WRLCK, PEN);
	if (got == 0)
		got = byte_wait(pen, PEN, 0);
	if (got == -1)
		pen_fail(pen, err);
	if (turn == 1)
		byte_free(pen, TURN);
	return (got == 1 ? 0 : -1);
}

int
pen_try(struct pen *pen)
{
	return (byte_lock(pen, F_SETLK, F_WRLCK, PEN) == 1);
}

void
pen_drop(struct pen *pen)
{
	byte_free(pen, PEN);
}

int
pen_alone(struct pen *pen)
{
	return (byte_lock(pen, F_SETLK, F_WRLCK, HERE) == 1);
}

pid_t
pen_other(const struct pen *pen)
{
	return (holder(pen, HERE));
}

int
pen_attend(struct pen *pen, struct mr_error *err)
{
	if (byte_lock(pen, F_SETLK, F_RDLCK, HERE) != 1)
		return (pen_fail(pen, err));
	return (0);
}

void
pen_give(const struct pen *pen, const char *db_path)
{
	if (store_give(pen->fd, db_path) != 0)
		log_warn("could not give the writer lock to its owner", "path",
		    pen->path, "reason", strerror(errno));
}

int
pen_moved(const struct pen *pen)
{
	struct stat now;

	return (stat(pen->path, &now) != 0 || now.st_dev != pen->dev ||
	    now.st_ino != pen->ino);
}

/* Looks by name: to open it and then look would lose the first one's locks. */
static int
open_already(const char *path)
{
	struct stat file;
	struct pen *pen = NULL;

	if (stat(path, &file) != 0)
		return (0);
	LIST_FOREACH(pen, &pens, others) {
		if (pen->dev == file.st_dev && pen->ino == file.st_ino)
			return (1);
	}
	return (0);
}

static int
open_once(struct pen *pen, struct mr_error *err)
{
	struct stat file;

	if (open_already(pen->path))
		return (mr_error_set(err, MR_FATAL,
		    "open %s: this process has "
		    "the file open for writing already",
		    pen->path));
	pen->fd = open(pen->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
	    0660);
	if (pen->fd == -1)
		return (mr_error_set(err, MR_FATAL, "open %.100s: %s%s",
		    pen->path, strerror(errno), store_place_advice(errno)));
	if (fstat(pen->fd, &file) != 0 || !S_ISREG(file.st_mode))
		return (mr_error_set(err, MR_FATAL,
		    "open %s: not a regular "
		    "file",
		    pen->path));
	pen->dev = file.st_dev;
	pen->ino = file.st_ino;
	LIST_INSERT_HEAD(&pens, pen, others);
	return (0);
}

struct pen *
pen_open(const char *db_path, int64_t patience_ms, struct mr_error *err)
{
	size_t size = strlen(db_path) + sizeof(".writer");
	struct pen *pen;
	int rc;

	if ((pen = calloc(1, sizeof(*pen))) == NULL ||
	    (pen->path = malloc(size)) == NULL) {
		mr_error_set(err, MR_RETRY, "open %s: out of memory", db_path);
		goto fail_pen;
	}
	(void)snprintf(pen->path, size, "%s.writer", db_path);
	pen->fd = -1;
	pen->patience_ms = patience_ms;
	(void)pthread_mutex_lock(&pens_lock);
	rc = open_once(pen, err);
	(void)pthread_mutex_unlock(&pens_lock);
	if (rc != 0)
		goto fail_fd;
	return (pen);

fail_fd:
	if (pen->fd != -1)
		(void)close(pen->fd);
fail_pen:
	if (pen != NULL)
		free(pen->path);
	free(pen);
	return (NULL);
}

void
pen_close(struct pen *pen)
{
	if (pen == NULL)
		return;
	(void)pthread_mutex_lock(&pens_lock);
	LIST_REMOVE(pen, others);
	(void)close(pen->fd);
	(void)pthread_mutex_unlock(&pens_lock);
	free(pen->path);
	free(pen);
}
