/*
 * test_base_sandbox -- what a sandboxed process can do, and what it can't.
 *
 * Each case forks, enters and tries one thing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/param.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "base/sandbox_internal.h"
#include "base/thread.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What a child says; above 0 it is an errno. */
enum { DONE = 0, KILLED = -1 };

static char inside[] = "/tmp/test_sandbox_in.XXXXXX";
static char outside[] = "/tmp/test_sandbox_out.XXXXXX";
static char tree[] = "/tmp/test_sandbox_tree.XXXXXX"; /* also of folders */
static char work[100]; /* a path for a case to use */
static int pipe_fds[2]; /* a case's own */
static struct sandbox layers; /* what the kernel here has */

static const char *
in(const char *folder, const char *name)
{

	snprintf(work, sizeof(work), "%s/%s", folder, name);
	return (work);
}

static void
make(const char *path, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	assert_true(fd != -1);
	assert_int_equal(close(fd), 0);
}

static void
enter(struct sandbox *sb)
{

	sandbox_init(sb);
	sandbox_write(sb, inside);
	sandbox_write_folders(sb, tree);
	sandbox_enter(sb);
}

static void
enter_all(void)
{
	struct sandbox sb;

	enter(&sb);
}

/* Single layers, for what the filter would answer first. */
static void
enter_privileges(void)
{
	struct sandbox sb = {0};

	privileges_give_up(&sb);
}

static void
enter_capabilities(void)
{
	struct sandbox sb = {0};

	capabilities_give_up(&sb);
}

static void
enter_nothing(void)
{
}

/* Run ${attempt} in a child that has entered: DONE, KILLED by the filter, or
 * the errno that it failed with. */
static int
attempt_in_child(int (*attempt)(void), void (*enter_it)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	if ((pid = fork()) == 0) {
		enter_it();
		errno = 0;
		_exit(attempt() == 0 ? DONE : errno != 0 ? errno : 255);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGSYS);
		return (KILLED);
	}
	return (WEXITSTATUS(status));
}

/* 0 or -1, as attempts return; a descriptor is closed. */
static int
opened(int fd)
{

	return (fd == -1 ? -1 : close(fd));
}

/* ---- what is refused ---------------------------------------------------- */

static int
try_read_outside(void)
{

	return (opened(open(in(outside, "secret"), O_RDONLY)));
}

static int
try_list_outside(void)
{

	return (opened(open(outside, O_RDONLY | O_DIRECTORY)));
}

static int
try_make_outside(void)
{

	return (opened(open(in(outside, "new"), O_WRONLY | O_CREAT, 0600)));
}

static int
try_truncate_outside(void)
{

	return (truncate(in(outside, "secret"), 0));
}

static int
try_remove_outside(void)
{

	return (unlink(in(outside, "secret")));
}

static int
try_make_folder(void)
{

	return (mkdir(in(inside, "folder"), 0700));
}

static int
try_move_folder(void)
{
	char from[256];

	snprintf(from, sizeof(from), "%s/stays", tree);
	return (rename(from, in(inside, "moved")));
}

static int
try_write_etc(void)
{

	return (opened(open("/etc/hostname", O_WRONLY)));
}

static int
try_link_in(void)
{
	char to[256];

	snprintf(to, sizeof(to), "%s/linked", inside);
	return (link(in(outside, "secret"), to));
}

static int
try_device(void)
{

	return (mknod(in(inside, "device"), S_IFIFO | 0600, 0));
}

static int
try_follow_link(void)
{

	return (opened(open(in(inside, "out"), O_RDONLY)));
}

static int
try_execute(void)
{

	execl("/bin/true", "true", (char *)NULL);
	return (-1);
}

static int
try_execute_inside(void)
{

	execl(in(inside, "program"), "program", (char *)NULL);
	return (-1);
}

static int
try_ptrace(void)
{

	return (ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == -1 ? -1 : 0);
}

static int
try_mount(void)
{

	return (mount("none", inside, "tmpfs", 0, NULL));
}

