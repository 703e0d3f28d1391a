/* SPDX-License-Identifier: MIT */
/*
 * The test's side of a host: starts and ends it and its VMs, sends orders, waits for answers with a deadline, compares
 * what is held with what was held. It decides what counts as left over.
 */
#include "host_state.h"
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define HOST_MEMORY (UINT64_C(256) << 20) /* of all sections where the registry is in this process */

static const char *const names[] = {
	[HOST_PROCESS] = "process",
	[HOST_KVM] = "kvm",
	[HOST_PORT] = "port",
	[HOST_MIXED] = "mixed",
};
#define KINDS (sizeof(names) / sizeof(names[0]))

static enum host_kind kind;

enum host_kind host_is(void)
{
	return kind;
}

bool host_remote(void)
{
	return kind != HOST_KVM;
}

bool host_guest(uint32_t id)
{
	return kind == HOST_KVM || kind == HOST_PORT || (kind == HOST_MIXED && id % 2 == 1);
}

int host_main(int argc, char **argv, const char *topic, const struct CMUnitTest *tests, size_t count)
{
	int failed = 0, ran = 0;
	const char *why;
	char group[64];

	if (argc > 2) {
		cmocka_set_test_filter(argv[2]);
	}
	for (size_t i = 0; i < KINDS; i++) {
		if (argc > 1 && strcmp(argv[1], names[i]) != 0) {
			continue;
		}
		kind = (enum host_kind)i;
		if (kind != HOST_PROCESS && !host_far_image(&why)) {
			fprintf(stderr, "host %s: SKIPPED, nothing was tested: %s\n", names[i], why);
			continue;
		}
		snprintf(group, sizeof(group), "host_%s on %s", topic, names[i]);
		failed += _cmocka_run_group_tests(group, tests, count, NULL, NULL);
		ran++;
	}
	if (!ran) {
		return 77;
	}
	return failed;
}

/* ------------------------------------------------------------------------------------------------------- the host */

static uint32_t entries(const char *path)
{
	DIR *dir = opendir(path);
	uint32_t n = 0;

	assert_non_null(dir);
	while (readdir(dir)) {
		n++;
	}
	closedir(dir);
	return n;
}

/* Sections that this process still maps, whoever for. */
static uint32_t mapped(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	uint32_t n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		n += strstr(line, "/memfd:") != NULL;
	}
	fclose(maps);
	return n;
}

static void *idle(void *arg)
{
	return arg;
}

struct host *host_start(void)
{
	/* A machine that is busy with other things is no reason to end a VM. */
	const struct ivc_proc_config config = {.answer_ms = HOST_DEADLINE_MS / 2};
	struct host *h = calloc(1, sizeof(*h));
	pthread_t first;

	assert_non_null(h);
	if (host_remote()) {
		proc_world_start(&h->world, &config);
		return h;
	}
#ifdef IVC_TESTS_VMM
	assert_int_equal(ivc_hv_thread_enter(), 0);
	h->memory.limit = HOST_MEMORY;
	assert_int_equal(ivc_hv_create(&h->hv, &(struct ivc_hv_config){.size = sizeof(struct ivc_hv_config),
								       .ops = ivc_kvm_ops(),
								       .host = &h->memory}),
			 0);
#endif
	/* The first thread brings one of a sanitizer's along, which stays. */
	assert_int_equal(pthread_create(&first, NULL, idle, NULL), 0);
	assert_int_equal(pthread_join(first, NULL), 0);
	h->fds = entries("/proc/self/fd");
	h->tasks = entries("/proc/self/task");
	h->maps = mapped();
	return h;
}

static bool settled(const struct host *h, struct ivc_hv_stats *s)
{
	ivc_hv_stats(h->hv, s);
	return mapped() <= h->maps && s->vms_now == 0 && s->channels_now == 0 && s->memberships_now == 0 &&
	       s->sections_now == 0 && s->bytes_now == 0 && s->quarantined_bytes == 0 &&
	       entries("/proc/self/fd") <= h->fds && entries("/proc/self/task") <= h->tasks;
}

