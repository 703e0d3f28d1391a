/* SPDX-License-Identifier: MIT */
/* One VM for the time of a command. It knows neither side of a channel. */
#include "session.h"
#include "say.h"
#include "stop.h"
#include "tool.h"

int session_begin(struct ivc_guest *g, const char *where, ivc_vmid_t vm)
{
	int err;

	stop_catch();
	/* The port's thread is made here and inherits the mask: the main thread alone takes the signals. */
	stop_hold();
	err = ivc_guest_connect(g, where, vm);
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
