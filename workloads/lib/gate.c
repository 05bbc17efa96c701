// SPDX-License-Identifier: GPL-2.0
/* The frame of a gate. See gate.h. */
#include "lib/gate.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/prng.h"

#define MAX_OWN		16
#define MAX_CREW	32
#define KILL_US		5000000	/* what a killed child gets to be gone */

static struct {
	char		name[24];
	const char	*value;
} own[MAX_OWN];
static unsigned int nr_own;

/* --- options --- */

static int find_own(const char *name, size_t len)
{
	unsigned int i;

	for (i = 0; i < nr_own; i++)
		if (strlen(own[i].name) == len && !strncmp(own[i].name, name, len))
			return i;
	return -1;
}

static void declare_own(const char *names)
{
	while (*names) {
		size_t len = strcspn(names, " ");

		if (nr_own < MAX_OWN && len < sizeof(own[0].name))
			memcpy(own[nr_own++].name, names, len);
		names += len + (names[len] == ' ');
	}
}

/* Takes the gate's own options out of @argv; returns what is left of argc. */
static int take_own(int argc, char **argv)
{
	int from, to = 1, i;

	for (from = 1; from < argc; from++) {
		size_t len = strcspn(argv[from], "=");

		i = strncmp(argv[from], "--", 2) ? -1 : find_own(argv[from] + 2, len - 2);
		if (i < 0)
			argv[to++] = argv[from];
		else if (argv[from][len])
			own[i].value = argv[from] + len + 1;
		else if (from + 1 < argc)
			own[i].value = argv[++from];
		else
			argv[to++] = argv[from];	/* no value: the frame complains */
	}
	argv[to] = NULL;
	return to;
}

const char *gate_option(const char *name, const char *fallback)
{
	int i = find_own(name, strlen(name));

	return i >= 0 && own[i].value ? own[i].value : fallback;
}

unsigned long gate_number(const char *name, unsigned long fallback)
{
	const char *text = gate_option(name, NULL);
	unsigned long n;
	char *end;

	if (!text)
		return fallback;
	n = strtoul(text, &end, 0);
	if (!n || *end)
		race_skip("--%s %s: not a number above 0", name, text);
	return n;
}

/* --- threads --- */

static struct {
	struct trial	*trial;
	void		(*fn)(struct trial *t, unsigned int number);
} crew;

uint64_t gate_rng(const struct trial *t, unsigned int number)
{
	return prng_mix(t->rng_a ^ (0x1000ull + number));
}

static void *crew_member(void *arg)
{
	unsigned int number = (uintptr_t)arg;
	char name[16];

	snprintf(name, sizeof(name), "race-%u", number);
	prctl(PR_SET_NAME, name);
	crew.fn(crew.trial, number);
	return NULL;
}

void gate_crew(struct trial *t, unsigned int n, void (*fn)(struct trial *t, unsigned int number))
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[MAX_CREW];
	unsigned int i;

	crew.trial = t;
	crew.fn = fn;
	for (i = 0; i < n; i++) {
		pthread_attr_t attr;
		cpu_set_t set;
		int error;

		/* A racer is pinned, and its children would be where it is. */
		CPU_ZERO(&set);
		CPU_SET(i % cpus, &set);
		pthread_attr_init(&attr);
		pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
		error = i < MAX_CREW ? pthread_create(&threads[i], &attr, crew_member,
						      (void *)(uintptr_t)i) : EAGAIN;
		pthread_attr_destroy(&attr);
		if (error)
			race_skip("cannot start thread %u: %s", i, strerror(error));
	}
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

void gate_plant_stuck(const struct trial *t)
{
	while (t->plant && !strcmp(t->plant, PLANT_STUCK))
		pause();
}

/* --- supervision --- */

struct pipe {
	int	fd;		/* -1 when the child has closed it */
	FILE	*to;
	char	line[8192];
	size_t	len;
};

static unsigned int finished;	/* trials that have their result line */
static unsigned int exposed;

/* What a complete line of the child says about trials. */
static void note_result(const char *line)
{
	unsigned int n;

	if (sscanf(line, "ok %u", &n) == 1)
		finished = n;
	else if (sscanf(line, "not ok %u", &n) == 1 && ++exposed)
		finished = n;
}

/* Forwards what there is; false at the end of the child's output. */
static bool forward(struct pipe *p)
{
	ssize_t n = read(p->fd, p->line + p->len, sizeof(p->line) - 1 - p->len);
	char *end;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	p->len += n;
	p->line[p->len] = '\0';
	while ((end = strchr(p->line, '\n')) || p->len == sizeof(p->line) - 1) {
		size_t len = end ? (size_t)(end - p->line) + 1 : p->len;

		fwrite(p->line, 1, len, p->to);
		if (p->to == stdout)
			note_result(p->line);
		p->len -= len;
		memmove(p->line, p->line + len, p->len + 1);
	}
	fflush(p->to);
	return true;
}

static void read_proc(char *out, size_t size, pid_t pid, const char *task, const char *file)
{
	char path[96];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, task, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, size - 1);
		close(fd);
	}
	out[n > 0 ? n : 0] = '\0';
}

