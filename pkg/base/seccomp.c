/*
 * seccomp -- the system calls that these programs are made of.
 *
 * A list of what is allowed can be kept because the programs are static: no
 * plug-in, no shared library of the host's can bring others in.  A C library
 * or OpenSSL of a newer system may try a call that isn't here; it gets what
 * an older kernel would have said, and does without.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox_internal.h"

/* By name: not every machine has them all, nor every libseccomp. */
static const char *const allowed[] = {
    /* files; open, fcntl and what changes a file's mode are below */
    "access", "close", "copy_file_range", "dup", "dup2", "dup3", "faccessat",
    "faccessat2", "fallocate", "fchown", "fdatasync", "flock", "fstat",
    "fstatfs", "fsync", "ftruncate", "getcwd", "getdents64", "link", "linkat",
    "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "pipe", "pipe2",
    "pread64", "preadv", "pwrite64", "pwritev", "read", "readlink",
    "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "stat",
    "statfs", "statx", "sync_file_range", "umask", "unlink", "unlinkat",
    "write", "writev",
    /* memory; what can be executed is below */
    "brk", "madvise", "mincore", "mremap", "msync", "munmap",
    /* threads, processes, signals */
    "exit", "exit_group", "futex", "futex_waitv", "getcpu", "getegid",
    "geteuid", "getgid", "getpid", "getppid", "getpriority", "getrlimit",
    "getrusage", "gettid", "getuid", "membarrier", "pause", "pidfd_open",
    "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_yield",
    "seccomp", /* only ever stricter */
    "set_robust_list", "sigaltstack", "sysinfo", "times", "uname",
    /* time and waiting */
    "clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create1",
    "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "getrandom",
    "gettimeofday", "nanosleep", "poll", "ppoll", "pselect6", "select",
    "signalfd4", "time", "timer_create", "timer_delete", "timer_getoverrun",
    "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime",
    "timerfd_settime",
    /* sockets; which ones is below */
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname",
    "getsockopt", "listen", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg",
    "sendfile", "sendfile64", "sendmsg", "sendto", "setsockopt", "shutdown"};

/* Nothing here, or in a library, has any use for these. */
static const char *const deadly[] = {"bpf", "chroot", "delete_module", "execve",
    "execveat", "finit_module", "init_module", "kexec_file_load", "kexec_load",
    "mount", "move_mount", "open_tree", "pivot_root", "process_vm_readv",
    "process_vm_writev", "ptrace", "reboot", "setns", "umount2", "unshare"};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* 0, or a negative errno; a call that the machine doesn't have needs no
 * rule. */
static int
rules_of(scmp_filter_ctx filter, uint32_t action, const char *const *names,
    size_t count)
{
	int number, e = 0;
	size_t i;

	for (i = 0; i < count && e == 0; i++) {
		number = seccomp_syscall_resolve_name(names[i]);
		if (number >= 0)
			e = seccomp_rule_add(filter, action, number, 0);
	}
	return (e);
}

/* Allow a call where its arguments are like these. */
static int
allow_where(scmp_filter_ctx filter, int number, unsigned int count,
    const struct scmp_arg_cmp *where)
{

	return (number < 0 ? 0 :
			     seccomp_rule_add_array(filter, SCMP_ACT_ALLOW,
				 number, count, where));
}

#define ALL ((scmp_datum_t)UINT32_MAX) /* an int's bits */
#define POINTER ((scmp_datum_t)UINT64_MAX)
#define SPECIAL ((scmp_datum_t)(S_ISUID | S_ISGID)) /* of a mode */
#define TYPE ((scmp_datum_t)0xf) /* of a socket, without its flags */