static int
try_bpf(void)
{

	return (syscall(SYS_bpf, 0, NULL, 0) == -1 ? -1 : 0);
}

static int
try_unshare(void)
{

	return (syscall(SYS_unshare, 0x10000000L /* CLONE_NEWUSER */) == -1 ?
		-1 :
		0);
}

static int
try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return (pid == -1 ? -1 : 0);
}

static int
try_packet_socket(void)
{

	return (opened(socket(AF_PACKET, SOCK_RAW, 0)));
}

static int
try_other_socket(void)
{

	return (opened(socket(AF_VSOCK, SOCK_STREAM, 0)));
}

static int
try_other_netlink(void)
{

	return (opened(socket(AF_NETLINK, SOCK_RAW, 9 /* AUDIT */)));
}

static int
try_executable_memory(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return (-1);
	munmap(memory, 4096);
	return (0);
}

static int
try_make_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return (p == MAP_FAILED ? 0 : mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int
try_signal_another(void)
{

	return (kill(getppid(), 0));
}

static int
try_schedule_another(void)
{
	unsigned int attr[12] = {sizeof(attr)};

	return ((int)syscall(SYS_sched_setattr, getppid(), attr, 0U));
}

static int
try_ring(void)
{

	return (syscall(SYS_io_uring_setup, 1, NULL) == -1 ? -1 : 0);
}

static int
try_bind(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0), status;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1)
		return (0);
	status = bind(fd, (struct sockaddr *)&address, sizeof(address));
	return (status);
}

/* Its own memory, as a file, has no protection. */
static int
try_rewrite_code(void)
{
	char mem[64];
	unsigned char code;
	int fd, wrote;

	snprintf(mem, sizeof(mem), "/proc/self/task/%ld/mem",
	    (long)syscall(SYS_gettid));
	memcpy(&code, (const void *)(uintptr_t)&opened, 1);
	if ((fd = open(mem, O_RDWR)) == -1)
		return (-1);
	wrote = pwrite(fd, &code, 1, (off_t)(uintptr_t)&opened) == 1;
	return (close(fd) == 0 && wrote ? 0 : -1);
}

static int
try_write_own_mem(void)
{

	return (opened(open("/proc/self/mem", O_RDWR)));
}

static int
try_live_longest(void)
{

	return (opened(open("/proc/thread-self/oom_score_adj", O_WRONLY)));
}

static int
try_chmod(void)
{

	return (chmod(in(outside, "secret"), 0600));
}

static int
try_fchmodat(void)
{

	return (
	    (int)syscall(SYS_fchmodat, AT_FDCWD, in(outside, "secret"), 0600));
}

static int
try_fchmodat2(void)
{

	return ((int)syscall(452 /* fchmodat2 */, AT_FDCWD,
	    in(outside, "secret"), 0600, 0));
}

static int
try_touch(void)
{

	return (utimensat(AT_FDCWD, in(outside, "secret"), NULL, 0));
}

/* Remove what a case may have made; ${status}, and its errno, stay. */
static int
removed(int status)
{
	int e = errno;

	(void)unlink(work);
	errno = e;
	return (status);
}

/* A file of ours that others run as us. */
static int
made_with(mode_t made, mode_t changed)
{
	int fd = open(in(inside, "made"), O_WRONLY | O_CREAT, made);
	int status = -1;

	if (fd != -1 && (changed == 0 || fchmod(fd, changed) == 0))
		status = 0;
	if (fd != -1)
		close(fd);
	return (removed(status));
}

static int
try_make_setuid(void)
{

	return (made_with(04755, 0));
}

static int
try_make_setgid(void)
{

	return (made_with(02755, 0));
}

static int
try_open_setuid(void)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, inside,
	    O_WRONLY | O_TMPFILE, 04755);

	return (opened(fd));
}

static int
try_fchmod_setuid(void)
{

	return (made_with(0600, 04777));
}

static int
try_fchmod_setgid(void)
{

	return (made_with(0600, 02777));
}

/* A socket's mode becomes that of the file that it is bound to. */
static int
try_fchmod_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return (fd == -1 ? 0 : fchmod(fd, 04777));
}