void host_settled(struct host *h)
{
	const uint64_t until = proc_ms() + HOST_DEADLINE_MS;
	struct ivc_hv_stats s;

	assert_null(h->vms);
	if (host_remote()) {
		proc_world_settled(&h->world);
		return;
	}
	while (!settled(h, &s)) {
		if (proc_ms() > until) {
			fail_msg("left: vms %u channels %u members %u sections %u bytes %llu quarantined %llu | fd %u "
				 "(%u) task %u (%u) memfds mapped %u (%u)",
				 s.vms_now, s.channels_now, s.memberships_now, s.sections_now,
				 (unsigned long long)s.bytes_now, (unsigned long long)s.quarantined_bytes,
				 entries("/proc/self/fd"), h->fds, entries("/proc/self/task"), h->tasks, mapped(),
				 h->maps);
		}
		proc_nap(2);
	}
}

void host_stop(struct host *h)
{
	struct ivc_port_levels levels;

	if (h->lost) {
		assert_null(h->vms);
		proc_world_clear(&h->world);
	} else if (host_remote()) {
		host_settled(h);
		assert_int_equal(ivc_port_read_levels(h->world.where, &levels), 0);
		assert_int_equal(levels.ended, 0); /* nobody was taken for a liar */
		proc_world_stop(&h->world);
	} else {
		host_settled(h);
		assert_int_equal(ivc_hv_destroy(h->hv), 0);
		ivc_hv_thread_leave();
	}
	free(h);
}

void host_lose(struct host *h)
{
	assert_true(host_remote());
	proc_actor_kill(&h->world.hv, SIGKILL);
	assert_int_equal(proc_actor_status(&h->world.hv), 256 + SIGKILL);
	h->lost = true;
}

/* ------------------------------------------------------------------------------------------------------------- VMs */

static void actor(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const struct rlimit none = {0, 0};
	struct host_vm *vm = arg;
	int status = 0;

	(void)me;
	(void)setrlimit(RLIMIT_CORE, &none);
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		close(vm->near[i]);
	}
	if (vm->guest) {
		status = host_far_guest(vm, w->where);
	} else {
		host_far_process(vm, w->where);
	}
	fflush(NULL);
	_exit(status);
}

static void run_here(struct host_vm *vm)
{
#ifdef IVC_TESTS_VMM
	vm->vmm = host_far_create(vm, vm->h->hv, NULL);
	assert_non_null(vm->vmm);
	assert_int_equal(vmm_start(vm->vmm), 0);
#else
	(void)vm;
#endif
}

static void forget(struct host_vm *vm)
{
	struct host_vm **link = &vm->h->vms;

	while (*link != vm) {
		link = &(*link)->next;
	}
	*link = vm->next;
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		close(vm->near[i]);
		if (vm->far[i] >= 0) {
			close(vm->far[i]);
		}
	}
	free(vm);
}

struct host_vm *host_vm_begin(struct host *h, uint32_t id, uint32_t vcpus)
{
	struct host_vm *vm = calloc(1, sizeof(*vm));

	assert_non_null(vm);
	vm->h = h;
	vm->id = id;
	vm->vcpus = vcpus;
	vm->guest = host_guest(id);
	for (uint32_t i = 0; i < vcpus; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		vm->near[i] = pair[0];
		vm->far[i] = pair[1];
	}
	vm->next = h->vms;
	h->vms = vm;
	if (!host_remote()) {
		run_here(vm);
	} else {
		proc_actor_start(&h->world, &vm->actor, actor, vm);
		for (uint32_t i = 0; i < vcpus; i++) {
			close(vm->far[i]);
			vm->far[i] = -1;
		}
	}
	for (uint32_t i = 0; i < vcpus; i++) {
		host_begin(vm, i, ORDER(PUPPET_HELLO, 0));
	}
	return vm;
}

void host_vm_ready(struct host_vm *vm)
{
	struct puppet_answer a;

	for (uint32_t i = 0; i < vm->vcpus; i++) {
		assert_int_equal(host_end(vm, i, &a), 0);
		assert_int_equal(a.value[0], vm->id);
	}
}

struct host_vm *host_vm_start(struct host *h, uint32_t id, uint32_t vcpus)
{
	struct host_vm *vm = host_vm_begin(h, id, vcpus);

