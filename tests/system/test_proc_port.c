/* SPDX-License-Identifier: MIT */
/*
 * A VMM on a port: slots in its RAM, views, vCPUs, parked calls and their races, statistics, the goodbye.
 */
#include "proc_world.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define RAM    (UINT64_C(1) << 20)
#define WINDOW UINT64_C(0x40000000)
#define ROOM   (UINT64_C(64) << 20)

/* A small VMM: RAM, a record of what the ops were asked, one serving thread. */
struct vmm {
	_Alignas(64) uint8_t ram[RAM];
	struct ivc_vm *vm;
	pthread_t thread;
	/* of the serving thread; read after the call that caused it */
	struct {
		uint64_t at, bytes;
		const void *addr;
		enum ivc_access access;
		enum ivc_mem_kind kind;
	} last[16];
	uint32_t maps, closes, unmaps, failed;
	int fail_map;   /* what map answers the next time */
	uint32_t stop;  /* atomic */
	uint32_t bells; /* atomic */
};

static int op_map(void *host, const struct ivc_view *view)
{
	struct vmm *v = host;
	const int err = v->fail_map;

	v->fail_map = 0;
	if (err) {
		return err;
	}
	v->last[v->maps % 16].at = view->at.v;
	v->last[v->maps % 16].bytes = view->bytes;
	v->last[v->maps % 16].addr = view->mem->addr;
	v->last[v->maps % 16].access = view->access;
	v->last[v->maps % 16].kind = view->mem->kind;
	v->maps++;
	return 0;
}

static int op_close(void *host, const struct ivc_view *view)
{
	struct vmm *v = host;

	v->closes += view->mem != NULL;
	return 0;
}

static int op_unmap(void *host, const struct ivc_view *view)
{
	struct vmm *v = host;

	(void)view;
	v->unmaps++;
	return 0;
}

/* RAM has a hole in its second half, and its last page is read-only. */
static void *op_slot_get(void *host, void *vcpu, ivc_gpa_t at, uint32_t bytes)
{
	struct vmm *v = host;

	(void)vcpu;
	return at.v < RAM / 2 && bytes <= RAM / 2 - at.v ? v->ram + at.v : NULL;
}

static void op_bell(void *host, ivc_handle_t handle)
{
	struct vmm *v = host;

	(void)handle;
	ivc_fetch_add_u32(&v->bells, 1);
}

static void op_unpark(void *host, void *vcpu)
{
	(void)host;
	ivc_sleeper_wake(vcpu);
}

static void op_failed(void *host)
{
	struct vmm *v = host;

	v->failed++;
}

static const struct ivc_plat_ops ops = {
	.size = sizeof(struct ivc_plat_ops),
	.map = op_map,
	.close = op_close,
	.unmap = op_unmap,
	.slot_get = op_slot_get,
	.bell = op_bell,
	.unpark = op_unpark,
	.failed = op_failed,
};

static void *serve(void *arg)
{
	struct vmm *v = arg;
	struct pollfd p = {.fd = ivc_port_fd(v->vm), .events = POLLIN};

	while (!ivc_load_acquire_u32(&v->stop)) {
		if (poll(&p, 1, 5) > 0 && ivc_port_serve(v->vm)) {
			break;
		}
	}
	return NULL;
}

static struct vmm *vmm_new(const struct proc_world *w, uint32_t id, uint32_t flags)
{
	struct vmm *v = calloc(1, sizeof(*v));
	struct ivc_vm_config cfg = {
		.size = sizeof(cfg),
		.flags = flags,
		.id = ivc_vmid(id),
		.vector = 33,
		.window = ivc_gpa(WINDOW),
		.window_bytes = ROOM,
		.doorbell = WINDOW - 4096, /* which a port does not pass on */
		.clock_hz = 1000000,
		.clock_offset = -5,
		.host = v,
	};

	ACTOR_CHECK(v != NULL);
	ACTOR_CHECK(ivc_port_connect(&v->vm, w->where, &cfg, &ops) == 0);
	ACTOR_CHECK(pthread_create(&v->thread, NULL, serve, v) == 0);
	return v;
}

