// SPDX-License-Identifier: GPL-2.0
/*
 * No race and no gate: does to the harness what it is told to, so that tests know
 * what the verdict must be. `make faults` runs it; no plan of harness.toml does.
 *
 * --plant	what happens in the first trial		what the harness must say
 * exposed	the oracle fires			exposed
 * untested	nothing could be tested			untested
 * panic	the kernel panics (SysRq c)		crashed
 * oom		a racer eats all memory			crashed
 * hang		racer B never ends			hung
 * freeze	... in the kernel, uninterruptibly	hung
 * die		the program ends in the middle		lost
 * mute		... and says that all is well		lost
 * liar		it reports an exposure and exits 0	exposed
 * reboot	the guest restarts			lost
 * flood	the console is flooded			lost
 * chatter	one line of output that never ends	lost
 * nossh	the SSH server dies, the kernel lives	lost
 * stopssh	... and does not even say so		lost
 * clock	the guest's clock jumps by years	held
 * complain	the kernel complains, and goes on	crashed
 * noserial	the serial line dies, SSH lives		held
 * unheard	... and the kernel complains		crashed
 *
 * and, of a kernel with CONFIG_PROVOKE,
 *
 * irqs-on	racer A never leaves the kernel		hung
 * irqs-off	... with interrupts off			hung
 * deadlock	two range locks, in both orders		hung
 *
 * Without --plant: held.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/fs.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/race.h"

static void write_to(struct trial *t, const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		race_untested(t, "%s: %s", path, strerror(errno));
	close(fd);
}

static void eat_all_memory(void)
{
	const size_t piece = 16 << 20;
	char *p;

	for (;;) {
		p = mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p != MAP_FAILED)
			memset(p, 1, piece);
	}
}

static void freeze(struct trial *t)
{
	if (ioctl(t->dirfd, FIFREEZE, 0))
		race_untested(t, "FIFREEZE: %s", strerror(errno));
	mkdirat(t->dirfd, "frozen", 0700);
}

/* More than the harness keeps of a console. */
static void flood(void)
{
	static char text[4096];
	int fd = open("/dev/ttyS0", O_WRONLY | O_NOCTTY | O_CLOEXEC), i;

	memset(text, '~', sizeof(text));
	for (i = 0; fd >= 0 && i < 40 << 8; i++)
		if (write(fd, text, sizeof(text)) < 0)
			break;
	close(fd);
}

static void chatter(void)
{
	static char text[65536];

	memset(text, '~', sizeof(text));
	while (write(STDOUT_FILENO, text, sizeof(text)) > 0)
		;
}

static void jump(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 10 * 365 * 86400l;
	clock_settime(CLOCK_REALTIME, &ts);
}

static void complain(struct trial *t)
{
	write_to(t, "/sys/fs/ext4/vda/trigger_fs_error", "as it was told to");
}

static void cut_serial_line(struct trial *t)
{
	glob_t found;

	if (glob("/sys/bus/pnp/drivers/serial/[0-9]*", 0, NULL, &found))
		race_untested(t, "no serial port");
	else
		write_to(t, "/sys/bus/pnp/drivers/serial/unbind", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
}

static void provoke(struct trial *t, const char *what)
{
	write_to(t, "/sys/kernel/debug/provoke/seconds", "100000");
	write_to(t, "/sys/kernel/debug/provoke/trigger", what);
}

static void setup(struct trial *t)
{
	(void)t;
}

static void racer_a(struct trial *t)
{
	const char *what = t->plant ? t->plant : "";

	if (!strcmp(what, "exposed") || !strcmp(what, "liar"))
		race_exposed(t, "as it was told to be");
	else if (!strcmp(what, "untested"))
		race_untested(t, "as it was told to be");
	else if (!strcmp(what, "panic"))
		write_to(t, "/proc/sysrq-trigger", "c");
	else if (!strcmp(what, "oom"))
		eat_all_memory();
	else if (!strcmp(what, "freeze"))
		freeze(t);
	else if (!strcmp(what, "die"))
		_exit(7);
	else if (!strcmp(what, "mute"))
		_exit(EXIT_HELD);
	else if (!strcmp(what, "reboot"))
		reboot(LINUX_REBOOT_CMD_RESTART);
	else if (!strcmp(what, "flood"))
		flood();
	else if (!strcmp(what, "chatter"))
		chatter();
	else if (!strcmp(what, "nossh"))
		system("killall -KILL dropbear");
	else if (!strcmp(what, "stopssh"))
		system("killall -STOP dropbear");
	else if (!strcmp(what, "clock"))
		jump();
	else if (!strcmp(what, "complain"))
		complain(t);
	else if (!strcmp(what, "noserial") || !strcmp(what, "unheard"))
		cut_serial_line(t);
	else if (!strcmp(what, "irqs-on"))
		provoke(t, "softlockup");
	else if (!strcmp(what, "irqs-off"))
		provoke(t, "hardlockup");
	else if (!strcmp(what, "deadlock"))
		provoke(t, "range-deadlock");
	if (!strcmp(what, "unheard"))
		complain(t);
}

static void racer_b(struct trial *t)
{
	while (t->plant && !strcmp(t->plant, "hang"))
		pause();
}

static void check(struct trial *t)
{
	if (!t->plant || strcmp(t->plant, "liar"))
		return;
	printf("# {\"trial\":1,\"outcome\":\"exposed\",\"window_hits\":{},\"why\":\"\"}\n"
	       "not ok 1 trial-1\n");
	fflush(stdout);
	_exit(EXIT_HELD);
}

static const struct race race = {
	.name	= "truth",
	.plants	= "exposed untested panic oom hang freeze die mute liar reboot flood chatter nossh "
		  "stopssh clock complain noserial unheard irqs-on irqs-off deadlock",
	.open	= setup,
	.setup	= setup,
	.a	= racer_a,
	.b	= racer_b,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