/* Words for JSON: no quotes, no control characters. */
static void append_word(char *out, size_t size, const char *text)
{
	size_t n = strlen(out);

	for (; *text && *text != '\n' && n + 1 < size; text++)
		out[n++] = isalnum((unsigned char)*text) || strchr("-_.", *text) ? *text : ' ';
	out[n] = '\0';
}

/* One line for all threads into @out; their stacks, if the kernel shows them, to stdout. */
static void describe(char *out, size_t size, pid_t pid)
{
	char path[64], comm[32], stat[512], wchan[64], stack[2048], *line, *rest;
	struct dirent *entry;
	DIR *dir;

	out[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		const char *state;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		read_proc(comm, sizeof(comm), pid, entry->d_name, "comm");
		read_proc(stat, sizeof(stat), pid, entry->d_name, "stat");
		read_proc(wchan, sizeof(wchan), pid, entry->d_name, "wchan");
		read_proc(stack, sizeof(stack), pid, entry->d_name, "stack");
		state = strrchr(stat, ')');
		if (*out)
			append_word(out, size, ". ");
		append_word(out, size, comm);
		append_word(out, size, " ");
		append_word(out, size, (char[]){ state && state[1] ? state[2] : '?', 0 });
		append_word(out, size, " ");
		append_word(out, size, wchan);
		comm[strcspn(comm, "\n")] = '\0';
		for (line = strtok_r(stack, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
			printf("# %s: %s\n", comm, line);
	}
	if (dir)
		closedir(dir);
}

/* Kills the child; false if it is still there after KILL_US. */
static bool kill_child(pid_t pid, int *status)
{
	uint64_t end = race_now_us() + KILL_US;

	kill(pid, SIGKILL);
	do {
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		usleep(10000);
	} while (race_now_us() < end);
	return false;
}

static int report_stuck(pid_t pid, unsigned int bound_s)
{
	unsigned int n = finished + 1;
	char threads[900];
	bool killed;
	int status;

	describe(threads, sizeof(threads), pid);
	killed = kill_child(pid, &status);
	printf("# {\"trial\":%u,\"outcome\":\"exposed\",\"window_hits\":{},\"why\":\"not done in %u s: %.160s\",\"stuck\":true,\"killable\":%s,\"threads\":\"%s\"}\n",
	       n, bound_s, threads, killed ? "true" : "false", threads);
	printf("not ok %u trial-%u\n", n, n);
	printf("Bail out! trial %u was not done in %u s\n", n, bound_s);
	fflush(stdout);
	return EXIT_EXPOSED;
}

static void supervise_pipe(struct pipe *p, short revents)
{
	if (revents && !forward(p)) {
		close(p->fd);
		p->fd = -1;
	}
}

static int supervise(pid_t pid, struct pipe *out, struct pipe *err, unsigned int bound_s)
{
	uint64_t deadline = race_now_us() + bound_s * 1000000ull;
	int status;

	while (out->fd >= 0 || err->fd >= 0) {
		struct pollfd fds[] = { { out->fd, POLLIN, 0 }, { err->fd, POLLIN, 0 } };
		uint64_t now = race_now_us();
		unsigned int before = finished;

		if (now >= deadline)
			return report_stuck(pid, bound_s);
		if (poll(fds, 2, (deadline - now) / 1000 + 1) < 0 && errno != EINTR)
			break;
		supervise_pipe(out, fds[0].revents);
		supervise_pipe(err, fds[1].revents);
		if (finished != before)
			deadline = race_now_us() + bound_s * 1000000ull;
	}
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (race_now_us() >= deadline)
			return report_stuck(pid, bound_s);
		usleep(1000);
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	printf("Bail out! ended by signal %d\n", WTERMSIG(status));
	fflush(stdout);
	return exposed ? EXIT_EXPOSED : EXIT_SKIP;
}

int gate_main(const struct race *race, const char *own_names, unsigned int bound_s, int argc,
	      char **argv)
{
	static struct pipe out, err;
	int ends[2][2], null;
	unsigned long bound;
	const char *text;
	char *end;
	pid_t pid;

	declare_own("bound");
	declare_own(own_names);
	argc = take_own(argc, argv);
	text = gate_option("seconds", NULL);
	bound = bound_s + (text ? strtoul(text, NULL, 0) : 0);
	text = gate_option("bound", NULL);
	if (text)
		bound = strtoul(text, &end, 0);
	if (!bound || (text && *end)) {
		printf("KTAP version 1\n1..0 # SKIP --bound %s: not a number of seconds\n", text);
		return EXIT_SKIP;
	}
	if (pipe(ends[0]) || pipe(ends[1]) || (pid = fork()) < 0) {
		printf("KTAP version 1\n1..0 # SKIP no child process: %s\n", strerror(errno));
		return EXIT_SKIP;
	}
	if (!pid) {
		int code;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		null = open("/dev/null", O_RDONLY);
		if (null >= 0)
			dup2(null, 0);
		/* Not one end of the caller's channels must stay with a stuck child. */
		dup2(ends[0][1], 1);
		dup2(ends[1][1], 2);
		close_range(3, ~0u, 0);
		code = race_main(race, argc, argv);
		fflush(NULL);
		_exit(code);
	}
	close(ends[0][1]);
	close(ends[1][1]);
	out.fd = ends[0][0];
	out.to = stdout;
	err.fd = ends[1][0];
	err.to = stderr;
	return supervise(pid, &out, &err, bound);
}
