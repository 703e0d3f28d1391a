/* SPDX-License-Identifier: MIT */
/*
 * A hosted program as a VM: RAM, window, port, one serving thread, a trap that carries hypercalls over the port. It
 * decides which vCPU a thread's call is made on; what the calls mean is the guest library's and the registry's.
 */
#include "state.h"
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RAM_BYTES    (UINT64_C(16) << 20)
#define WINDOW_BYTES (UINT64_C(1) << 30)
#define WINDOW_UNIT  UINT64_C(0x40000000)
#define SLOTS_GPA    UINT64_C(0x1000)

static int vcpu_take(struct connection *c)
{
	int i = CONNECT_VCPUS;

	pthread_mutex_lock(&c->lock);
	while (i == CONNECT_VCPUS) {
		for (i = 0; i < CONNECT_VCPUS && c->busy[i]; i++) {
		}
		if (i == CONNECT_VCPUS) {
			pthread_cond_wait(&c->freed, &c->lock);
		}
	}
	c->busy[i] = true;
	pthread_mutex_unlock(&c->lock);
	return i;
}

static bool worth_telling(const struct ivc_regs *regs, int64_t result)
{
	/* A poll that finds nothing and a RESET with more to do are no failures. */
	return result < 0 && !(regs->nr == IVC_HC_WAIT && regs->arg[1] == 0) && result != IVC_E_AGAIN;
}

static void vcpu_give(struct connection *c, int i, const struct ivc_regs *regs, int64_t result)
{
	pthread_mutex_lock(&c->lock);
	c->busy[i] = false;
	if (worth_telling(regs, result)) {
		c->failed_nr = regs->nr;
		memcpy(c->failed_arg, regs->arg, sizeof(c->failed_arg));
		c->failed_result = result;
	}
	pthread_cond_signal(&c->freed);
	pthread_mutex_unlock(&c->lock);
}

static int64_t env_trap(void *os, const struct ivc_regs *regs)
{
	struct connection *c = os;
	struct ivc_call call = {.nr = regs->nr};
	const int i = vcpu_take(c);

	memcpy(call.arg, regs->arg, sizeof(call.arg));
	ivc_fetch_add_u64(&c->calls, 1);
	if (ivc_hv_call_sleep(c->vm, &c->vcpu[i], &call) == IVC_FOREIGN) {
		call.result = IVC_E_NOSYS;
	}
	vcpu_give(c, i, regs, call.result);
	if (c->trace) {
		c->trace(c->trace_arg, regs->nr, regs->arg, call.result);
	}
	return call.result;
}

static uint64_t env_now_ns(void *os)
{
	struct timespec t;

	(void)os;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void op_bell(void *os, ivc_handle_t handle)
{
	struct connection *c = os;

	if (c->bell) {
		c->bell(c->bell_arg, handle);
	}
}

static void op_unpark(void *os, void *vcpu)
{
	(void)os;
	ivc_sleeper_wake(vcpu);
}

static const struct ivc_plat_ops connect_ops = {
	.size = sizeof(struct ivc_plat_ops),
	.map = connect_map,
	.close = connect_close,
	.unmap = connect_unmap,
	.slot_get = connect_slot_get,
	.bell = op_bell,
	.unpark = op_unpark,
};

static void *serve(void *arg)
{
	struct connection *c = arg;
	struct pollfd p[2] = {{.fd = ivc_port_fd(c->vm), .events = POLLIN}, {.fd = c->stop, .events = POLLIN}};

	while (!p[1].revents) {
		if (poll(p, 2, -1) < 0) {
			continue;
		}
		if (p[0].revents && ivc_port_serve(c->vm)) {
			ivc_store_release_u32(&c->gone, 1);
			p[0].fd = -1;
		}
	}
	return NULL;
}

static int thread_start(struct connection *c)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&c->thread, NULL, serve, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	c->thread_runs = !err;
	return err ? IVC_E_NOMEM : 0;
}

static void thread_stop(struct connection *c)
{
	const uint64_t one = 1;
	ssize_t n;

	if (c->thread_runs) {
		n = write(c->stop, &one, sizeof(one));
		(void)n;
		pthread_join(c->thread, NULL);
		c->thread_runs = false;
	}
}

/* Takes back what the steps of ivc_guest_connect_with() gave; the record itself stays for ivc_guest_why(). */
static void undo(struct connection *c)
{
	thread_stop(c);
	if (c->vm) {
		while (ivc_hv_vm_detach(c->vm) == IVC_E_AGAIN) {
		}
		c->vm = NULL;
	}
	if (c->stop >= 0) {
		close(c->stop);
		c->stop = -1;
	}
	connect_memory_free(c);
}

