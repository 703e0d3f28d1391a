/* SPDX-License-Identifier: MIT */
/*
 * `ivc demo`: a hypervisor process and two VM processes exchange a file, try what is forbidden, die and come back. It
 * decides the order of things and what must hold; each thing is done by a process of its own.
 */
#include "demo.h"
#include "demo_show.h"
#include "hv_serve.h"
#include "opt.h"
#include "say.h"
#include "stop.h"
#include "text.h"
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KILLS_MAX 3    /* attempts to measure how soon a death is told */
#define LEFT_MS   2000 /* for the hypervisor to put away what the last VM left */

static const char help[] =
	"usage: ivc demo [options]\n"
	"\n"
	"Starts a hypervisor process and two VM processes. VM 1 publishes a channel, VM 2 subscribes, a file goes through it\n"
	"and is compared by SHA-256. Then VM 2 tries to write what it may only read, is killed, and comes back. Everything\n"
	"shown was measured in this run.\n"
	"\n"
	"  --file F        what to send; without it 8 MiB of this project's sources, or of the program itself\n"
	"  --key K         of the channel: a number, 0x..., or a text of 1 to 8 characters; demo\n"
	"  --socket PATH   of the hypervisor; without it in a new directory below TMPDIR or /tmp\n"
	"  --quiet         only the last line\n"
	"  --json          everything as one JSON object\n"
	"\n"
	"Exit: 0 the digests agree, the write was stopped, the death was told within 100 ms, nothing is left over; 1 wrong\n"
	"usage, or it could not begin; 2 one of these did not hold; 130 after Ctrl-C, 143 after SIGTERM.\n";

struct demo {
	struct demo_report r;
	struct demo_answer step[STEP_COUNT];
	struct demo_child hv, one, two;
	struct demo_vm vm1, vm2;
	struct demo_shared *shared;
	char where[256];
	char directory[128]; /* made here; empty: none */
};

/* What the hypervisor process says once it serves. */
struct hv_ready {
	uint32_t vms;
	uint32_t channels;
};

/* fail - the first thing that went wrong is the one that counts. Return: false. */
__attribute__((format(printf, 3, 4))) static bool fail(struct demo *d, int code, const char *format, ...)
{
	va_list args;

	if (d->r.exit_code) {
		return false;
	}
	if (stop_signal()) {
		(void)snprintf(d->r.error, sizeof(d->r.error), "stopped by %s", stop_name(stop_signal()));
		d->r.exit_code = TOOL_SIGNAL + stop_signal();
	} else {
		va_start(args, format);
		(void)vsnprintf(d->r.error, sizeof(d->r.error), format, args);
		va_end(args);
		d->r.exit_code = code;
	}
	say("%s", d->r.error);
	return false;
}

/* ----------------------------------------------------------------------------------------------- the other processes */

static void hv_ready_tell(void *arg, const struct ivc_proc_limits *limits)
{
	const int *link = arg;
	const struct hv_ready ready = {.vms = limits->hv.vms, .channels = limits->hv.channels};

	(void)send(*link, &ready, sizeof(ready), MSG_NOSIGNAL);
}

static int hv_run(void *arg, int link)
{
	const struct demo *d = arg;
	const struct ivc_proc_config cfg = {
		.size = sizeof(cfg),
		.path = d->where + sizeof("unix:") - 1,
		.hv = {.size = sizeof(cfg.hv)},
	};
	const int code = hv_serve(&cfg, hv_ready_tell, &link);

	if (d->directory[0]) {
		(void)rmdir(d->directory);
	}
	return code;
}

static int vm_run(void *arg, int link)
{
	return demo_vm_run(arg, link);
}

static bool order(struct demo *d, struct demo_child *c, enum demo_order what)
{
	return demo_child_order(c, what) == 0 ||
	       fail(d, TOOL_ENDED, "the process of %s has ended before it was told to", c->name);
}

static void progress(void *arg)
{
	const struct demo *d = arg;

	demo_show_progress(&d->r, ((const volatile struct demo_shared *)d->shared)->progress.word[0], false);
}

/* hear - the answer of @c into @step; an answer that tells of a failure is one. */
static bool hear(struct demo *d, struct demo_child *c, enum demo_step step, void (*tick)(void *arg))
{
	struct demo_answer *a = &d->step[step];

	if (demo_child_hear(c, a, sizeof(*a), tick, d)) {
		return fail(d, TOOL_ENDED, "the process of %s does not answer", c->name);
	}
	a->why[sizeof(a->why) - 1] = 0;
	return a->status == 0 || fail(d, TOOL_ENDED, "%s: %s", c->name, a->why);
}

static bool ask(struct demo *d, struct demo_child *c, enum demo_order what, enum demo_step step)
{
	return order(d, c, what) && hear(d, c, step, NULL);
}

