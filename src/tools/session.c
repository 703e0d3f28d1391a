/* SPDX-License-Identifier: MIT */
/* One VM for the time of a command. It knows neither side of a channel. */
#include "session.h"
#include "say.h"
#include "stop.h"
#include "tool.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* A hypervisor that is stopped, or a full backlog, holds a connect for seconds; Ctrl-C shall not wait for that. */
struct connecting {
	struct ivc_guest *g;
	const char *where;
	ivc_vmid_t vm;
	int err;
	int done[2]; /* pipe: its end is the end of the thread */
};

static void *connecting_run(void *arg)
{
	struct connecting *c = arg;

	c->err = ivc_guest_connect(c->g, c->where, c->vm);
	(void)close(c->done[1]);
	return NULL;
}

/* Signals are held: they come in here alone. Return: as ivc_guest_connect(); a signal while it waits ends the process. */
static int connect_or_stop(struct ivc_guest *g, const char *where, ivc_vmid_t vm, const sigset_t *open_mask)
{
	struct connecting c = {.g = g, .where = where, .vm = vm};
	struct pollfd p;
	pthread_t thread;

	if (pipe2(c.done, O_CLOEXEC)) {
		return ivc_guest_connect(g, where, vm);
	}
	if (pthread_create(&thread, NULL, connecting_run, &c)) {
		(void)close(c.done[0]);
		(void)close(c.done[1]);
		return ivc_guest_connect(g, where, vm);
	}
	p = (struct pollfd){.fd = c.done[0], .events = POLLIN};
	while (ppoll(&p, 1, NULL, open_mask) < 1) {
		if (stop_signal()) {
			_exit(session_stopped()); /* the thread still uses what is the caller's */
		}
	}
	(void)pthread_join(thread, NULL);
	(void)close(c.done[0]);
	return c.err;
}

int session_begin(struct ivc_guest *g, const char *where, ivc_vmid_t vm)
{
	sigset_t before;
	int err;

	/* Others of this user may not look at the memory and the descriptors of a VM. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	stop_catch();
	(void)sigprocmask(SIG_SETMASK, NULL, &before);
	/* The threads that are made here inherit the mask: the main thread alone takes the signals. */
	stop_hold();
	if (stop_signal()) {
		return session_stopped();
	}
	err = connect_or_stop(g, where, vm, &before);
	if (!err) {
		stop_guest(g);
	}
	stop_release();
	if (stop_signal()) {
		return session_stopped();
	}
	if (err) {
		say("%s", ivc_guest_why(g));
		return TOOL_ERROR;
	}
	return TOOL_OK;
}

void session_end(struct ivc_guest *g)
{
	stop_guest(NULL);
	ivc_guest_disconnect(g);
}

bool session_gone(struct ivc_guest *g)
{
	struct ivc_connect_info info;

	/* The pages of a channel tell it first, the port a moment later; a call knows in any case. */
	return ivc_guest_connection(g, &info) == 0 && (info.gone || ivc_call_vm_id(g) == IVC_E_SHUTDOWN);
}

int session_stopped(void)
{
	const int signal = stop_signal();

	say("stopped by %s", stop_name(signal));
	return TOOL_SIGNAL + signal;
}

int session_failed(struct ivc_guest *g, int64_t err)
{
	if (stop_signal()) {
		return session_stopped();
	}
	if (err == IVC_E_SHUTDOWN || session_gone(g)) {
		say("the hypervisor has gone; start it again, then this command");
		return TOOL_ENDED;
	}
	switch (err) {
	case IVC_E_PROTO:
		say("the channel speaks another format than this tool: it is flat, or of another release");
		break;
	case IVC_E_OPNOTSUPP:
		say("this hypervisor does not offer what the tool needs: sectioned channels with pages of this machine's size");
		break;
	default:
		say("%s", ivc_guest_why(g));
		break;
	}
	return TOOL_ERROR;
}