/* The end that is read; what is set of it ends with the case. */
static int
new_pipe(void)
{

	if (pipe(pipe_fds) != 0)
		abort();
	return (pipe_fds[0]);
}

static int
try_set_owner(void)
{

	return (fcntl(new_pipe(), F_SETOWN, getppid()));
}

static int
try_set_owner_ex(void)
{
	struct f_owner_ex owner = {.type = F_OWNER_PID, .pid = getppid()};

	return (fcntl(new_pipe(), F_SETOWN_EX, &owner));
}

static int
try_set_signal(void)
{

	return (fcntl(new_pipe(), F_SETSIG, SIGUSR1));
}

static int
try_async(void)
{

	return (fcntl(new_pipe(), F_SETFL, O_ASYNC | O_NONBLOCK));
}

static int
try_async_by_ioctl(void)
{
	int on = 1;

	return (ioctl(new_pipe(), FIOASYNC, &on));
}

static int
try_lease(void)
{
	int fd = open(in(inside, "target"), O_RDONLY);

	return (fd == -1 ? 0 : fcntl(fd, F_SETLEASE, F_RDLCK));
}

static int
try_watch_folder(void)
{
	int fd = open(inside, O_RDONLY | O_DIRECTORY);

	return (fd == -1 ? 0 : fcntl(fd, F_NOTIFY, DN_CREATE));
}

static int
own_by_ioctl(unsigned long command)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), pid = getppid();

	return (fd == -1 ? 0 : ioctl(fd, command, &pid));
}

static int
try_own_by_ioctl(void)
{

	return (own_by_ioctl(FIOSETOWN));
}

static int
try_group_by_ioctl(void)
{

	return (own_by_ioctl(SIOCSPGRP));
}

/* Bound to any port of this machine, or ${fd}'s failure. */
static int
bound(int fd)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int status;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd == -1)
		return (-1);
	status = bind(fd, (struct sockaddr *)&address, sizeof(address));
	return (status);
}

/* Landlock's ports are TCP's alone. */
static int
try_mptcp(void)
{

	return (bound(socket(AF_INET, SOCK_STREAM, 262 /* MPTCP */)));
}

static int
try_mptcp_6(void)
{

	return (opened(socket(AF_INET6, SOCK_STREAM, 262)));
}

static int
try_sctp(void)
{

	return (opened(socket(AF_INET, SOCK_SEQPACKET, 0)));
}

static int
try_udp_lite(void)
{

	return (bound(socket(AF_INET, SOCK_DGRAM, 136 /* UDPLITE */)));
}

static int
try_ping(void)
{

	return (opened(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)));
}

static int
try_raw(void)
{

	return (opened(socket(AF_INET, SOCK_RAW, IPPROTO_TCP)));
}

static int
try_udp_bind(void)
{

	sandbox_listen_no_more();
	return (bound(socket(AF_INET, SOCK_DGRAM, 0)));
}

/* It gets a port by itself, which Landlock doesn't see. */
static int
try_listen_unbound(void)
{

	sandbox_listen_no_more();
	return (listen(socket(AF_INET, SOCK_STREAM, 0), 1));
}

static int
try_bind_unix(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int status;

	sandbox_listen_no_more();
	snprintf(address.sun_path, sizeof(address.sun_path), "%s",
	    in(inside, "socket"));
	status = bind(socket(AF_UNIX, SOCK_STREAM, 0),
	    (struct sockaddr *)&address, sizeof(address));
	return (removed(status));
}

static int
try_add_filter(void)
{

	sandbox_listen_no_more();
	return (syscall(SYS_seccomp, 2 /* GET_ACTION_AVAIL */, 0,
		    &(uint32_t){0x7fff0000U /* ALLOW */}) == -1 ?
		-1 :
		0);
}

static void *
bind_when_told(void *arg)
{
	static int result;
	char byte;

	(void)arg;
	result = read(pipe_fds[0], &byte, 1) == 1 &&
		bound(socket(AF_INET, SOCK_DGRAM, 0)) == 0 ?
	    0 :
	    errno;
	return (&result);
}

