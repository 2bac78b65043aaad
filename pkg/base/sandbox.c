/* sandbox -- the layers, and what libc needs; the filter is in seccomp.c. */
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "base/sandbox_internal.h"

/*
 * Landlock's interface, whole: a system's header may be older than its kernel
 * (linux/landlock.h and its documentation say which version has what).
 */
enum {
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_TRUNCATE = 1 << 14,
	FS_IOCTL_DEV = 1 << 15,
	FS_OF_VERSION_1 = (1 << 13) - 1,
	FS_REFER = 1 << 13,
	NET_BIND_TCP = 1 << 0,
	/* Not SCOPE_SIGNAL: a stopped holder of the pen has to be killed. */
	SCOPE_ABSTRACT_UNIX = 1 << 0,
	RULE_PATH_BENEATH = 1,
	RULE_NET_PORT = 2,
	CREATE_VERSION = 1 << 0,
	READ_RIGHTS = FS_READ_FILE | FS_READ_DIR,
	WRITE_RIGHTS = READ_RIGHTS | FS_WRITE_FILE | FS_REMOVE_FILE |
	    FS_MAKE_REG | FS_MAKE_SOCK | FS_TRUNCATE,
	/* The kernel refuses a rule on a file that has others. */
	RIGHTS_OF_A_FILE = FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE
};

struct ruleset {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

struct path_rule {
	uint64_t rights;
	int32_t parent_fd;
} __attribute__((packed));

struct port_rule {
	uint64_t rights;
	uint64_t port;
};

#ifndef SYS_landlock_create_ruleset /* the same number everywhere */
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

static const char *const layer_names[SANDBOX_LAYERS] = {"no_new_privileges",
    "no_capabilities", "landlock", "seccomp"};

int
sandbox_said(struct sandbox *sb, enum sandbox_layer layer, int in_force,
    const char *format, ...)
{
	va_list ap;

	sb->in_force[layer] = in_force;
	va_start(ap, format);
	(void)vsnprintf(sb->said[layer], SANDBOX_WHY_SIZE, format, ap);
	va_end(ap);
	return (in_force ? 0 : -1);
}

/* ---- Landlock ----------------------------------------------------------- */

/* What a kernel with this version can keep from us, and its struct's size. */
static size_t
ruleset_of(int abi, struct ruleset *rules)
{

	*rules = (struct ruleset){.fs = FS_OF_VERSION_1};
	if (abi >= 2)
		rules->fs |= FS_REFER;
	if (abi >= 3)
		rules->fs |= FS_TRUNCATE;
	if (abi >= 4)
		rules->net = NET_BIND_TCP;
	if (abi >= 5)
		rules->fs |= FS_IOCTL_DEV;
	if (abi >= 6)
		rules->scoped = SCOPE_ABSTRACT_UNIX;
	return (abi >= 6 ? sizeof(*rules) :
		abi >= 4 ? offsetof(struct ruleset, scoped) :
			   offsetof(struct ruleset, net));
}

static void
allow(struct sandbox *sb, const char *path, uint64_t rights)
{
	struct path_rule rule = {.rights = rights & sb->rights};
	struct stat file;

	if (sb->rules_fd == -1 ||
	    (rule.parent_fd = open(path, O_PATH | O_CLOEXEC)) == -1)
		return;
	if (fstat(rule.parent_fd, &file) == 0) {
		if (!S_ISDIR(file.st_mode))
			rule.rights &= RIGHTS_OF_A_FILE;
		(void)syscall(SYS_landlock_add_rule, sb->rules_fd,
		    RULE_PATH_BENEATH, &rule, 0);
	}
	(void)close(rule.parent_fd);
}

static void
allow_folder_of(struct sandbox *sb, const char *path, uint64_t rights)
{
	char folder[PATH_MAX];
	char *slash;

	if (strlen(path) >= sizeof(folder))
		return;
	memcpy(folder, path, strlen(path) + 1);
	if ((slash = strrchr(folder, '/')) == NULL) {
		allow(sb, ".", rights);
		return;
	}
	slash[slash == folder] = '\0';
	allow(sb, folder, rights);
}

static void
allow_beside(struct sandbox *sb, const char *path, uint64_t rights)
{
	struct stat file;
	char *real;

	if (stat(path, &file) == 0 && S_ISDIR(file.st_mode)) {
		allow(sb, path, rights);
		return;
	}
	allow_folder_of(sb, path, rights);
	if ((real = realpath(path, NULL)) != NULL)
		allow_folder_of(sb, real, rights);
	free(real);
}

void
sandbox_read(struct sandbox *sb, const char *path)
{

	allow(sb, path, READ_RIGHTS);
}

void
sandbox_write(struct sandbox *sb, const char *path)
{

	allow(sb, path, WRITE_RIGHTS);
}

void
sandbox_read_beside(struct sandbox *sb, const char *path)
{

	allow_beside(sb, path, READ_RIGHTS);
}

void
sandbox_write_beside(struct sandbox *sb, const char *path)
{

	allow_beside(sb, path, WRITE_RIGHTS);
}

void
sandbox_write_folders(struct sandbox *sb, const char *path)
{

	allow(sb, path, WRITE_RIGHTS | FS_MAKE_DIR | FS_REMOVE_DIR);
}

void
sandbox_listen(struct sandbox *sb, uint16_t port)
{
	const struct port_rule rule = {.rights = NET_BIND_TCP, .port = port};

	if (sb->rules_fd != -1 && sb->abi >= 4)
		(void)syscall(SYS_landlock_add_rule, sb->rules_fd,
		    RULE_NET_PORT, &rule, 0);
}

static void
landlock_init(struct sandbox *sb)
{
	struct ruleset rules;
	size_t size;

	if (SANITIZED) {
		sandbox_said(sb, SANDBOX_LANDLOCK, 0, "built with a sanitizer");
		return;
	}
	sb->abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
	    CREATE_VERSION);
	if (sb->abi >= 1) {
		size = ruleset_of(sb->abi, &rules);
		sb->rights = rules.fs;
		sb->rules_fd = (int)syscall(SYS_landlock_create_ruleset, &rules,
		    size, 0);
	}
	if (sb->rules_fd == -1)
		sandbox_said(sb, SANDBOX_LANDLOCK, 0,
		    errno == ENOSYS         ? "the kernel has none" :
			errno == EOPNOTSUPP ? "the kernel has it turned off" :
					      "the kernel: %s",
		    strerror(errno));
}