	host_vm_ready(vm);
	return vm;
}

void host_vm_kill(struct host_vm *vm)
{
	if (host_remote()) {
		proc_actor_kill(&vm->actor, SIGKILL);
		return;
	}
#ifdef IVC_TESTS_VMM
	vmm_stop(vm->vmm);
#endif
	host_far_shut(vm, UINT32_MAX); /* what sleeps in a service wakes up and finds itself stopped */
}

static struct host_end end_of_status(const struct host_vm *vm, int status)
{
	struct host_end end = {HOST_EXITED, (uint32_t)status};

	if (status == 256 + SIGKILL || status == HOST_STATUS_STOPPED) {
		end.kind = HOST_KILLED;
	} else if (status >= 256) {
		/* A process VM that breaks a rule; a guest must not be able to do that to whoever runs it. */
		end.kind = vm->guest ? HOST_FAILED : HOST_CRASHED;
	} else if (status == HOST_STATUS_CRASHED) {
		end.kind = HOST_CRASHED;
	} else if (status > 64) {
		end.kind = HOST_FAILED;
	}
	return end;
}

#ifdef IVC_TESTS_VMM
static struct host_end end_here(struct host_vm *vm)
{
	struct host_end end = {HOST_FAILED, 0};
	struct vmm_end got = {0};

	assert_int_equal(vmm_wait(vm->vmm, HOST_LONG, &got), 0);
	vmm_destroy(vm->vmm);
	end.code = got.code;
	if (got.kind == VMM_EXITED) {
		end.kind = HOST_EXITED;
	} else if (got.kind == VMM_CRASHED) {
		end.kind = HOST_CRASHED;
	} else if (got.kind == VMM_STOPPED) {
		end.kind = HOST_KILLED;
	} else {
		fprintf(stderr, "VM %u: %s\n", vm->id, got.text);
	}
	return end;
}
#else
static struct host_end end_here(struct host_vm *vm)
{
	(void)vm;
	return (struct host_end){HOST_FAILED, 0};
}
#endif

struct host_end host_vm_bury(struct host_vm *vm)
{
	const struct host_end end = host_remote() ? end_of_status(vm, proc_actor_status(&vm->actor)) : end_here(vm);

	forget(vm);
	return end;
}

void host_vm_leave(struct host_vm *vm)
{
	struct host_end end;

	host_begin(vm, 0, ORDER(PUPPET_LEAVE, 0));
	end = host_vm_bury(vm);
	assert_int_equal(end.kind, HOST_EXITED);
	assert_int_equal(end.code, 0);
}

/* ---------------------------------------------------------------------------------------------------------- orders */

void host_begin(struct host_vm *vm, uint32_t vcpu, const struct puppet_order *o)
{
	assert_int_equal(send(vm->near[vcpu], o, sizeof(*o), MSG_NOSIGNAL), sizeof(*o));
}

bool host_ready(struct host_vm *vm, uint32_t vcpu)
{
	struct pollfd p = {.fd = vm->near[vcpu], .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

int64_t host_end(struct host_vm *vm, uint32_t vcpu, struct puppet_answer *a)
{
	struct pollfd p = {.fd = vm->near[vcpu], .events = POLLIN};
	struct puppet_answer got;
	ssize_t n;

	if (poll(&p, 1, HOST_DEADLINE_MS) != 1) {
		fail_msg("VM %u does not answer", vm->id);
	}
	n = recv(vm->near[vcpu], &got, sizeof(got), 0);
	if (n != (ssize_t)sizeof(got)) {
		fail_msg("VM %u has ended instead of an answer", vm->id);
	}
	if (a) {
		*a = got;
	}
	return got.status;
}

int64_t host_do(struct host_vm *vm, const struct puppet_order *o, struct puppet_answer *a)
{
	host_begin(vm, 0, o);
	return host_end(vm, 0, a);
}

void host_stats(struct host_vm *vm, struct puppet_answer *a)
{
	assert_int_equal(host_do(vm, ORDER(PUPPET_SHELL_STATS, 0), a), 0);
}

uint32_t host_id(const struct host_vm *vm)
{
	return vm->id;
}