/* Threads that were there before are bound as well. */
static int
try_bind_in_a_thread(void)
{
	pthread_t thread;
	void *result;

	(void)new_pipe();
	if (pthread_create(&thread, NULL, bind_when_told, NULL) != 0)
		return (0);
	sandbox_listen_no_more();
	if (write(pipe_fds[1], "x", 1) != 1 ||
	    pthread_join(thread, &result) != 0)
		return (0);
	errno = *(int *)result;
	return (errno == 0 ? 0 : -1);
}

/* 1 where each layer has to be tried.  A sanitizer takes what the filter
 * refuses. */
static int
all_are_wanted(void)
{
	const char *no_skips = getenv("NO_SKIPS");

	return (!SANITIZED && no_skips != NULL && *no_skips != '\0');
}

static void
what_is_outside_is_refused(void **state)
{
	static const struct {
		const char *name;
		int (*attempt)(void);
		enum sandbox_layer by;
		int abi; /* Landlock's, that it takes */
		int expected;
	} cases[] = {
	    {"read a file outside", try_read_outside, SANDBOX_LANDLOCK, 1,
		EACCES},
	    {"list a folder outside", try_list_outside, SANDBOX_LANDLOCK, 1,
		EACCES},
	    {"make a file outside", try_make_outside, SANDBOX_LANDLOCK, 1,
		EACCES},
	    {"truncate outside", try_truncate_outside, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"remove a file outside", try_remove_outside, SANDBOX_LANDLOCK, 1,
		EACCES},
	    {"make a folder among files", try_make_folder, SANDBOX_LANDLOCK, 1,
		EACCES},
	    {"move a folder among files", try_move_folder, SANDBOX_LANDLOCK, 1,
		EACCES},
	    {"write below /etc", try_write_etc, SANDBOX_LANDLOCK, 1, EACCES},
	    {"link a file in", try_link_in, SANDBOX_LANDLOCK, 1, EXDEV},
	    {"follow a link out", try_follow_link, SANDBOX_LANDLOCK, 1, EACCES},
	    {"make a device", try_device, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"bind a port", try_bind, SANDBOX_LANDLOCK, 4, EACCES},
	    {"execve", try_execute, SANDBOX_SECCOMP, 0, KILLED},
	    {"execve inside", try_execute_inside, SANDBOX_SECCOMP, 0, KILLED},
	    {"ptrace", try_ptrace, SANDBOX_SECCOMP, 0, KILLED},
	    {"mount", try_mount, SANDBOX_SECCOMP, 0, KILLED},
	    {"bpf", try_bpf, SANDBOX_SECCOMP, 0, KILLED},
	    {"unshare", try_unshare, SANDBOX_SECCOMP, 0, KILLED},
	    {"fork", try_fork, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"packet socket", try_packet_socket, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"vsock", try_other_socket, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"audit netlink", try_other_netlink, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"memory to execute", try_executable_memory, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"mprotect to execute", try_make_executable, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"signal the parent", try_signal_another, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"schedule the parent", try_schedule_another, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"io_uring", try_ring, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"rewrite code", try_rewrite_code, SANDBOX_LANDLOCK, 1, EACCES},
	    {"write its memory", try_write_own_mem, SANDBOX_LANDLOCK, 1,
		EACCES},
	    {"oom_score_adj", try_live_longest, SANDBOX_LANDLOCK, 1, EACCES},
	    {"chmod", try_chmod, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"fchmodat", try_fchmodat, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"fchmodat2", try_fchmodat2, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"utimensat", try_touch, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"make setuid", try_make_setuid, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"make setgid", try_make_setgid, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"make setuid, unnamed", try_open_setuid, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"fchmod to setuid", try_fchmod_setuid, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"fchmod to setgid", try_fchmod_setgid, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"fchmod of a socket", try_fchmod_socket, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"F_SETOWN", try_set_owner, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"F_SETOWN_EX", try_set_owner_ex, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"F_SETSIG", try_set_signal, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"O_ASYNC", try_async, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"F_SETLEASE", try_lease, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"F_NOTIFY", try_watch_folder, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"FIOASYNC", try_async_by_ioctl, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"FIOSETOWN", try_own_by_ioctl, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"SIOCSPGRP", try_group_by_ioctl, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"MPTCP", try_mptcp, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"MPTCP, IPv6", try_mptcp_6, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"SCTP", try_sctp, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"UDP-Lite", try_udp_lite, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"ping socket", try_ping, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"raw socket", try_raw, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"UDP bind", try_udp_bind, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"listen unbound", try_listen_unbound, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"bind a unix socket late", try_bind_unix, SANDBOX_SECCOMP, 0,
		ENOSYS},
	    {"another filter", try_add_filter, SANDBOX_SECCOMP, 0, ENOSYS},
	    {"UDP bind in a thread", try_bind_in_a_thread, SANDBOX_SECCOMP, 0,
		ENOSYS},
	};
	size_t i;
	int got, done = 0, failed = 0;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		if (!layers.in_force[cases[i].by] ||
		    layers.abi < cases[i].abi) {
			print_message("# not tried: %s\n", cases[i].name);
			continue;
		}
		done++;
		if ((got = attempt_in_child(cases[i].attempt, enter_all)) ==
		    cases[i].expected)
			continue;
		print_error("# %s: %d instead of %d\n", cases[i].name, got,
		    cases[i].expected);
		failed++;
	}
	print_message("# %d of %zu tried\n", done, COUNT(cases));
	assert_int_equal(failed, 0);
	if (all_are_wanted())
		assert_int_equal(done, COUNT(cases));
}