/* ask_both - VM 2 first, so that it is ready when VM 1 begins. */
static bool ask_both(struct demo *d, enum demo_order what, enum demo_step one, enum demo_step two)
{
	return order(d, &d->two, what) && order(d, &d->one, what) &&
	       hear(d, &d->one, one, what == DEMO_TRANSFER ? progress : NULL) && hear(d, &d->two, two, NULL);
}

/* ------------------------------------------------------------------------------------------------------------- steps */

static bool levels(struct demo *d, struct ivc_port_levels *out)
{
	const int err = ivc_port_read_levels(d->where, out);

	return !err || fail(d, TOOL_ENDED, "the hypervisor does not tell its levels (%d)", err);
}

static bool step_hypervisor(struct demo *d)
{
	struct hv_ready ready;

	if (demo_child_start(&d->hv, "the hypervisor", SIGTERM, hv_run, d)) {
		return fail(d, TOOL_ERROR, "cannot start the hypervisor");
	}
	d->r.hv_pid = d->hv.pid;
	if (demo_child_hear(&d->hv, &ready, sizeof(ready), NULL, NULL)) {
		if (!stop_signal() && demo_child_end(&d->hv) == TOOL_ERROR) {
			d->r.exit_code = TOOL_ERROR; /* it has said why */
		}
		return fail(d, TOOL_ERROR, "the hypervisor did not start");
	}
	d->r.room_vms = ready.vms;
	d->r.room_channels = ready.channels;
	return levels(d, &d->r.first);
}

static bool step_vm(struct demo *d, struct demo_child *c, const char *name, struct demo_vm *vm, enum demo_step step,
		    pid_t *pid)
{
	if (demo_child_start(c, name, SIGKILL, vm_run, vm)) {
		return fail(d, TOOL_ERROR, "cannot start %s", name);
	}
	*pid = c->pid;
	return ask(d, c, DEMO_CONNECT, step);
}

static bool step_channel(struct demo *d)
{
	return ask(d, &d->one, DEMO_OPEN, STEP_PUBLISH) && ask(d, &d->two, DEMO_OPEN, STEP_SUBSCRIBE) &&
	       ask_both(d, DEMO_AWAIT, STEP_LOOK_1, STEP_LOOK_2) && ask(d, &d->one, DEMO_LOOK, STEP_LOOK_1) &&
	       ask(d, &d->two, DEMO_LOOK, STEP_LOOK_2) && levels(d, &d->r.during);
}

static bool step_transfer(struct demo *d)
{
	const struct demo_answer *one = &d->step[STEP_SEND], *two = &d->step[STEP_RECEIVE];
	bool done;

	demo_show_sending(&d->r);
	done = ask_both(d, DEMO_TRANSFER, STEP_SEND, STEP_RECEIVE);
	demo_show_progress(&d->r, one->messages, true);
	if (!done) {
		return false;
	}
	demo_show_transfer(&d->r);
	if (memcmp(one->digest, two->digest, sizeof(one->digest)) != 0 || one->bytes != two->bytes ||
	    one->messages != two->messages || one->acks != one->messages) {
		return fail(d, TOOL_ENDED, "what VM 2 received is not what VM 1 sent");
	}
	return true;
}

static bool step_forbidden(struct demo *d)
{
	const struct demo_answer *a = &d->step[STEP_FORBIDDEN];

	if (!ask(d, &d->one, DEMO_REMEMBER, STEP_COMPARE) || !ask(d, &d->two, DEMO_FORBIDDEN, STEP_FORBIDDEN) ||
	    !ask(d, &d->one, DEMO_COMPARE, STEP_COMPARE)) {
		return false;
	}
	demo_show_forbidden(&d->r);
	if (!a->stopped || !a->protect_refused || d->step[STEP_COMPARE].changed) {
		return fail(d, TOOL_ENDED, "VM 2 could write to VM 1's section");
	}
	return true;
}

/* kill_once - kill -9 of VM 2 while VM 1 watches; then another process is VM 2. */
static bool kill_once(struct demo *d)
{
	uint64_t begin;

	if (!ask(d, &d->one, DEMO_WATCH, STEP_WATCH)) { /* the first answer: it watches */
		return false;
	}
	begin = demo_now_ns();
	demo_child_kill(&d->two);
	if (!hear(d, &d->one, STEP_WATCH, NULL)) {
		return false;
	}
	d->r.told_ns = d->step[STEP_WATCH].ns - begin;
	d->r.kills++;
	return step_vm(d, &d->two, "VM 2", &d->vm2, STEP_AGAIN, &d->r.again_pid) &&
	       ask(d, &d->two, DEMO_OPEN, STEP_AGAIN) && ask_both(d, DEMO_AWAIT, STEP_GREET, STEP_GREET) &&
	       ask_both(d, DEMO_GREET, STEP_GREET, STEP_GREET);
}

