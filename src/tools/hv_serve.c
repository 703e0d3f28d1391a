/* SPDX-License-Identifier: MIT */
/* The life of a hypervisor process. It knows no VM and no channel. */
#include "hv_serve.h"
#include "say.h"
#include "tool.h"

#include <ivc/text.h>
#include <signal.h>
#include <sys/prctl.h>

static void start_failed(const char *path, int err)
{
	switch (err) {
	case IVC_E_EXIST:
		say("%s is in use: a hypervisor is there already, or a file that is no socket; use it, or choose another path",
		    path);
		break;
	case IVC_E_BUSY:
		say("another hypervisor is starting at %s and does not get on: somebody holds %s.lock; try again, or choose another path",
		    path, path);
		break;
	case IVC_E_NOENT:
		say("there is no directory for %s; make it first", path);
		break;
	case IVC_E_PERM:
		say("the directory of %s is not writable; choose another path", path);
		break;
	case IVC_E_INVAL:
		say("%s is too long for a socket, or the limits do not fit each other; a path has at most 107 bytes",
		    path);
		break;
	case IVC_E_NOMEM:
		say("not enough memory, threads or descriptors for these limits; lower them, or raise ulimit -n");
		break;
	case IVC_E_OPNOTSUPP:
		say("this system has no membarrier, memfd seals or pidfds; Linux 5.6 or later has");
		break;
	default:
		say("cannot serve %s: %s (%d)", path, ivc_strerror(err), err);
		break;
	}
}

int hv_serve(const struct ivc_proc_config *cfg, void (*ready)(void *arg, const struct ivc_proc_limits *limits),
	     void *arg)
{
	struct ivc_proc_limits limits;
	struct ivc_proc *proc;
	sigset_t wanted;
	int number = 0;
	int err;

	(void)sigemptyset(&wanted);
	(void)sigaddset(&wanted, SIGINT);
	(void)sigaddset(&wanted, SIGTERM);
	(void)sigaddset(&wanted, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &wanted, NULL);
	/* Whoever reads the start line may have gone: that is no reason to end, and to leave the socket behind. */
	(void)signal(SIGPIPE, SIG_IGN);
	/* Others of this user may not look at the descriptors of a hypervisor. */
	(void)prctl(PR_SET_DUMPABLE, 0);

	err = ivc_proc_config_limits(cfg, &limits);
	if (!err) {
		err = ivc_proc_start(&proc, cfg);
	}
	if (err) {
		start_failed(cfg->path, err);
		return TOOL_ERROR;
	}
	if (ready) {
		ready(arg, &limits);
	}
	while (sigwait(&wanted, &number) != 0) {
	}
	ivc_proc_stop(proc);
	if (number == SIGINT) {
		say("stopped by SIGINT; every VM was told");
	}
	return number == SIGINT ? TOOL_SIGNAL + SIGINT : TOOL_OK;
}