static void vmm_end(struct vmm *v)
{
	ivc_store_release_u32(&v->stop, 1);
	pthread_join(v->thread, NULL);
	ACTOR_CHECK(ivc_hv_vm_detach(v->vm) == 0);
	ACTOR_CHECK(v->maps == v->unmaps);
	free(v);
}

static int64_t call(struct vmm *v, struct ivc_sleeper *vcpu, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2,
		    uint64_t a3, uint64_t a4)
{
	struct ivc_call c = {.nr = nr, .arg = {a0, a1, a2, a3, a4, 0}, .result = 77};

	ACTOR_CHECK(ivc_hv_call_sleep(v->vm, vcpu, &c) == IVC_DONE);
	return c.result;
}

static uint64_t word(const struct vmm *v, uint64_t at)
{
	uint64_t value;

	memcpy(&value, v->ram + at, sizeof(value));
	return value;
}

static void word_set(struct vmm *v, uint64_t at, uint64_t value)
{
	memcpy(v->ram + at, &value, sizeof(value));
}

#define LAYOUT(seats) (IVC_LAYOUT_SECTIONED | (uint64_t)(seats) << IVC_LAYOUT_SEATS_SHIFT)

static void slots(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct vmm *v = vmm_new(w, 1, 0);
	struct ivc_sleeper cpu = {0};
	const uint64_t bad[] = {RAM / 2,           RAM - 8,        WINDOW,           WINDOW + 4096,
				WINDOW + ROOM - 8, UINT64_MAX - 7, UINT64_C(1) << 40};
	struct ivc_vm_info info;

	(void)me;
	(void)arg;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		word_set(v, 64, 8192);
		ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, bad[i], 64, LAYOUT(1), 0) == IVC_E_FAULT);
		ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 64, bad[i], LAYOUT(1), 0) == IVC_E_FAULT);
		ACTOR_CHECK(call(v, &cpu, IVC_HC_VM_INFO, bad[i], 0, 0, 0, 0) == IVC_E_FAULT);
		ACTOR_CHECK(word(v, 64) == 8192);
	}
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 4, 64, LAYOUT(1), 0) == IVC_E_INVAL);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 64, 64, LAYOUT(1), 0) == IVC_E_INVAL);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_VM_INFO, RAM / 2 - 56, 0, 0, 0, 0) == IVC_E_FAULT);
	ACTOR_CHECK(v->maps == 0);
	/* An error leaves out slots alone; GPA 0 is a slot like any other; an alias number finds them too. */
	word_set(v, 0, 111);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_SUBSCRIBE, 9, 1, 0, 64, 72) == IVC_E_NOENT);
	ACTOR_CHECK(word(v, 0) == 111);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_ALIAS + IVC_HC_PUBLISH, 1, 0, 64, LAYOUT(1), 0) == 0);
	ACTOR_CHECK(word(v, 0) >= WINDOW && word(v, 0) < WINDOW + ROOM);
	ACTOR_CHECK(word(v, 64) == 4096 + 8192 + 4096);
	ACTOR_CHECK(v->maps == 2);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_VM_INFO, 128, 0, 0, 0, 0) == 0);
	memcpy(&info, v->ram + 128, sizeof(info));
	ACTOR_CHECK(info.bytes == 64 && info.vm == 1 && info.window == WINDOW && info.window_bytes == ROOM);
	ACTOR_CHECK(info.vector == 33 && info.counter_hz == 1000000 && info.counter_offset == -5);
	ACTOR_CHECK(info.doorbell == 0);
	ACTOR_CHECK((call(v, &cpu, IVC_HC_FEATURES, 0, 0, 0, 0, 0) & (int64_t)IVC_FEATURE_DOORBELL) == 0);
	ACTOR_CHECK(call(v, &cpu, UINT64_C(0x100000003), 0, 0, 0, 0, 0) == IVC_E_NOSYS);
	vmm_end(v);
}

static void run_actor(proc_actor_fn fn, const struct ivc_proc_config *config)
{
	struct proc_world w;
	struct proc_actor a;

	proc_world_start(&w, config);
	proc_actor_start(&w, &a, fn, NULL);
	proc_actor_ended_well(&a);
	proc_world_settled(&w);
	assert_int_equal(ivc_port_read_levels(w.where, &w.before), 0);
	assert_int_equal(w.before.ended, 0);
	proc_world_stop(&w);
}

