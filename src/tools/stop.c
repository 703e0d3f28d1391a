/* SPDX-License-Identifier: MIT */
/* Signals of the tool. The handler touches two words and calls what is safe in one; it knows no command. */
#include "stop.h"

#include <ivc/connect.h>
#include <signal.h>
#include <string.h>

static const int stop_list[] = {SIGINT, SIGTERM, SIGHUP};
#define STOP_COUNT (sizeof(stop_list) / sizeof(stop_list[0]))

/* The main thread alone takes these signals: every other one was made with them blocked. */
static volatile sig_atomic_t stop_came;
static struct ivc_guest *volatile stop_who;

static void stop_on_signal(int signal)
{
	struct ivc_guest *g = stop_who;

	if (stop_signal()) {
		/* Cleaning up takes too long for somebody. */
		(void)sigaction(signal, &(const struct sigaction){.sa_handler = SIG_DFL}, NULL);
		(void)raise(signal);
		return;
	}
	stop_came = signal;
	if (g) {
		ivc_guest_stop(g);
	}
}

static void stop_set(sigset_t *set)
{
	(void)sigemptyset(set);
	for (size_t i = 0; i < STOP_COUNT; i++) {
		(void)sigaddset(set, stop_list[i]);
	}
}

void stop_catch(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = stop_on_signal;
	/* No SA_RESTART: read, write and poll end with EINTR. */
	stop_set(&action.sa_mask);
	for (size_t i = 0; i < STOP_COUNT; i++) {
		struct sigaction old;

		/* nohup means it. A shell that ignores SIGINT for its background jobs does not: nothing must stay behind. */
		if (stop_list[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN) {
			continue;
		}
		(void)sigaction(stop_list[i], &action, NULL);
	}
	(void)signal(SIGPIPE, SIG_IGN);
}

void stop_hold(void)
{
	sigset_t set;

	stop_set(&set);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

void stop_release(void)
{
	sigset_t set;

	stop_set(&set);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

void stop_guest(struct ivc_guest *g)
{
	sigset_t set, old;

	stop_set(&set);
	(void)sigprocmask(SIG_BLOCK, &set, &old);
	stop_who = g;
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
}

int stop_signal(void)
{
	return (int)stop_came;
}

const char *stop_name(int signal)
{
	return signal == SIGINT ? "SIGINT" : signal == SIGTERM ? "SIGTERM" : signal == SIGHUP ? "SIGHUP" : "a signal";
}
