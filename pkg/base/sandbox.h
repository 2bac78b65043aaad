/*
 * sandbox -- what a program gives up before it has any business with others.
 *
 * Four layers: no new privileges; no capabilities (all five sets); Landlock,
 * so that only the folders named here can be opened and no TCP port bound but
 * those named; a seccomp filter, so that only the system calls that these
 * programs are made of do anything.  What isn't on its list fails with
 * ENOSYS, which the C library takes for an older kernel; what only a
 * break-in would ask for (execve, ptrace, mount, bpf, ...) kills the process.
 *
 * What is refused of files is opening, making, renaming and removing outside,
 * and changing a mode, a time or an owner by name anywhere, or a mode to
 * setuid or setgid.  Not refused: the mode (0777), times and group of an own
 * file that may be opened, if only for reading; stat of any file.  What is
 * refused of sockets is all but unix, UDP and TCP, and once all listen
 * (sandbox_listen_no_more) binding and listening; before, Landlock has TCP's
 * ports only.  Not refused: connecting to any address, port and unix socket
 * by path, and sending by UDP, for which the kernel picks a port.  Of signals
 * to others only SIGKILL by pidfd isn't refused (store/pen.h has its use).
 *
 * Layers bind the calling thread and what it starts: enter before the first
 * thread.  There is no way out.  A layer that the kernel, or the container
 * around us, doesn't have is left out, and sandbox_report says so: it is
 * never a reason not to start.  Programs built with a sanitizer have the
 * first two only: its runtime reads, traces and starts things of its own.
 *
 *	struct sandbox sb;
 *
 *	sandbox_init(&sb);
 *	sandbox_write(&sb, "data");
 *	sandbox_enter(&sb);
 *	... open what listens ...
 *	sandbox_listen_no_more();
 */
#ifndef MR_SANDBOX_H
#define MR_SANDBOX_H

#include <stdint.h>

#define SANDBOX_WHY_SIZE 80

enum sandbox_layer {
	SANDBOX_PRIVILEGES,
	SANDBOX_CAPABILITIES,
	SANDBOX_LANDLOCK,
	SANDBOX_SECCOMP,
	SANDBOX_LAYERS
};

/* Its members are the module's own. */
struct sandbox {
	int rules_fd; /* -1: no Landlock */
	int abi; /* Landlock's version */
	uint64_t rights; /* those that Landlock keeps from us */
	int in_force[SANDBOX_LAYERS];
	char said[SANDBOX_LAYERS][SANDBOX_WHY_SIZE];
};

/*
 * sandbox_init -- nothing is allowed but what the C library reads by itself:
 * names (/etc, and where resolv.conf really is), /proc, the number of
 * processors, randomness, /dev/null.
 */
void sandbox_init(struct sandbox *sb);

/*
 * sandbox_read, sandbox_write -- ${path} and what is below it may be read; or
 * read, written, made, renamed and removed (files and sockets).  A path that
 * isn't there gives nothing.  The _beside forms take a file's name and allow
 * the folder that it is in, since a file that is replaced is another file to
 * Landlock; for a symbolic link, also the folder of what it points to.
 * Given a folder they allow that.  With sandbox_write_folders folders below
 * ${path} may be made, renamed in their folder and removed as well.
 */
void sandbox_read(struct sandbox *sb, const char *path);
void sandbox_write(struct sandbox *sb, const char *path);
void sandbox_read_beside(struct sandbox *sb, const char *path);
void sandbox_write_beside(struct sandbox *sb, const char *path);
void sandbox_write_folders(struct sandbox *sb, const char *path);

/* sandbox_listen -- a TCP port that may be bound. */
void sandbox_listen(struct sandbox *sb, uint16_t port);

/*
 * sandbox_enter -- give everything else up.  Ends *sb's use but for
 * sandbox_report.
 *
 * sandbox_enter_tool does so for a command that somebody runs by hand on
 * files of any owner and in any place: without the second and third layer.
 */
void sandbox_enter(struct sandbox *sb);
void sandbox_enter_tool(void);

/*
 * sandbox_listen_no_more -- all that will ever listen does: no thread of the
 * process, started before or after, can bind or listen again, be it a port
 * that Landlock doesn't see (UDP's, or the one that a TCP socket is given when
 * it listens unbound) or a unix socket.  Only what getaddrinfo binds, to ask
 * the kernel for its addresses, goes on.  Does nothing where the filter isn't
 * in force; a kernel that doesn't take it is a warning in the log.
 */
void sandbox_listen_no_more(void);

/* sandbox_report -- a line in the log that says what is in force, and a
 * warning for what isn't. */
void sandbox_report(const struct sandbox *sb);

#endif