static void test_proc_port_slots_are_resolved_in_own_ram(void **state)
{
	(void)state;
	run_actor(slots, NULL);
}

static void views(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct vmm *v = vmm_new(w, 1, 0);
	struct ivc_sleeper cpu = {0};
	const struct ivc_hv_page *page;
	volatile uint64_t *section;

	(void)me;
	(void)arg;
	word_set(v, 64, IVC_HUGE_BYTES);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 7, 0, 64, LAYOUT(1), 0) == 0);
	ACTOR_CHECK(v->maps == 2);
	ACTOR_CHECK(v->last[0].kind == IVC_MEM_HV && v->last[0].access == IVC_READ);
	ACTOR_CHECK(v->last[1].kind == IVC_MEM_ONE_WRITER && v->last[1].access == IVC_READ_WRITE);
	ACTOR_CHECK(((uintptr_t)v->last[1].addr & (IVC_HUGE_BYTES - 1)) == 0);
	ACTOR_CHECK((v->last[1].at & (IVC_HUGE_BYTES - 1)) == 0);
	page = v->last[0].addr;
	ACTOR_CHECK(page->magic == IVC_HV_PAGE_MAGIC && page->key == 7 && page->publisher == 1);
	section = (volatile uint64_t *)(uintptr_t)v->last[1].addr;
	section[0] = 5;
	section[IVC_HUGE_BYTES / 8 - 1] = 6;
	ACTOR_CHECK(mprotect((void *)(uintptr_t)page, 4096, PROT_READ | PROT_WRITE) < 0);
	/* An op that fails: the call has had no effect, and the next one works. */
	word_set(v, 64, 4096);
	v->fail_map = IVC_E_NOSPC;
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 8, 0, 64, LAYOUT(1), 0) < 0);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_UNPUBLISH, 8, 0, 0, 0, 0) == IVC_E_NOENT);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 8, 0, 64, LAYOUT(1), 0) == 0);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_UNPUBLISH, 8, 0, 0, 0, 0) == 0);
	ACTOR_CHECK(v->unmaps == 2);
	vmm_end(v);
}

static void test_proc_port_views_have_rights_and_alignment(void **state)
{
	(void)state;
	run_actor(views, NULL);
}

static void vcpus(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct vmm *v = vmm_new(w, 1, 0);
	struct ivc_sleeper cpu[4] = {{0}};
	struct ivc_port_vm_info info;

	(void)me;
	(void)arg;
	for (int i = 0; i < 3; i++) {
		ACTOR_CHECK(call(v, &cpu[i], IVC_HC_VM_ID, 0, 0, 0, 0, 0) == 1);
	}
	ACTOR_CHECK(call(v, &cpu[3], IVC_HC_VM_ID, 0, 0, 0, 0, 0) == IVC_E_NOMEM);
	ACTOR_CHECK(ivc_port_read_vm(w->where, ivc_vmid(0), &info) == 0);
	ACTOR_CHECK(info.id.v == 1 && info.vcpus == 3 && info.pid == (uint32_t)getpid() && info.window.v == WINDOW);
	ACTOR_CHECK(ivc_port_read_vm(w->where, ivc_vmid(2), &info) == IVC_E_NOENT);
	/* One that is dropped makes room, as soon as the other side has noticed. */
	ivc_port_vcpu_drop(v->vm, &cpu[1]);
	ivc_port_vcpu_drop(v->vm, &cpu[1]);
	for (uint64_t until = proc_ms() + PROC_DEADLINE_MS; proc_ms() < until; proc_nap(1)) {
		if (call(v, &cpu[3], IVC_HC_VM_ID, 0, 0, 0, 0, 0) == 1) {
			break;
		}
	}
	ACTOR_CHECK(call(v, &cpu[3], IVC_HC_VM_ID, 0, 0, 0, 0, 0) == 1);
	vmm_end(v);
}

static void test_proc_port_vcpus_are_capped_and_can_be_dropped(void **state)
{
	const struct ivc_proc_config config = {.vcpus = 3};

	(void)state;
	run_actor(vcpus, &config);
}