static void choose(struct connection *c, ivc_vmid_t vm, const struct ivc_connect_options *o)
{
	c->id = vm.v;
	c->ram_bytes = o && o->ram_bytes ? o->ram_bytes : RAM_BYTES;
	c->window_bytes = o && o->window_bytes ? o->window_bytes : WINDOW_BYTES;
	c->window = o && o->window.v ? o->window.v : WINDOW_UNIT * (1 + (vm.v + UINT64_C(63)) % 64);
	c->bell = o ? o->bell : NULL;
	c->bell_arg = o ? o->bell_arg : NULL;
}

static bool options_ok(const struct connection *c, const struct ivc_connect_options *o)
{
	const uint64_t page = UINT64_C(4096);

	return (!o || (o->size >= sizeof(*o) && !o->reserved)) &&
	       !((c->ram_bytes | c->window | c->window_bytes) & (page - 1)) && c->ram_bytes >= SLOTS_GPA + page &&
	       ivc_range_ok(c->window, c->window_bytes) && c->window >= c->ram_bytes &&
	       c->window_bytes < UINT64_C(1) << 46 && c->ram_bytes < UINT64_C(1) << 46;
}

static int begin(struct connection *c, struct ivc_guest *g)
{
	const struct ivc_vm_config cfg = {
		.size = sizeof(cfg),
		.flags = IVC_PORT_NO_VIEW,
		.id = ivc_vmid(c->id),
		.vector = c->bell ? 1 : 0, /* nobody to tell: no bell is sent */
		.window = ivc_gpa(c->window),
		.window_bytes = c->window_bytes,
		.host = c,
	};
	struct ivc_env env = {
		.slots_gpa = ivc_gpa(SLOTS_GPA),
		.slots_count = CONNECT_SLOTS,
		.page_log2 = 12,
		.map = connect_env_map,
		.now_ns = env_now_ns,
		.trap = env_trap,
		.os = c,
	};
	int err;

	err = connect_memory_new(c);
	if (err) {
		return err;
	}
	c->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->stop < 0) {
		return IVC_E_NOMEM;
	}
	err = ivc_port_connect(&c->vm, c->where, &cfg, &connect_ops);
	if (err) {
		return err;
	}
	err = thread_start(c);
	if (err) {
		return err;
	}
	env.slots = (struct ivc_slots *)(void *)(c->ram + SLOTS_GPA);
	return ivc_guest_init(g, &env);
}

int ivc_guest_connect_with(struct ivc_guest *g, const char *where, ivc_vmid_t vm,
			   const struct ivc_connect_options *options)
{
	struct connection *c = calloc(1, sizeof(*c));
	int err = IVC_E_INVAL;

	memset(g, 0, sizeof(*g));
	if (!c) {
		return IVC_E_NOMEM;
	}
	c->stop = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->freed, NULL);
	choose(c, vm, options);
	if (where && strlen(where) < sizeof(c->where)) {
		memcpy(c->where, where, strlen(where) + 1);
		if (options_ok(c, options)) {
			err = begin(c, g);
		}
	}
	if (err) {
		undo(c);
		memset(g, 0, sizeof(*g));
		c->connect_status = err;
	}
	g->env_.os = c;
	return err;
}

int ivc_guest_connect(struct ivc_guest *g, const char *where, ivc_vmid_t vm)
{
	return ivc_guest_connect_with(g, where, vm, NULL);
}

void ivc_guest_disconnect(struct ivc_guest *g)
{
	struct connection *c = g->env_.os;

	if (!c) {
		return;
	}
	undo(c);
	pthread_cond_destroy(&c->freed);
	pthread_mutex_destroy(&c->lock);
	free(c);
	memset(g, 0, sizeof(*g));
}

void ivc_guest_stop(struct ivc_guest *g)
{
	struct connection *c = g->env_.os;

	for (int i = 0; c && i < CONNECT_VCPUS; i++) {
		ivc_sleeper_stop(&c->vcpu[i]);
	}
}

const char *ivc_guest_why(struct ivc_guest *g)
{
	struct connection *c = g->env_.os;

	if (!c) {
		return "not connected to a hypervisor";
	}
	pthread_mutex_lock(&c->lock);
	connect_why(c);
	pthread_mutex_unlock(&c->lock);
	return c->why;
}

int ivc_guest_connection(struct ivc_guest *g, struct ivc_connect_info *out)
{
	struct connection *c = g->env_.os;

	if (!c || !c->vm) {
		return IVC_E_NODEV;
	}
	*out = (struct ivc_connect_info){
		.vm = ivc_vmid(c->id),
		.window = ivc_gpa(c->window),
		.window_bytes = c->window_bytes,
		.ram_bytes = c->ram_bytes,
		.window_at = c->window_at,
		.calls = ivc_load_relaxed_u64(&c->calls),
		.gone = ivc_load_acquire_u32(&c->gone) != 0,
	};
	return 0;
}

void ivc_guest_trace(struct ivc_guest *g, void (*fn)(void *arg, uint64_t nr, const uint64_t arg6[6], int64_t result),
		     void *arg)
{
	struct connection *c = g->env_.os;

	if (c) {
		c->trace = fn;
		c->trace_arg = arg;
	}
}