static int
rules_of_an_argument(scmp_filter_ctx filter)
{
	const scmp_datum_t self = (scmp_datum_t)getpid();
	const struct {
		int number;
		unsigned int argument;
		scmp_datum_t mask, value;
	} where[] = {
	    /* No file of ours that others would run as us. */
	    {SCMP_SYS(open), 2, SPECIAL, 0},
	    {SCMP_SYS(openat), 3, SPECIAL, 0},
	    {SCMP_SYS(fchmod), 1, SPECIAL, 0},
	    /* futimens: Landlock leaves times and modes alone, so none of what
	     * has to be named instead of opened. */
	    {SCMP_SYS(utimensat), 1, POINTER, 0},
	    /* Not what has the kernel send signals: owners, leases, ... */
	    {SCMP_SYS(fcntl), 1, ALL, F_DUPFD},
	    {SCMP_SYS(fcntl), 1, ALL, F_DUPFD_CLOEXEC},
	    {SCMP_SYS(fcntl), 1, ALL, F_GETFD},
	    {SCMP_SYS(fcntl), 1, ALL, F_SETFD},
	    {SCMP_SYS(fcntl), 1, ALL, F_GETFL},
	    {SCMP_SYS(fcntl), 1, ALL, F_GETLK},
	    {SCMP_SYS(fcntl), 1, ALL, F_SETLK},
	    {SCMP_SYS(fcntl), 1, ALL, F_SETLKW},
	    {SCMP_SYS(fcntl), 1, ALL, F_OFD_GETLK},
	    {SCMP_SYS(fcntl), 1, ALL, F_OFD_SETLK},
	    {SCMP_SYS(fcntl), 1, ALL, F_OFD_SETLKW},
	    {SCMP_SYS(fcntl), 1, ALL, F_SETPIPE_SZ}, /* librdkafka's */
	    {SCMP_SYS(mmap), 2, PROT_EXEC, 0},
	    {SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
	    /* Threads, not processes. */
	    {SCMP_SYS(clone), 0, CLONE_THREAD, CLONE_THREAD},
	    {SCMP_SYS(kill), 0, ALL, self},
	    {SCMP_SYS(tgkill), 0, ALL, self},
	    {SCMP_SYS(prlimit64), 0, ALL, 0},
	    {SCMP_SYS(sched_setattr), 0, ALL, 0},
	    /* The stopped holder of a pen is killed by it. */
	    {SCMP_SYS(pidfd_send_signal), 1, ALL, SIGKILL},
	    {SCMP_SYS(prctl), 0, ALL, PR_SET_NAME},
	    {SCMP_SYS(prctl), 0, ALL, PR_GET_NAME},
	    {SCMP_SYS(ioctl), 1, ALL, FIONREAD},
	    {SCMP_SYS(ioctl), 1, ALL, FIONBIO},
	    {SCMP_SYS(ioctl), 1, ALL, TCGETS},
	    {SCMP_SYS(ioctl), 1, ALL, TIOCGWINSZ},
	    {SCMP_SYS(socket), 0, ALL, AF_UNIX},
	    {SCMP_SYS(socketpair), 0, ALL, AF_UNIX},
	};
	struct scmp_arg_cmp like;
	int e = 0;
	size_t i;

	for (i = 0; i < COUNT(where) && e == 0; i++) {
		like = SCMP_CMP(where[i].argument, SCMP_CMP_MASKED_EQ,
		    where[i].mask, where[i].value);
		e = allow_where(filter, where[i].number, 1, &like);
	}
	return (e);
}

/*
 * Sockets: TCP; UDP, for the resolver; and getaddrinfo asks the kernel for its
 * addresses.  Not what else has ports: MPTCP's, which a TCP socket of another
 * protocol number is, aren't Landlock's.
 */
static int
rules_of_sockets(scmp_filter_ctx filter)
{
	static const struct {
		int family, type, protocol;
	} sockets[] = {
	    {AF_INET, SOCK_STREAM, 0},
	    {AF_INET, SOCK_STREAM, IPPROTO_TCP},
	    {AF_INET, SOCK_DGRAM, 0},
	    {AF_INET, SOCK_DGRAM, IPPROTO_UDP},
	    {AF_INET6, SOCK_STREAM, 0},
	    {AF_INET6, SOCK_STREAM, IPPROTO_TCP},
	    {AF_INET6, SOCK_DGRAM, 0},
	    {AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
	    {AF_NETLINK, SOCK_RAW, NETLINK_ROUTE},
	};
	struct scmp_arg_cmp like[3];
	int e = 0;
	size_t i;

	for (i = 0; i < COUNT(sockets) && e == 0; i++) {
		like[0] = SCMP_CMP(0, SCMP_CMP_MASKED_EQ, ALL,
		    (scmp_datum_t)sockets[i].family);
		like[1] = SCMP_CMP(1, SCMP_CMP_MASKED_EQ, TYPE,
		    (scmp_datum_t)sockets[i].type);
		like[2] = SCMP_CMP(2, SCMP_CMP_MASKED_EQ, ALL,
		    (scmp_datum_t)sockets[i].protocol);
		e = allow_where(filter, SCMP_SYS(socket), COUNT(like), like);
	}
	return (e);
}

static int
rules_of_arguments(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp quiet[] = {SCMP_CMP(1, SCMP_CMP_MASKED_EQ,
						 ALL, F_SETFL),
	    SCMP_CMP(2, SCMP_CMP_MASKED_EQ, O_ASYNC, 0)};
	int e;

	if ((e = rules_of_an_argument(filter)) == 0 &&
	    (e = rules_of_sockets(filter)) == 0)
		e = allow_where(filter, SCMP_SYS(fcntl), COUNT(quiet), quiet);
	return (e);
}

/* A filter, and what it does with calls that it has no rule for. */
static scmp_filter_ctx
new_filter(uint32_t otherwise)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);

	/* A tree instead of a chain of comparisons. */
	if (filter != NULL)
		(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return (filter);
}

static int is_in_force; /* this process's filter */

void
seccomp_enter(struct sandbox *sb)
{
	scmp_filter_ctx filter;
	int e;

	if (SANITIZED) {
		sandbox_said(sb, SANDBOX_SECCOMP, 0, "built with a sanitizer");
		return;
	}
	if ((filter = new_filter(SCMP_ACT_ERRNO(ENOSYS))) == NULL) {
		sandbox_said(sb, SANDBOX_SECCOMP, 0, "no memory");
		return;
	}
	if ((e = rules_of(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed))) ==
		0 &&
	    (e = rules_of(filter, SCMP_ACT_KILL_PROCESS, deadly,
		 COUNT(deadly))) == 0 &&
	    (e = rules_of_arguments(filter)) == 0)
		e = seccomp_load(filter);
	seccomp_release(filter);
	is_in_force = e == 0;
	if (e == 0)
		sandbox_said(sb, SANDBOX_SECCOMP, 1, "yes");
	else
		sandbox_said(sb, SANDBOX_SECCOMP, 0, "%s", strerror(-e));
}

