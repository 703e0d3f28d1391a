/* SPDX-License-Identifier: MIT */
/*
 * The story of the demo, step by step. It decides the order of things and what must hold; each thing is done by a VM
 * that lives on some host.
 */
#include "demo_story.h"
#include "demo_show.h"
#include "say.h"
#include "stop.h"
#include "tool.h"

#include <inttypes.h>
#include <ivc/text.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KILLS_MAX 3    /* attempts to measure how soon a death is told */
#define LEFT_MS   2000 /* for the hypervisor to put away what the last VM left */

/* fail - the first thing that went wrong is the one that counts: told on stderr, kept in @r. Return: false. */
__attribute__((format(printf, 3, 4))) static bool fail(struct demo_report *r, int code, const char *format, ...)
{
	va_list args;

	if (r->exit_code) {
		return false;
	}
	if (stop_signal()) {
		(void)snprintf(r->error, sizeof(r->error), "stopped by %s", stop_name(stop_signal()));
		r->exit_code = TOOL_SIGNAL + stop_signal();
	} else {
		va_start(args, format);
		(void)vsnprintf(r->error, sizeof(r->error), format, args);
		va_end(args);
		r->exit_code = code;
	}
	say("%s", r->error);
	return false;
}

/* fail_why - what a host has said; where it has told already, that is enough. */
static bool fail_why(struct demo_report *r, int code, const struct demo_why *why)
{
	if (why->told && !r->exit_code) {
		r->exit_code = code;
		(void)snprintf(r->error, sizeof(r->error), "%s", why->text);
	}
	return fail(r, code, "%s", why->text);
}

static bool order(struct demo_report *r, enum demo_who who, enum demo_order what)
{
	struct demo_why why = {.told = false};

	return r->host->order(who, what, &why) || fail_why(r, TOOL_ENDED, &why);
}

static void progress(void *arg, uint64_t messages)
{
	demo_show_progress(arg, messages, false);
}

/* hear - the answer into @step; an answer that tells of a failure is one. */
static bool hear(struct demo_report *r, enum demo_who who, enum demo_step step,
		 void (*tick)(void *arg, uint64_t messages))
{
	struct demo_answer *a = &r->step[step];
	struct demo_why why = {.told = false};

	if (!r->host->hear(who, a, tick, r, &why)) {
		return fail_why(r, TOOL_ENDED, &why);
	}
	a->why[sizeof(a->why) - 1] = 0;
	return a->status == 0 ||
	       fail(r, TOOL_ENDED, "%s: %s", demo_name(who), a->why[0] ? a->why : ivc_strerror(a->status));
}

static bool ask(struct demo_report *r, enum demo_who who, enum demo_order what, enum demo_step step)
{
	return order(r, who, what) && hear(r, who, step, NULL);
}

/* ask_both - VM 2 first, so that it is ready when VM 1 begins. */
static bool ask_both(struct demo_report *r, enum demo_order what, enum demo_step one, enum demo_step two)
{
	return order(r, DEMO_TWO, what) && order(r, DEMO_ONE, what) &&
	       hear(r, DEMO_ONE, one, what == DEMO_TRANSFER ? progress : NULL) && hear(r, DEMO_TWO, two, NULL);
}

static bool levels(struct demo_report *r, struct demo_levels *out)
{
	struct demo_why why = {.told = false};

	return r->host->levels(out, &why) || fail_why(r, TOOL_ENDED, &why);
}

/* ------------------------------------------------------------------------------------------------------------ steps */

static bool step_hypervisor(struct demo_report *r, const struct demo_setup *s)
{
	struct demo_why why = {.told = false};

	return (r->host->begin(s, &r->facts, &why) || fail_why(r, TOOL_ERROR, &why)) && levels(r, &r->first);
}

static bool step_vm(struct demo_report *r, enum demo_who who, enum demo_step step, pid_t *pid)
{
	struct demo_why why = {.told = false};

	if (!r->host->start(who, pid, &why)) {
		return fail(r, TOOL_ERROR, "cannot start %s: %s", demo_name(who), why.text);
	}
	return ask(r, who, DEMO_CONNECT, step);
}