static bool step_kill(struct demo *d)
{
	const struct demo_answer *watch = &d->step[STEP_WATCH];

	/* Where others fill the machine, VM 1 itself may not run for a while: that is not what is measured here. */
	do {
		if (!kill_once(d)) {
			return false;
		}
	} while (d->r.told_ns > DEMO_TOLD_NS && d->r.kills < KILLS_MAX);
	demo_show_killed(&d->r);
	if (watch->seat_state != IVC_SEAT_DEAD) {
		return fail(d, TOOL_ENDED, "VM 1 was told that the killed VM 2 is in state %" PRIu32,
			    watch->seat_state);
	}
	if (d->r.told_ns > DEMO_TOLD_NS) {
		return fail(d, TOOL_ENDED, "VM 1 was told after %.1f ms that VM 2 is dead; 100 ms are allowed",
			    (double)d->r.told_ns / 1e6);
	}
	return true;
}

static bool step_close(struct demo *d)
{
	struct demo_answer ignored;

	if (!ask(d, &d->two, DEMO_CLOSE, STEP_UNSUBSCRIBE) || !ask(d, &d->one, DEMO_CLOSE, STEP_UNPUBLISH)) {
		return false;
	}
	demo_show_closed(&d->r);
	if (!order(d, &d->two, DEMO_QUIT) || demo_child_hear(&d->two, &ignored, sizeof(ignored), NULL, NULL) ||
	    !order(d, &d->one, DEMO_QUIT) || demo_child_hear(&d->one, &ignored, sizeof(ignored), NULL, NULL) ||
	    demo_child_end(&d->two) != 0 || demo_child_end(&d->one) != 0) {
		return fail(d, TOOL_ENDED, "a VM process did not end as it should");
	}
	return true;
}

static bool nothing_left(const struct demo *d)
{
	const struct ivc_port_levels *l = &d->r.last;

	return !l->vms && !l->hv.vms_now && !l->hv.channels_now && !l->hv.memberships_now && !l->hv.sections_now &&
	       !l->hv.bytes_now && !l->hv.quarantined_bytes && !l->memfds && !l->vcpus &&
	       l->descriptors == d->r.first.descriptors;
}

static bool step_left(struct demo *d)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	const uint64_t end = demo_now_ns() + UINT64_C(1000000) * LEFT_MS;

	do {
		if (!levels(d, &d->r.last)) {
			return false;
		}
		if (nothing_left(d)) {
			break;
		}
		(void)nanosleep(&nap, NULL);
	} while (demo_now_ns() < end);
	(void)kill(d->hv.pid, SIGTERM);
	d->r.hv_exit = demo_child_end(&d->hv);
	d->r.socket_gone = access(d->where + sizeof("unix:") - 1, F_OK) != 0;
	demo_show_left(&d->r);
	if (!nothing_left(d)) {
		return fail(d, TOOL_ENDED,
			    "left over: %" PRIu32 " VMs, %" PRIu32 " channels, %" PRIu32 " sections, %" PRIu32
			    " memfds, %" PRIu64 " bytes, %" PRIu32 " descriptors where %" PRIu32 " were at the start",
			    d->r.last.vms, d->r.last.hv.channels_now, d->r.last.hv.sections_now, d->r.last.memfds,
			    d->r.last.hv.bytes_now, d->r.last.descriptors, d->r.first.descriptors);
	}
	if (d->r.hv_exit != 0 || !d->r.socket_gone) {
		return fail(d, TOOL_ENDED, "the hypervisor did not end as it should");
	}
	return true;
}

static bool steps(struct demo *d)
{
	if (!step_hypervisor(d)) {
		return false;
	}
	demo_show_host(&d->r);
	if (!step_vm(d, &d->one, "VM 1", &d->vm1, STEP_CONNECT_1, &d->r.vm1_pid) ||
	    !step_vm(d, &d->two, "VM 2", &d->vm2, STEP_CONNECT_2, &d->r.vm2_pid)) {
		return false;
	}
	demo_show_vms(&d->r);
	if (!step_channel(d)) {
		return false;
	}
	demo_show_channel(&d->r);
	if (!step_transfer(d) || !ask_both(d, DEMO_TRIPS, STEP_TRIPS, STEP_GREET)) {
		return false;
	}
	demo_show_trips(&d->r);
	return step_forbidden(d) && step_kill(d) && step_close(d) && step_left(d);
}

/* ---------------------------------------------------------------------------------------------------- begin and end */