/*
 * A second filter: one that is in force can't be changed.  The kernel takes the
 * stricter of their answers.
 */
void
sandbox_listen_no_more(void)
{
	/* It is shorter than any of the internet's, so it can't be one. */
	const struct scmp_arg_cmp not_netlink = SCMP_CMP(2, SCMP_CMP_NE,
	    sizeof(struct sockaddr_nl), 0);
	const uint32_t refuse = SCMP_ACT_ERRNO(ENOSYS);
	scmp_filter_ctx filter;
	int e = -ENOMEM;

	if (!is_in_force)
		return;
	if ((filter = new_filter(SCMP_ACT_ALLOW)) != NULL &&
	    /* prctl isn't allowed to any more, and it is so already. */
	    (e = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0)) == 0 &&
	    (e = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1)) == 0 &&
	    (e = seccomp_rule_add(filter, refuse, SCMP_SYS(listen), 0)) == 0 &&
	    (e = seccomp_rule_add(filter, refuse, SCMP_SYS(seccomp), 0)) == 0 &&
	    (e = seccomp_rule_add_array(filter, refuse, SCMP_SYS(bind), 1,
		 &not_netlink)) == 0)
		e = seccomp_load(filter);
	if (filter != NULL)
		seccomp_release(filter);
	if (e != 0)
		log_warn("ports can still be bound", "reason", strerror(-e));
}