static void odds(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct vmm *v = vmm_new(w, 1, IVC_PORT_NO_VIEW);
	struct ivc_sleeper cpu = {0};
	struct ivc_vm_stats stats;
	uint64_t data = 0;
	int n = 0;

	(void)me;
	(void)arg;
	word_set(v, 64, 4096);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 0, 64, LAYOUT(1), 0) == 0);
	word_set(v, 64, 4096);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 2, 0, 64, LAYOUT(1), 0) == 0);
	ACTOR_CHECK(v->last[0].addr == NULL);
	ACTOR_CHECK(ivc_hv_window_access(v->vm, ivc_gpa(WINDOW + 8), false, &data, 8) && data == UINT64_MAX);
	ACTOR_CHECK(ivc_hv_window_access(v->vm, ivc_gpa(WINDOW + 8), true, &data, 8));
	ACTOR_CHECK(!ivc_hv_window_access(v->vm, ivc_gpa(WINDOW - 8), false, &data, 8));
	ACTOR_CHECK(!ivc_hv_window_access(v->vm, ivc_gpa(WINDOW + ROOM), false, &data, 8));
	ivc_hv_doorbell(v->vm, 0xff); /* of a guest that stores to a page which it was not told of */
	ivc_hv_vm_stats(v->vm, &stats);
	ACTOR_CHECK(stats.published == 2 && stats.channels_now == 2 && stats.stray_reads == 1 &&
		    stats.stray_writes == 2);
	ACTOR_CHECK(stats.bytes_now == 2 * (4096 + 4096));
	while (ivc_hv_vm_reset(v->vm) == IVC_E_AGAIN) {
		ACTOR_CHECK(++n < 10);
	}
	ivc_hv_vm_stats(v->vm, &stats);
	ACTOR_CHECK(stats.channels_now == 0 && stats.bytes_now == 0);
	ACTOR_CHECK(v->unmaps == v->maps);
	vmm_end(v);
}

static void test_proc_port_reset_stats_and_stray_accesses(void **state)
{
	(void)state;
	run_actor(odds, NULL);
}

/*
 * Two vCPUs wait with tiny timeouts while another VM rings: each WAIT ends exactly once, with a bell or with its
 * deadline.
 */
struct waiting {
	struct vmm *v;
	struct ivc_sleeper cpu;
	pthread_t thread;
	uint64_t handle;
	uint64_t seed;
	uint32_t rung, late;
	bool bad;
};
#define WAITS 3000

static void *wait_often(void *arg)
{
	struct waiting *t = arg;

	for (int i = 0; i < WAITS; i++) {
		const uint64_t ns = run_below(&t->seed, 4) ? run_below(&t->seed, 100000) : 0;
		const int64_t got =
			call(t->v, &t->cpu, IVC_HC_WAIT, run_below(&t->seed, 2) ? t->handle : 0, ns, 0, 0, 0);

		t->rung += got == (int64_t)t->handle;
		t->late += got == IVC_E_TIMEDOUT || got == IVC_E_AGAIN;
		t->bad = t->bad || (got != (int64_t)t->handle && got != IVC_E_TIMEDOUT && got != IVC_E_AGAIN);
	}
	return NULL;
}

static void waiters(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct vmm *v = vmm_new(w, 1, 0);
	struct waiting t[2];
	struct ivc_sleeper cpu = {0};
	const struct ivc_hv_page *page;

	(void)arg;
	word_set(v, 64, 4096);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 0, 64, LAYOUT(1), 0) == 0);
	page = v->last[0].addr;
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'g');
	for (int i = 0; i < 2; i++) {
		t[i] = (struct waiting){.v = v, .handle = page->handle, .seed = (uint64_t)i + 1};
		ACTOR_CHECK(pthread_create(&t[i].thread, NULL, wait_often, &t[i]) == 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i].thread, NULL);
		ACTOR_CHECK(!t[i].bad && t[i].rung + t[i].late == WAITS);
	}
	ACTOR_CHECK(t[0].rung + t[1].rung > 0 && t[0].late + t[1].late > 0);
	ACTOR_CHECK(ivc_load_relaxed_u32(&v->bells) > 0);
	proc_say(me, 'd');
	ACTOR_CHECK(proc_hear(me) == 'q');
	vmm_end(v);
}