/* The same attempts succeed, or fail otherwise, without a sandbox: so it is
 * the sandbox that refuses. */
static void
what_is_outside_is_there_without_it(void **state)
{
	static int (*const attempts[])(void) = {try_read_outside,
	    try_list_outside, try_follow_link, try_fork, try_executable_memory,
	    try_make_executable, try_signal_another, try_schedule_another,
	    try_bind, try_rewrite_code, try_write_own_mem, try_live_longest,
	    try_chmod, try_fchmodat, try_touch, try_make_setuid,
	    try_make_setgid, try_fchmod_setuid, try_fchmod_setgid,
	    try_fchmod_socket, try_set_owner, try_set_owner_ex, try_set_signal,
	    try_async, try_async_by_ioctl, try_own_by_ioctl, try_group_by_ioctl,
	    try_udp_bind, try_listen_unbound, try_bind_unix,
	    try_bind_in_a_thread};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(attempts); i++)
		if (attempt_in_child(attempts[i], enter_nothing) != DONE)
			fail_msg("attempt %zu fails by itself", i);
}

static int
has_capabilities(void)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");
	int zeros = 0, no_new = 0;

	if (f == NULL)
		return (-1);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "Cap", 3) == 0 && line[3] != 'B' &&
		    strtoull(strchr(line, ':') + 1, NULL, 16) == 0)
			zeros++;
		if (geteuid() == 0 && strncmp(line, "CapBnd:", 7) == 0 &&
		    strtoull(line + 7, NULL, 16) == 0)
			zeros++;
		if (strncmp(line, "NoNewPrivs:\t1", 13) == 0)
			no_new = 1;
	}
	(void)fclose(f);
	return (zeros == (geteuid() == 0 ? 5 : 4) && no_new ? 0 : -1);
}

static void
privileges_and_capabilities_are_gone(void **state)
{

	(void)state;
	assert_int_equal(attempt_in_child(has_capabilities, enter_all), DONE);
}

/* ---- what root could, and a setuid program ------------------------------ */

enum { NOBODY = 65534 };

static int
try_read_foreign(void)
{

	return (opened(open(in(inside, "foreign"), O_RDONLY)));
}

/* To whose it is already, so that the control changes nothing. */
static int
try_chown(void)
{

	return (chown(in(inside, "foreign"), NOBODY, (gid_t)-1));
}