static bool step_channel(struct demo_report *r)
{
	return ask(r, DEMO_ONE, DEMO_OPEN, STEP_PUBLISH) && ask(r, DEMO_TWO, DEMO_OPEN, STEP_SUBSCRIBE) &&
	       ask_both(r, DEMO_AWAIT, STEP_OTHER, STEP_OTHER) && ask(r, DEMO_ONE, DEMO_LOOK, STEP_LOOK_1) &&
	       ask(r, DEMO_TWO, DEMO_LOOK, STEP_LOOK_2) && levels(r, &r->during);
}

/* rights_agree - a VM that tells its rights by trying must have had each try counted by the hypervisor. */
static bool rights_agree(struct demo_report *r, enum demo_step step)
{
	const struct demo_answer *a = &r->step[step];
	uint64_t stores = 0, loads = 0;

	for (int i = 0; i < DEMO_PARTS; i++) {
		stores += a->part[i].rights[1] != 'w';
		loads += a->part[i].rights[0] != 'r' ? 2 : 0; /* each try loads, stores and loads again */
	}
	return !r->host->kvm || (a->dropped_writes == stores && a->dropped_reads == loads) ||
	       fail(r, TOOL_ENDED,
		    "a VM tells rights that KVM does not: %" PRIu64 " stores and %" PRIu64
		    " loads came to nothing, not %" PRIu64 " and %" PRIu64,
		    a->dropped_writes, a->dropped_reads, stores, loads);
}

static bool step_transfer(struct demo_report *r)
{
	const struct demo_answer *one = &r->step[STEP_SEND], *two = &r->step[STEP_RECEIVE];
	bool done;

	demo_show_sending(r);
	done = ask_both(r, DEMO_TRANSFER, STEP_SEND, STEP_RECEIVE);
	demo_show_progress(r, one->messages, true);
	if (!done) {
		return false;
	}
	demo_show_transfer(r);
	if (memcmp(one->digest, two->digest, sizeof(one->digest)) != 0 || one->bytes != two->bytes ||
	    one->messages != two->messages || one->acks != one->messages) {
		return fail(r, TOOL_ENDED, "what VM 2 received is not what VM 1 sent");
	}
	return true;
}

static bool step_trips(struct demo_report *r)
{
	if (!ask(r, DEMO_ONE, DEMO_LINES, STEP_OTHER) || !ask(r, DEMO_TWO, DEMO_LINES, STEP_OTHER) ||
	    !ask_both(r, DEMO_TRIPS, STEP_TRIPS, STEP_OTHER) || !ask(r, DEMO_TWO, DEMO_NO_LINES, STEP_OTHER) ||
	    !ask(r, DEMO_ONE, DEMO_NO_LINES, STEP_OTHER)) {
		return false;
	}
	demo_show_trips(r);
	return true;
}

static bool step_forbidden(struct demo_report *r)
{
	struct demo_answer *a = &r->step[STEP_FORBIDDEN];

	if (!ask(r, DEMO_ONE, DEMO_REMEMBER, STEP_COMPARE) || !ask(r, DEMO_TWO, DEMO_FORBIDDEN, STEP_FORBIDDEN) ||
	    !ask(r, DEMO_ONE, DEMO_COMPARE, STEP_COMPARE)) {
		return false;
	}
	if (r->host->kvm) {
		/* A virtual machine cannot see what became of its stores: KVM has counted them. */
		a->stopped = a->dropped_writes == (uint64_t)a->tried + a->probed;
		a->refused = a->dropped_reads == a->probed && a->probed_ones == a->probed;
	}
	demo_show_forbidden(r);
	if (!a->tried || !a->stopped || !a->refused || r->step[STEP_COMPARE].changed) {
		return fail(r, TOOL_ENDED, "VM 2 could write to VM 1's section");
	}
	return true;
}

/* kill_once - the death of VM 2 while VM 1 watches; then another one is VM 2. */
static bool kill_once(struct demo_report *r)
{
	struct demo_why why = {.told = false};
	uint64_t begin;

	if (!ask(r, DEMO_ONE, DEMO_WATCH, STEP_WATCH)) { /* the first answer: it watches */
		return false;
	}
	if (!r->host->kill(DEMO_TWO, &begin, &why)) {
		return fail_why(r, TOOL_ENDED, &why);
	}
	if (!hear(r, DEMO_ONE, STEP_WATCH, NULL)) {
		return false;
	}
	r->told_ns = r->step[STEP_WATCH].ns - begin;
	r->kills++;
	return step_vm(r, DEMO_TWO, STEP_AGAIN, &r->again_pid) && ask(r, DEMO_TWO, DEMO_OPEN, STEP_AGAIN) &&
	       ask_both(r, DEMO_AWAIT, STEP_OTHER, STEP_OTHER) && ask_both(r, DEMO_GREET, STEP_OTHER, STEP_OTHER);
}