static void ringer(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	proc_say(me, 's');
	while (ivc_call_notify(&g, ivc_vmid(1), ivc_key(1), IVC_ALL, 0) == 0) {
	}
	ivc_guest_disconnect(&g);
}

static void test_proc_port_bell_and_deadline_race_ends_each_wait_once(void **state)
{
	struct proc_world w;
	struct proc_actor a, b;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &a, waiters, NULL);
	assert_int_equal(proc_hear(&a), 'p');
	proc_actor_start(&w, &b, ringer, NULL);
	assert_int_equal(proc_hear(&b), 's');
	proc_say(&a, 'g');
	assert_int_equal(proc_hear(&a), 'd');
	proc_say(&a, 'q');
	proc_actor_ended_well(&a);
	proc_actor_ended_well(&b); /* its channel is over: NOENT */
	proc_world_settled(&w);
	assert_int_equal(ivc_port_read_levels(w.where, &w.before), 0);
	assert_int_equal(w.before.ended, 0);
	proc_world_stop(&w);
}

/* Leaves while vCPUs sleep in WAIT: they end with SHUTDOWN, the goodbye is in order. */
static void *wait_long(void *arg)
{
	struct waiting *t = arg;

	t->bad = call(t->v, &t->cpu, IVC_HC_WAIT, 0, IVC_FOREVER, 0, 0, 0) != IVC_E_SHUTDOWN;
	return NULL;
}

static void leaver(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct vmm *v = vmm_new(w, 1, 0);
	struct ivc_sleeper cpu = {0};
	struct waiting t[3];
	struct ivc_vm_stats stats;

	(void)me;
	(void)arg;
	word_set(v, 64, 4096);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 0, 64, LAYOUT(1), 0) == 0);
	for (int i = 0; i < 3; i++) {
		t[i] = (struct waiting){.v = v};
		ACTOR_CHECK(pthread_create(&t[i].thread, NULL, wait_long, &t[i]) == 0);
	}
	do {
		ivc_hv_vm_stats(v->vm, &stats);
	} while (stats.waits_parked < 3);
	vmm_end(v);
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i].thread, NULL);
		ACTOR_CHECK(!t[i].bad);
	}
}

static void test_proc_port_detach_with_sleeping_vcpus(void **state)
{
	(void)state;
	run_actor(leaver, NULL);
}

static void stopper(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	ivc_handle_t rang;

	(void)me;
	(void)arg;
	proc_vm(w, &g, 1);
	ivc_guest_stop(&g);
	ACTOR_CHECK(ivc_call_wait(&g, (ivc_handle_t){0}, IVC_FOREVER, &rang) == IVC_E_INTR);
	ACTOR_CHECK(ivc_call_wait(&g, (ivc_handle_t){0}, 1000000, &rang) == IVC_E_TIMEDOUT);
	ACTOR_CHECK(ivc_call_vm_id(&g) == 1);
	ivc_guest_disconnect(&g);
	ACTOR_CHECK(ivc_guest_connect(&g, w->where, ivc_vmid(UINT32_MAX)) == IVC_E_INVAL);
	ACTOR_CHECK(strstr(ivc_guest_why(&g), "VM id") != NULL);
	ivc_guest_disconnect(&g);
	ACTOR_CHECK(ivc_guest_connect(&g, "unix:/nonexistent/x", ivc_vmid(1)) == IVC_E_NOENT);
	ACTOR_CHECK(strstr(ivc_guest_why(&g), "start the hypervisor") != NULL);
	ivc_guest_disconnect(&g);
	proc_vm(w, &g, 1);
	ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(1), 0) == IVC_E_NOENT);
	ACTOR_CHECK(strstr(ivc_guest_why(&g), "does not publish") != NULL);
	ivc_guest_disconnect(&g);
}

static void test_proc_port_guest_stop_and_why(void **state)
{
	(void)state;
	run_actor(stopper, NULL);
}