static void
landlock_enter(struct sandbox *sb)
{

	if (sb->rules_fd == -1)
		return;
	if (syscall(SYS_landlock_restrict_self, sb->rules_fd, 0) == 0)
		sandbox_said(sb, SANDBOX_LANDLOCK, 1, "version %d", sb->abi);
	else
		sandbox_said(sb, SANDBOX_LANDLOCK, 0, "the kernel: %s",
		    strerror(errno));
	(void)close(sb->rules_fd);
	sb->rules_fd = -1;
}

void
sandbox_init(struct sandbox *sb)
{

	memset(sb, 0, sizeof(*sb));
	sb->rules_fd = -1;
	landlock_init(sb);
	/*
	 * All of /etc, not single files: hosts and resolv.conf are replaced by
	 * renaming, and a rule for a file ends with the file.
	 */
	sandbox_read(sb, "/etc");
	sandbox_read_beside(sb, "/etc/resolv.conf");
	sandbox_read(sb, "/proc");
	sandbox_read(sb, "/sys/devices/system/cpu");
	sandbox_read(sb, "/dev/urandom");
	sandbox_read(sb, "/dev/random");
	allow(sb, "/dev/null", FS_READ_FILE | FS_WRITE_FILE);
}

/* ---- privileges --------------------------------------------------------- */

void
privileges_give_up(struct sandbox *sb)
{

	if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) == 0)
		sandbox_said(sb, SANDBOX_PRIVILEGES, 1, "yes");
	else
		sandbox_said(sb, SANDBOX_PRIVILEGES, 0, "%s", strerror(errno));
}

/*
 * The bounding set first, while we may: without CAP_SETPCAP it stays, and
 * matters little, since nothing can be executed.  The ambient set empties
 * with the permitted one.
 */
void
capabilities_give_up(struct sandbox *sb)
{
	struct __user_cap_header_struct header = {
	    .version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}, {0}};
	unsigned long capability;

	for (capability = 0;
	     prctl(PR_CAPBSET_READ, capability, 0L, 0L, 0L) >= 0; capability++)
		(void)prctl(PR_CAPBSET_DROP, capability, 0L, 0L, 0L);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0L, 0L, 0L);
	if (syscall(SYS_capset, &header, none) == 0)
		sandbox_said(sb, SANDBOX_CAPABILITIES, 1, "yes");
	else
		sandbox_said(sb, SANDBOX_CAPABILITIES, 0, "%s",
		    strerror(errno));
}

/* ---- all of it ---------------------------------------------------------- */

void
sandbox_enter(struct sandbox *sb)
{

	privileges_give_up(sb);
	capabilities_give_up(sb);
	landlock_enter(sb);
	seccomp_enter(sb);
}

void
sandbox_enter_tool(void)
{
	struct sandbox sb;

	memset(&sb, 0, sizeof(sb));
	privileges_give_up(&sb);
	seccomp_enter(&sb);
}

void
sandbox_report(const struct sandbox *sb)
{
	int i;

	log_info("sandboxed", layer_names[0], sb->said[0], layer_names[1],
	    sb->said[1], layer_names[2], sb->said[2], layer_names[3],
	    sb->said[3]);
	for (i = 0; i < SANDBOX_LAYERS; i++)
		if (!sb->in_force[i])
			log_warn("a layer of the sandbox is missing", "layer",
			    layer_names[i], "reason", sb->said[i]);
}