static bool step_kill(struct demo_report *r)
{
	const struct demo_answer *watch = &r->step[STEP_WATCH];

	/* Where others fill the machine, VM 1 itself may not run for a while: that is not what is measured here. */
	do {
		if (!kill_once(r)) {
			return false;
		}
	} while (r->told_ns > DEMO_TOLD_NS && r->kills < KILLS_MAX);
	demo_show_killed(r);
	if (watch->seat_state != IVC_SEAT_DEAD) {
		return fail(r, TOOL_ENDED, "VM 1 was told that VM 2, which died, is in state %" PRIu32,
			    watch->seat_state);
	}
	if (r->told_ns > DEMO_TOLD_NS) {
		return fail(r, TOOL_ENDED, "VM 1 was told after %.1f ms that VM 2 is dead; 100 ms are allowed",
			    (double)r->told_ns / 1e6);
	}
	return true;
}

static bool leave(struct demo_report *r, enum demo_who who)
{
	struct demo_why why = {.told = false};

	return ask(r, who, DEMO_QUIT, STEP_OTHER) && (r->host->left(who, &why) || fail_why(r, TOOL_ENDED, &why));
}

static bool step_close(struct demo_report *r)
{
	if (!ask(r, DEMO_TWO, DEMO_CLOSE, STEP_UNSUBSCRIBE) || !ask(r, DEMO_ONE, DEMO_CLOSE, STEP_UNPUBLISH)) {
		return false;
	}
	demo_show_closed(r);
	return levels(r, &r->closed) && leave(r, DEMO_TWO) && leave(r, DEMO_ONE);
}

static bool nothing_left(const struct demo_report *r)
{
	const struct demo_levels *l = &r->last;

	return !l->vms && !l->hv.vms_now && !l->hv.channels_now && !l->hv.memberships_now && !l->hv.sections_now &&
	       !l->hv.bytes_now && !l->hv.quarantined_bytes && !l->memfds && !l->vcpus && !r->closed.slots &&
	       l->descriptors == r->first.descriptors;
}

static bool step_left(struct demo_report *r)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	const uint64_t end = demo_now_ns() + UINT64_C(1000000) * LEFT_MS;
	struct demo_why why = {.told = false};
	bool ended;

	do {
		if (!levels(r, &r->last)) {
			return false;
		}
		if (nothing_left(r)) {
			break;
		}
		(void)nanosleep(&nap, NULL);
	} while (demo_now_ns() < end);
	ended = r->host->end(&r->end, &why);
	demo_show_left(r);
	if (!nothing_left(r)) {
		return fail(r, TOOL_ENDED,
			    "left over: %" PRIu32 " VMs, %" PRIu32 " channels, %" PRIu32 " sections, %" PRIu32
			    " memfds, %" PRIu32 " memory slots, %" PRIu64 " bytes, %" PRIu32
			    " descriptors where %" PRIu32 " were at the start",
			    r->last.vms, r->last.hv.channels_now, r->last.hv.sections_now, r->last.memfds,
			    r->closed.slots, r->last.hv.bytes_now, r->last.descriptors, r->first.descriptors);
	}
	return ended || fail_why(r, TOOL_ENDED, &why);
}

static bool steps(struct demo_report *r, const struct demo_setup *s)
{
	if (!step_hypervisor(r, s)) {
		return false;
	}
	demo_show_host(r);
	if (!step_vm(r, DEMO_ONE, STEP_CONNECT_1, &r->pid[DEMO_ONE]) ||
	    !step_vm(r, DEMO_TWO, STEP_CONNECT_2, &r->pid[DEMO_TWO])) {
		return false;
	}
	demo_show_vms(r);
	if (!step_channel(r)) {
		return false;
	}
	demo_show_channel(r);
	return rights_agree(r, STEP_LOOK_1) && rights_agree(r, STEP_LOOK_2) && step_transfer(r) && step_trips(r) &&
	       step_forbidden(r) && step_kill(r) && step_close(r) && step_left(r);
}

bool demo_story(struct demo_report *r, const struct demo_setup *s)
{
	const bool held = steps(r, s);

	r->host->clean_up();
	return held;
}