/* Pairs of VMs subscribe to each other and leave at the same time. */
static void pair(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint32_t id = *(const uint32_t *)arg;
	struct ivc_call_region r;
	struct ivc_guest g;

	for (int n = 0; n < 15; n++) {
		proc_vm(w, &g, id);
		proc_publish(&g, (uint64_t)n, 16384, &r);
		proc_say(me, 'p');
		ACTOR_CHECK(proc_hear(me) == 's');
		proc_subscribe(&g, id ^ 1, (uint64_t)n, &r);
		proc_say(me, 's');
		ACTOR_CHECK(proc_hear(me) == 'l');
		ivc_guest_disconnect(&g);
		proc_say(me, 'l');
	}
}

static void test_proc_port_members_of_each_other_leave_at_once(void **state)
{
	const uint32_t id[4] = {2, 3, 4, 5};
	struct proc_world w;
	struct proc_actor a[4];

	(void)state;
	proc_world_start(&w, NULL);
	for (int i = 0; i < 4; i++) {
		proc_actor_start(&w, &a[i], pair, (void *)(uintptr_t)&id[i]);
	}
	for (int n = 0; n < 15; n++) {
		const char heard[] = {'p', 's', 'l'}, said[] = {'s', 'l', 0};

		for (int step = 0; step < 3; step++) {
			for (int i = 0; i < 4; i++) {
				assert_int_equal(proc_hear(&a[i]), heard[step]);
			}
			for (int i = 0; i < 4 && said[step]; i++) {
				proc_say(&a[i], said[step]);
			}
		}
	}
	for (int i = 0; i < 4; i++) {
		proc_actor_ended_well(&a[i]);
	}
	proc_world_settled(&w);
	assert_int_equal(ivc_port_read_levels(w.where, &w.before), 0);
	assert_int_equal(w.before.ended, 0);
	proc_world_stop(&w);
}

/* No room for one more descriptor. Return: the first of many that fill it up. */
static int files_fill(void)
{
	const int first = dup(0);

	ACTOR_CHECK(first >= 0);
	while (dup(0) >= 0) {
	}
	return first;
}

/* A VM process without room for a descriptor: the call says so, nobody is ended, later all works. */
static void full(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const struct rlimit few = {256, 256};
	struct vmm *v = vmm_new(w, 1, 0);
	struct ivc_sleeper cpu = {0}, late = {0};
	int first;

	(void)me;
	(void)arg;
	ACTOR_CHECK(call(v, &cpu, IVC_HC_VM_ID, 0, 0, 0, 0, 0) == 1);
	ACTOR_CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	first = files_fill();
	word_set(v, 64, 4096);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 0, 64, LAYOUT(1), 0) == IVC_E_NOMEM);
	ACTOR_CHECK(call(v, &late, IVC_HC_VM_ID, 0, 0, 0, 0, 0) == IVC_E_NOMEM);
	for (int fd = first; fd < (int)few.rlim_cur; fd++) {
		close(fd);
	}
	ACTOR_CHECK(call(v, &late, IVC_HC_VM_ID, 0, 0, 0, 0, 0) == 1);
	ACTOR_CHECK(call(v, &cpu, IVC_HC_PUBLISH, 1, 0, 64, LAYOUT(1), 0) == 0);
	ACTOR_CHECK(v->failed == 0);
	vmm_end(v);
}

static void test_proc_port_full_descriptor_table_nomem(void **state)
{
	(void)state;
	run_actor(full, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proc_port_slots_are_resolved_in_own_ram),
		cmocka_unit_test(test_proc_port_views_have_rights_and_alignment),
		cmocka_unit_test(test_proc_port_vcpus_are_capped_and_can_be_dropped),
		cmocka_unit_test(test_proc_port_reset_stats_and_stray_accesses),
		cmocka_unit_test(test_proc_port_bell_and_deadline_race_ends_each_wait_once),
		cmocka_unit_test(test_proc_port_detach_with_sleeping_vcpus),
		cmocka_unit_test(test_proc_port_guest_stop_and_why),
		cmocka_unit_test(test_proc_port_members_of_each_other_leave_at_once),
		cmocka_unit_test(test_proc_port_full_descriptor_table_nomem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
