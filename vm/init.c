// SPDX-License-Identifier: GPL-2.0
/*
 * Process 1 of the guest, from the kernel's last boot message to "an SSH server listens".
 *
 * A program and no shell script: under emulation each fork and exec costs ten milliseconds, and
 * a script of mounts takes thirty of them.  Here there is one, of the server, and what is
 * mounted is mounted while the host's loader puts the server together on the other CPU.
 *
 * Kernel command line:
 *   harness.shell=1   a root shell on the serial console (harness boot)
 *   harness.hang=1    test hook: stop before the marker, as a hung boot would
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST_KEY "/etc/dropbear/host_key"
/* User networking of QEMU has no link to wait for, and gives the guest this address. */
#define ADDRESS "10.0.2.15"

/**
 * put() - write a text to a file that is there, or will be created in /etc.
 * @flags: of open(), besides O_WRONLY.
 * Return: 0, or -1 with errno.
 */
static int put(const char *path, int flags, const char *text)
{
	size_t length = strlen(text);
	ssize_t written;
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);

	if (fd < 0)
		return -1;
	written = write(fd, text, length);
	close(fd);
	return written == (ssize_t)length ? 0 : -1;
}

/*
 * One write to the kernel log is one line on the console: the kernel's own messages cannot fall
 * into the middle of it.  Level 0 is printed even under "quiet".  Without its newline the kernel
 * would wait for the rest of it.
 */
__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...)
{
	char line[512] = "<0>harness: ";
	size_t start = strlen(line);
	va_list words;

	va_start(words, format);
	vsnprintf(line + start, sizeof(line) - start - 1, format, words);
	va_end(words);
	strcat(line, "\n");
	put("/dev/kmsg", 0, line);
}

/* Words of fstab(5) that are flags of mount(2), or nothing; all others are the file system's. */
static const struct {
	const char *name;
	unsigned long flag;
} flags[] = {
	{ "defaults", 0 }, { "auto", 0 }, { "rw", 0 }, { "ro", MS_RDONLY },
	{ "nosuid", MS_NOSUID }, { "nodev", MS_NODEV }, { "noexec", MS_NOEXEC },
	{ "noatime", MS_NOATIME }, { "nodiratime", MS_NODIRATIME }, { "relatime", MS_RELATIME },
	{ "strictatime", MS_STRICTATIME }, { "sync", MS_SYNCHRONOUS },
};

/** mounted() - mount, and say so when it cannot be done: what needs it fails later on its own. */
static void mounted(const struct mntent *entry)
{
	char own[512] = "", *word, *rest, *options = strdup(entry->mnt_opts);
	unsigned long set = 0;
	size_t i;

	for (word = strtok_r(options, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		for (i = 0; i < sizeof(flags) / sizeof(*flags); i++)
			if (!strcmp(word, flags[i].name))
				break;
		if (i < sizeof(flags) / sizeof(*flags)) {
			set |= flags[i].flag;
		} else if (strlen(own) + strlen(word) + 2 <= sizeof(own)) {
			if (*own)
				strcat(own, ",");
			strcat(own, word);
		}
	}
	if (mount(entry->mnt_fsname, entry->mnt_dir, entry->mnt_type, set, own))
		say("mount %s: %s", entry->mnt_dir, strerror(errno));
	free(options);
}

/** mount_all() - what fstab(5) has, but for what it has "noauto". */
static void mount_all(void)
{
	FILE *table = setmntent("/etc/fstab", "re");
	struct mntent *each;

	if (!table) {
		say("/etc/fstab: %s", strerror(errno));
		return;
	}
	while ((each = getmntent(table)))
		if (!hasmntopt(each, "noauto"))
			mounted(each);
	endmntent(table);
}

/** up() - give an interface its address, and start it; a guest without a network has none. */
static void up(const char *name, const char *address, const char *mask)
{
	struct ifreq request = { 0 };
	struct sockaddr_in *to = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool done;

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	to->sin_family = AF_INET;
	done = fd >= 0 && inet_pton(AF_INET, address, &to->sin_addr) == 1 &&
	       !ioctl(fd, SIOCSIFADDR, &request) &&
	       inet_pton(AF_INET, mask, &to->sin_addr) == 1 &&
	       !ioctl(fd, SIOCSIFNETMASK, &request) &&
	       !ioctl(fd, SIOCGIFFLAGS, &request);
	if (done) {
		request.ifr_flags |= IFF_UP | IFF_RUNNING;
		done = !ioctl(fd, SIOCSIFFLAGS, &request);
	}
	if (!done)
		say("%s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/**
 * serve() - start the SSH server.
 *
 * It binds its socket before it goes to the background, so its return is the news that it
 * listens.  When memory runs out the way in must stay; commands take the shield off again
 * (harness/guest/ssh.py).
 *
 * Return: its process, or -1.
 */
static pid_t serve(void)
{
	pid_t child = fork();

	if (child)
		return child;
	put("/proc/self/oom_score_adj", 0, "-1000");
	execl("/sbin/dropbear", "dropbear", "-s", "-m", "-j", "-k", "-r", HOST_KEY, NULL);
	_exit(127);
}

/** word() - whether the kernel's command line has this word. */
static bool word(const char *line, const char *wanted)
{
	size_t length = strlen(wanted);
	const char *at;

	for (at = line; (at = strstr(at, wanted)); at += length)
		if ((at == line || at[-1] == ' ') && strchr(" \n", at[length]))
			return true;
	return false;
}

/** stand_by() - standard input and output on the console. */
static void stand_by(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		return;
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(void)
{
	char line[4096] = "";
	int fd, status = -1;
	pid_t server;

	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("HOME", "/root", 1);
	/* The kernel mounts devtmpfs over a root from a disk only. */
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	stand_by();
	server = serve();
	up("eth0", ADDRESS, "255.255.255.0");
	up("lo", "127.0.0.1", "255.0.0.0");
	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 0755);
	mount_all();

	fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, line, sizeof(line) - 1) < 0)
			line[0] = '\0';
		close(fd);
	}
	/*
	 * A lock that is never released must show within a trial's time limit, and every time:
	 * the kernel stops reporting after ten.  Not every kernel looks for hung tasks.
	 */
	put("/proc/sys/kernel/hung_task_timeout_secs", 0, "20");
	put("/proc/sys/kernel/hung_task_warnings", 0, "-1");

	if (word(line, "harness.hang=1")) {
		puts("harness: harness.hang=1, stopping here");
		fflush(stdout);
		for (;;)
			pause();
	}
	if (server > 0 && waitpid(server, &status, 0) == server && !status)
		say("ready");
	else if (!access(HOST_KEY, F_OK))
		say("the SSH server did not start");

	if (word(line, "harness.shell=1"))
		put("/etc/inittab", O_APPEND, "ttyS0::respawn:-/bin/sh\n");
	/* Process 1 must outlive everything and reap what others leave behind. */
	execlp("init", "init", NULL);
	say("init: %s", strerror(errno));
	return 1;
}