/* Of this thread: the C library's asks of all, and a sanitizer's own has its
 * capabilities yet. */
static int
try_setuid(void)
{

	return ((int)syscall(SYS_setuid, NOBODY));
}

static int
try_chroot(void)
{

	return (chroot(inside));
}

/* A file that is nobody's alone. */
static void
make_foreign(void)
{

	make(in(inside, "foreign"), 0600);
	assert_int_equal(chown(work, NOBODY, (gid_t)-1), 0);
}

static void
root_without_capabilities_is_a_user_like_others(void **state)
{
	static const struct {
		const char *name;
		int (*attempt)(void);
		int expected;
	} cases[] = {
	    {"read another's file", try_read_foreign, EACCES},
	    {"chown", try_chown, EPERM},
	    {"setuid", try_setuid, EPERM},
	    {"chroot", try_chroot, EPERM},
	};
	size_t i;

	(void)state;
	if (geteuid() != 0) {
		print_message("# not tried: what only root can\n");
		return;
	}
	make_foreign();
	for (i = 0; i < COUNT(cases); i++) {
		print_message("# %s\n", cases[i].name);
		assert_int_equal(attempt_in_child(cases[i].attempt,
				     enter_nothing),
		    DONE);
		assert_int_equal(attempt_in_child(cases[i].attempt,
				     enter_capabilities),
		    cases[i].expected);
	}
}

static int setuid_fd; /* test(1), root's, setuid */

/* As nobody; the program exits with 0 if / is its effective user's, else with
 * 1. */
static int
try_setuid_program(void)
{
	static char name[] = "test", owned[] = "-O", path[] = "/";
	char *const argv[] = {name, owned, path, NULL}, *const env[] = {NULL};

	if (setuid(NOBODY) == 0)
		(void)fexecve(setuid_fd, argv, env);
	return (-1);
}

/* By a descriptor: nobody else gets into the folder. */
static void
make_setuid_copy(const char *program)
{
	char buffer[65536];
	ssize_t got;
	int from = open(program, O_RDONLY), to;

	to = open(in(inside, "setuid"), O_WRONLY | O_CREAT, 0700);
	assert_true(from != -1 && to != -1);
	while ((got = read(from, buffer, sizeof(buffer))) > 0)
		assert_int_equal(write(to, buffer, (size_t)got), got);
	assert_int_equal(got, 0);
	assert_int_equal(fchmod(to, 04755), 0);
	assert_int_equal(close(to), 0);
	assert_int_equal(close(from), 0);
	setuid_fd = open(work, O_RDONLY | O_CLOEXEC);
	assert_true(setuid_fd != -1);
}

static void
setuid_program_gives_no_privilege(void **state)
{
	struct statvfs fs;

	(void)state;
	assert_int_equal(statvfs(inside, &fs), 0);
	if (geteuid() != 0 || (fs.f_flag & ST_NOSUID) != 0 ||
	    prctl(PR_GET_NO_NEW_PRIVS, 0L, 0L, 0L, 0L) != 0) {
		print_message("# not tried: a setuid program\n");
		return;
	}
	make_setuid_copy("/usr/bin/test");
	assert_int_equal(attempt_in_child(try_setuid_program, enter_nothing),
	    0);
	assert_int_equal(attempt_in_child(try_setuid_program, enter_privileges),
	    1);
	assert_int_equal(close(setuid_fd), 0);
}

static void
tool_opens_any_file_and_executes_none(void **state)
{

	(void)state;
	assert_int_equal(attempt_in_child(try_read_outside, sandbox_enter_tool),
	    DONE);
	if (!layers.in_force[SANDBOX_SECCOMP]) {
		print_message("# not tried: execve by a tool\n");
		return;
	}
	assert_int_equal(attempt_in_child(try_execute, sandbox_enter_tool),
	    KILLED);
	assert_int_equal(attempt_in_child(try_ptrace, sandbox_enter_tool),
	    KILLED);
	assert_int_equal(attempt_in_child(try_fork, sandbox_enter_tool),
	    ENOSYS);
}

