/* SPDX-License-Identifier: MIT */
/* Processes of the demo: start, order, answer, end. It decides how long a silent one is waited for. */
#include "demo.h"
#include "stop.h"

#include <errno.h>
#include <ivc/atomic.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MS 60000
#define TICK_MS   50
#define END_MS    5000

static void child_run(int on_orphan, pid_t parent, int (*run)(const void *arg, int link), const void *arg, int link)
{
	/* Ctrl-C goes to the asking process, which ends the others in order. */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, on_orphan);
	/* Others of this user, the other VM among them, may not look into this process. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	if (getppid() != parent) {
		_exit(1);
	}
	_exit(run(arg, link));
}

bool demo_child_start(struct demo_child *c, int on_orphan, int (*run)(const void *arg, int link), const void *arg,
		      struct demo_why *why)
{
	const pid_t parent = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		return demo_because(why, "no socket pair: %s", strerror(errno));
	}
	c->pid = fork();
	if (c->pid == 0) {
		(void)close(pair[0]);
		child_run(on_orphan, parent, run, arg, pair[1]);
	}
	(void)close(pair[1]);
	if (c->pid < 0) {
		(void)close(pair[0]);
		c->pid = 0;
		return demo_because(why, "cannot start a process: %s", strerror(errno));
	}
	c->link = pair[0];
	return true;
}

int demo_child_order(struct demo_child *c, enum demo_order order)
{
	const uint32_t word = (uint32_t)order;

	return send(c->link, &word, sizeof(word), MSG_NOSIGNAL) == (ssize_t)sizeof(word) ? 0 : -1;
}

int demo_child_hear(struct demo_child *c, void *answer, size_t bytes, void (*tick)(void *arg, uint64_t messages),
		    void *arg, const uint64_t *progress)
{
	struct pollfd in = {.fd = c->link, .events = POLLIN};

	for (int waited = 0; waited < ANSWER_MS; waited += TICK_MS) {
		const int n = poll(&in, 1, TICK_MS);

		if (stop_signal()) {
			return -1;
		}
		if (tick) {
			tick(arg, ivc_load_relaxed_u64(progress));
		}
		if (n > 0) {
			return recv(c->link, answer, bytes, 0) == (ssize_t)bytes ? 0 : -1;
		}
	}
	return -1;
}

static int child_reap(struct demo_child *c, int options)
{
	int status = 0;
	pid_t pid;

	do {
		pid = waitpid(c->pid, &status, options);
	} while (pid < 0 && errno == EINTR);
	if (pid == 0) {
		return -1;
	}
	c->pid = 0;
	if (c->link >= 0) {
		(void)close(c->link);
		c->link = -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int demo_child_end(struct demo_child *c)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	const uint64_t end = demo_now_ns() + UINT64_C(1000000) * END_MS;

	if (!c->pid) {
		return 0;
	}
	while (demo_now_ns() < end) {
		const int code = child_reap(c, WNOHANG);

		if (code >= 0) {
			return code;
		}
		(void)nanosleep(&nap, NULL);
	}
	demo_child_kill(c);
	return -1;
}

void demo_child_kill(struct demo_child *c)
{
	if (c->pid) {
		(void)kill(c->pid, SIGKILL);
		(void)child_reap(c, 0);
	}
}
