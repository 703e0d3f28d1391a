/* SPDX-License-Identifier: MIT */
/*
 * What went wrong, in one sentence with what to do about it. It decides words only.
 */
#include "state.h"
#include <inttypes.h>
#include <ivc/text.h>
#include <stdio.h>
#include <string.h>

struct advice {
	uint64_t nr; /* ANY: every call */
	int status;
	const char *text;
};
#define ANY UINT64_MAX

/* Behind the first two comes the path of the socket. */
static const struct advice at_connect[] = {
	{ANY, IVC_E_NOENT, "there is no such socket; start the hypervisor first: ivc hv --socket "},
	{ANY, IVC_E_PIPE, "no hypervisor listens there any more; start it again: ivc hv --socket "},
	{ANY, IVC_E_PERM, "the socket belongs to another user; run as the user that runs ivc hv"},
	{ANY, IVC_E_EXIST, "a living VM has this id already; choose another id"},
	{ANY, IVC_E_BUSY, "the last holder of this id is still being torn down; try again"},
	{ANY, IVC_E_NOSPC, "the hypervisor has as many VMs as it takes; end one or raise its limit"},
	{ANY, IVC_E_INVAL,
	 "the address, the VM id or the window was refused; an address is unix:PATH, an id is 0 to 4294967294"},
	{ANY, IVC_E_PROTO, "the hypervisor speaks another version; use programs of one release"},
	{ANY, IVC_E_NOMEM, "memory or descriptors ran out; see ulimit -n here and where ivc hv runs"},
	{ANY, IVC_E_SHUTDOWN, "the hypervisor is going down"},
	{ANY, IVC_E_TIMEDOUT, "the hypervisor does not answer; is it stopped?"},
	{ANY, IVC_E_OPNOTSUPP, "this kernel has no membarrier(2) for it"},
};

static const struct advice at_call[] = {
	{IVC_HC_SUBSCRIBE, IVC_E_NOENT,
	 "nobody publishes this key there; start the publisher first, or check VM id and key"},
	{IVC_HC_SUBSCRIBE, IVC_E_EXIST, "this VM has subscribed to it already, or has not yet left it after a revoke"},
	{IVC_HC_SUBSCRIBE, IVC_E_BUSY, "every seat is taken; publish with more seats"},
	{IVC_HC_SUBSCRIBE, IVC_E_INVAL, "a VM cannot subscribe to itself"},
	{IVC_HC_PUBLISH, IVC_E_EXIST, "this VM publishes this key already; choose another key or unpublish it"},
	{IVC_HC_PUBLISH, IVC_E_INVAL, "size, seats or layout are outside the limits; see ivc hv --limits"},
	{IVC_HC_UNPUBLISH, IVC_E_NOENT, "this VM does not publish this key"},
	{IVC_HC_UNSUBSCRIBE, IVC_E_NOENT, "this VM is not subscribed to it"},
	{ANY, IVC_E_DQUOT, "over this VM's quota; close channels or raise the quota of ivc hv"},
	{ANY, IVC_E_NOSPC, "no room in this VM's window; close channels or connect with a larger window"},
	{ANY, IVC_E_NOMEM, "the host has no memory or descriptors for it; see ulimit -n where ivc hv runs"},
	{ANY, IVC_E_SHUTDOWN, "the hypervisor has gone; start it again and connect again"},
	{ANY, IVC_E_PERM, "this VM may not do that"},
	{ANY, IVC_E_STALE, "the channel of this handle is over; open it again"},
	{ANY, IVC_E_TIMEDOUT, "nothing came in time"},
	{ANY, IVC_E_INTR, "the wait was ended from outside"},
};

static const char *advice_for(const struct advice *list, size_t n, uint64_t nr, int64_t status)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i].status == status && (list[i].nr == nr || list[i].nr == ANY)) {
			return list[i].text;
		}
	}
	return NULL;
}

/* connect_why - fills c->why. c->lock held. */
void connect_why(struct connection *c)
{
	const char *advice, *sentence, *path = "";
	uint64_t nr = c->failed_nr;
	char call[64];

	if (c->connect_status) {
		sentence = ivc_strerror(c->connect_status);
		advice = advice_for(at_connect, sizeof(at_connect) / sizeof(at_connect[0]), ANY, c->connect_status);
		if (c->connect_status == IVC_E_NOENT || c->connect_status == IVC_E_PIPE) {
			path = strncmp(c->where, "unix:", 5) == 0 ? c->where + 5 : c->where;
		}
		snprintf(c->why, sizeof(c->why), "cannot connect VM %" PRIu32 " to %s: %s%s", c->id, c->where,
			 advice ? advice : sentence, path);
		return;
	}
	if (!c->failed_result) {
		snprintf(c->why, sizeof(c->why), "nothing has failed");
		return;
	}
	(void)ivc_call_code(c->failed_nr, &nr);
	ivc_call_format(call, sizeof(call), c->failed_nr);
	sentence = ivc_strerror((int)c->failed_result);
	advice = advice_for(at_call, sizeof(at_call) / sizeof(at_call[0]), nr, c->failed_result);
	snprintf(c->why, sizeof(c->why), "%s failed: %s", call, advice ? advice : sentence);
}