/* ---- what goes on ------------------------------------------------------- */

static int
use_files(void)
{
	char other[256];
	int fd;

	snprintf(other, sizeof(other), "%s/other", inside);
	if ((fd = open(in(inside, "file"), O_RDWR | O_CREAT, 0600)) == -1 ||
	    write(fd, "x", 1) != 1 || ftruncate(fd, 0) != 0 ||
	    fdatasync(fd) != 0 || close(fd) != 0 || rename(work, other) != 0 ||
	    unlink(other) != 0)
		return (-1);
	return (opened(open(inside, O_RDONLY | O_DIRECTORY)));
}

static int
use_folders(void)
{
	char other[256];

	snprintf(other, sizeof(other), "%s/other", tree);
	if (mkdir(in(tree, "folder"), 0700) != 0 || rename(work, other) != 0)
		return (-1);
	return (rmdir(other));
}

/* Its own name, as another thread, and ps, see it. */
static void *
say_name(void *arg)
{

	(void)prctl(PR_GET_NAME, arg, 0L, 0L, 0L);
	return (arg);
}

static void *
give_way(void *arg)
{
	int *nice = arg;

	thread_give_way();
	thread_give_way(); /* as much as once */
	*nice = getpriority(PRIO_PROCESS, (id_t)gettid());
	return (NULL);
}

static int
use_threads(void)
{
	pthread_t thread;
	char name[THREAD_NAME_SIZE] = "", comm[THREAD_NAME_SIZE] = "";
	int nice = 0;
	FILE *f;

	if ((errno = thread_start(&thread, "much-too-long-a-name", 64 * 1024,
		 say_name, name)) != 0 ||
	    (errno = pthread_join(thread, NULL)) != 0 ||
	    strcmp(name, "much-too-long-a") != 0)
		return (-1);
	thread_name("main");
	if ((errno = thread_start(&thread, "behind", 64 * 1024, give_way,
		 &nice)) != 0 ||
	    (errno = pthread_join(thread, NULL)) != 0 ||
	    nice != MIN(getpriority(PRIO_PROCESS, 0) + 10, 19))
		return (-1);
	if ((f = fopen("/proc/thread-self/comm", "r")) == NULL ||
	    fgets(comm, sizeof(comm), f) == NULL || fclose(f) != 0)
		return (-1);
	return (strcmp(comm, "main\n") == 0 ? 0 : -1);
}

static int
use_names(void)
{
	struct addrinfo *list = NULL;

	if (getaddrinfo("localhost", "9092", NULL, &list) != 0)
		return (-1);
	freeaddrinfo(list);
	return (opened(open("/etc/hosts", O_RDONLY)));
}

/* getaddrinfo binds, a netlink socket. */
static int
use_names_later(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};

	sandbox_listen_no_more();
	if (fd == -1 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    opened(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		IPPROTO_TCP)) != 0 ||
	    opened(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)) != 0)
		return (-1);
	return (use_names());
}

/* As SQLite, librdkafka and the broker do. */
static int
use_descriptors(void)
{
	const struct timespec times[2] = {{0, UTIME_OMIT}, {1000000, 0}};
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(in(inside, "file"), O_RDWR | O_CREAT, 0640), flags;

	if (fd == -1 || fchmod(fd, 0660) != 0 || futimens(fd, times) != 0 ||
	    fcntl(fd, F_SETLK, &lock) != 0 || unlink(work) != 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
	    (flags = fcntl(fd, F_GETFL)) == -1 ||
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return (-1);
	return (opened(fd));
}

static int
use_sockets(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat file;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s",
	    in(inside, "socket"));
	if (fd == -1 || fchmod(fd, 0600) != 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, 1) != 0 || stat(work, &file) != 0 ||
	    (file.st_mode & 0777) != 0600 || unlink(work) != 0)
		return (-1);
	return (opened(fd));
}

/* As a waiter does to the stopped holder of a pen. */
static int
use_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (fd == -1)
		return (-1);
	(void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	return (-1);
}