/* cpus_choose - a CPU for each VM while it measures, if there are two. */
static void cpus_choose(struct demo *d)
{
	cpu_set_t set;
	int *const wanted[] = {&d->vm1.cpu, &d->vm2.cpu};
	uint32_t found = 0;

	CPU_ZERO(&set);
	(void)sched_getaffinity(0, sizeof(set), &set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET((size_t)cpu, &set)) {
			if (found < 2) {
				*wanted[found] = cpu;
			}
			found++;
		}
	}
	d->r.cpus = found;
	d->r.pinned = found >= 2;
	if (!d->r.pinned) {
		d->vm1.cpu = -1;
		d->vm2.cpu = -1;
	}
}

static bool socket_choose(struct demo *d, const char *socket)
{
	const char *base = getenv("TMPDIR");
	int n;

	if (socket) {
		n = snprintf(d->where, sizeof(d->where), "%s%s",
			     strncmp(socket, "unix:", 5) == 0 ? "" : "unix:", socket);
		return (n > 0 && (size_t)n < sizeof(d->where)) ||
		       fail(d, TOOL_ERROR, "the path of the socket is too long");
	}
	n = snprintf(d->directory, sizeof(d->directory), "%s/ivc-demo-XXXXXX", base && base[0] ? base : "/tmp");
	if (n < 0 || (size_t)n >= 80 || !mkdtemp(d->directory)) {
		d->directory[0] = 0;
		return fail(d, TOOL_ERROR, "cannot make a directory below %s: %s; set TMPDIR, or give --socket PATH",
			    base && base[0] ? base : "/tmp", strerror(errno));
	}
	(void)snprintf(d->where, sizeof(d->where), "unix:%s/hv", d->directory);
	return true;
}

/* clean_up - nothing stays behind, whatever happened. */
static void clean_up(struct demo *d)
{
	demo_child_kill(&d->two);
	demo_child_kill(&d->one);
	if (d->hv.pid) {
		(void)kill(d->hv.pid, SIGTERM);
		(void)demo_child_end(&d->hv);
	}
	if (d->directory[0]) {
		(void)unlink(d->where + sizeof("unix:") - 1);
		(void)rmdir(d->directory);
	}
}

static bool begin(struct demo *d, const char *file, const char *socket)
{
	int data;

	d->shared = mmap(NULL, sizeof(*d->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (d->shared == MAP_FAILED) {
		return fail(d, TOOL_ERROR, "no memory: %s", strerror(errno));
	}
	data = demo_data_open(file, d->r.data_name, sizeof(d->r.data_name), &d->r.data_bytes);
	if (data < 0) {
		d->r.exit_code = TOOL_ERROR; /* told */
		(void)snprintf(d->r.error, sizeof(d->r.error), "no data to send");
		return false;
	}
	if (!socket_choose(d, socket)) {
		return false;
	}
	d->r.socket = d->where + sizeof("unix:") - 1;
	d->vm1 = (struct demo_vm){.id = d->r.vm1, .publisher = true};
	d->vm2 = (struct demo_vm){.id = d->r.vm2, .from = d->r.vm1};
	cpus_choose(d);
	for (int i = 0; i < 2; i++) {
		struct demo_vm *vm = i ? &d->vm2 : &d->vm1;

		vm->key = d->r.key;
		vm->where = d->where;
		vm->data = data;
		vm->data_bytes = d->r.data_bytes;
		vm->shared = d->shared;
	}
	return true;
}

int cmd_demo(int argc, char **argv)
{
	static struct demo d;
	const char *file = NULL, *socket = NULL;
	struct opt opts[] = {
		{.name = "--file", .kind = OPT_TEXT, .to = &file},
		{.name = "--key", .kind = OPT_KEY, .to = &d.r.key},
		{.name = "--socket", .kind = OPT_TEXT, .to = &socket},
		{.name = "--quiet", .kind = OPT_FLAG, .to = &d.r.quiet},
		{.name = "--json", .kind = OPT_FLAG, .to = &d.r.json},
	};
	int code;

	d.r.step = d.step;
	d.r.vm1 = ivc_vmid(1);
	d.r.vm2 = ivc_vmid(2);
	d.hv.link = -1;
	d.one.link = -1;
	d.two.link = -1;
	(void)text_to_key("demo", &d.r.key);
	if (!opt_parse(opts, sizeof(opts) / sizeof(opts[0]), help, argc, argv, &code)) {
		return code;
	}
	d.r.progress = !d.r.quiet && !d.r.json && isatty(STDERR_FILENO);
	stop_catch();
	d.r.ok = begin(&d, file, socket) && steps(&d);
	clean_up(&d);
	if (!d.r.ok && d.r.exit_code == TOOL_ERROR && !d.r.json) {
		return TOOL_ERROR; /* it did not begin: the line on stderr is all there is to say */
	}
	if (!demo_show_end(&d.r)) {
		say("cannot write to stdout");
		return TOOL_ERROR;
	}
	return d.r.exit_code;
}