static void
what_programs_do_goes_on(void **state)
{
	static int (*const attempts[])(void) = {use_files, use_folders,
	    use_threads, use_names, use_names_later, use_sockets,
	    use_descriptors};
	size_t i;
	int got, status;
	struct sandbox sb;
	pid_t pid;

	(void)state;
	for (i = 0; i < COUNT(attempts); i++)
		if ((got = attempt_in_child(attempts[i], enter_all)) != DONE)
			fail_msg("attempt %zu: %d", i, got);
	fflush(NULL);
	if ((pid = fork()) == 0) {
		enter(&sb);
		_exit(use_pidfd() == -1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* A file that is replaced stays readable: it is the folder that counts. */
static int
use_replaced_file(void)
{
	struct sandbox sb;

	sandbox_init(&sb);
	sandbox_read_beside(&sb, in(outside, "link"));
	sandbox_enter(&sb);
	if (opened(open(in(outside, "secret"), O_RDONLY)) != 0)
		return (-1);
	return (opened(open(in(inside, "target"), O_RDONLY)));
}

static void
beside_a_file_is_its_folder_and_that_of_what_it_links_to(void **state)
{

	(void)state;
	assert_int_equal(attempt_in_child(use_replaced_file, enter_nothing),
	    DONE);
}

static void
every_layer_says_whether_it_is_in_force(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < SANDBOX_LAYERS; i++) {
		print_message("# layer %d: %s\n", i, layers.said[i]);
		assert_string_not_equal(layers.said[i], "");
	}
	assert_true(layers.in_force[SANDBOX_PRIVILEGES]);
	assert_true(layers.in_force[SANDBOX_CAPABILITIES]);
	assert_int_equal(layers.in_force[SANDBOX_SECCOMP] && SANITIZED, 0);
}

/* ---- */

/* The layers of this kernel, as a child that enters finds them. */
static int
setup(void **state)
{
	struct sandbox *shared;
	pid_t pid;
	char target[100];

	(void)state;
	if (mkdtemp(inside) == NULL || mkdtemp(outside) == NULL ||
	    mkdtemp(tree) == NULL || mkdir(in(tree, "stays"), 0700) != 0)
		return (-1);
	make(in(outside, "secret"), 0600);
	make(in(inside, "target"), 0600);
	make(in(inside, "program"), 0700);
	snprintf(target, sizeof(target), "%s/target", inside);
	if (symlink(target, in(outside, "link")) != 0)
		return (-1);
	snprintf(target, sizeof(target), "%s/secret", outside);
	if (symlink(target, in(inside, "out")) != 0)
		return (-1);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || (pid = fork()) == -1)
		return (-1);
	if (pid == 0) {
		enter(shared);
		_exit(0);
	}
	(void)waitpid(pid, NULL, 0);
	layers = *shared;
	(void)munmap(shared, sizeof(*shared));
	return (0);
}

static int
teardown(void **state)
{
	static const char *const names[] = {"secret", "target", "program",
	    "link", "out", "new", "linked", "file", "other", "socket",
	    "foreign", "setuid"};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(names); i++) {
		(void)unlink(in(inside, names[i]));
		(void)unlink(in(outside, names[i]));
	}
	(void)rmdir(in(tree, "stays"));
	return (rmdir(inside) != 0 || rmdir(outside) != 0 || rmdir(tree) != 0 ?
		-1 :
		0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_layer_says_whether_it_is_in_force),
	    cmocka_unit_test(what_is_outside_is_refused),
	    cmocka_unit_test(what_is_outside_is_there_without_it),
	    cmocka_unit_test(privileges_and_capabilities_are_gone),
	    cmocka_unit_test(root_without_capabilities_is_a_user_like_others),
	    cmocka_unit_test(setuid_program_gives_no_privilege),
	    cmocka_unit_test(tool_opens_any_file_and_executes_none),
	    cmocka_unit_test(what_programs_do_goes_on),
	    cmocka_unit_test(
		beside_a_file_is_its_folder_and_that_of_what_it_links_to),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}
