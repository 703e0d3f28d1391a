/* SPDX-License-Identifier: MIT */
/*
 * One way to run VMs for tests, whatever the host: a host is started, VMs in it get orders (puppet.h) and die in many ways,
 * and at the end everything must be given back. It decides how a VM is run; it knows no channel.
 *
 *	process   the registry is a process, each VM is a process that is a VM by itself
 *	kvm       registry and VMs in the test process, guests on /dev/kvm
 *	port      the registry is a process, each VM is a process with one guest on /dev/kvm
 *	mixed     the same with both: odd ids are guests, even ids are processes by themselves
 *
 * The main thread of the test alone uses it, because it asserts.
 */
#ifndef IVC_TESTS_HOST_H
#define IVC_TESTS_HOST_H

#include "proc_world.h"
#include "puppet.h"
#include "run.h"

#define HOST_DEADLINE_MS 40000
#define HOST_LONG        UINT64_C(30000000000) /* a timeout in ns that is never reached by what works */
#define HOST_VCPUS       4u

enum host_kind {
	HOST_PROCESS,
	HOST_KVM,
	HOST_PORT,
	HOST_MIXED
};

enum host_end_kind {
	HOST_EXITED, /* code */
	HOST_CRASHED,
	HOST_KILLED,
	HOST_FAILED /* its hypervisor is gone, or gave it up */
};

struct host_end {
	enum host_end_kind kind;
	uint32_t code;
};

/* A race detector makes processes slow to begin and to end: a machine whose times say nothing. */
#ifdef __SANITIZE_THREAD__
#define HOST_SLOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HOST_SLOW 1
#endif
#endif
#ifndef HOST_SLOW
#define HOST_SLOW 0
#endif

struct host;
struct host_vm;

/**
 * host_main - runs @tests for the host that argv[1] names, for each of them without. Where a host cannot run here, that is
 * said; 77 when none could.
 */
int host_main(int argc, char **argv, const char *topic, const struct CMUnitTest *tests, size_t count);

/** host_is - the kind that the tests run for now. */
enum host_kind host_is(void);

/** host_start - one of that kind. host_stop: asserts that everything is given back, and ends it. */
struct host *host_start(void);
void host_stop(struct host *h);

/** host_settled - what is held is what was held at the start: registry, descriptors, threads. Asserts. */
void host_settled(struct host *h);

/** host_remote - the registry is in another process. host_lose: kills that. */
bool host_remote(void);
void host_lose(struct host *h);

/** host_guest - VM @id would be a guest on KVM. */
bool host_guest(uint32_t id);

/** host_vm_start - a VM that waits for orders; @vcpus: 1 to HOST_VCPUS. */
struct host_vm *host_vm_start(struct host *h, uint32_t id, uint32_t vcpus);

/** host_vm_begin, host_vm_ready - the same in two steps, so that many come up at once. */
struct host_vm *host_vm_begin(struct host *h, uint32_t id, uint32_t vcpus);
void host_vm_ready(struct host_vm *vm);

/** host_vm_kill - its end from outside, at once. It is still to be buried. */
void host_vm_kill(struct host_vm *vm);

/** host_vm_bury - waits for its end and forgets it. Return: how it ended. */
struct host_end host_vm_bury(struct host_vm *vm);

/** host_vm_leave - it closes its channels and ends; asserts that it ended well. */
void host_vm_leave(struct host_vm *vm);

/** ORDER - for host_do() and host_begin(). At least one argument. */
#define ORDER(op, ...) (&(const struct puppet_order){(op), {__VA_ARGS__}})

/** host_do - vCPU 0 carries the order out; asserts that the answer comes. @a: NULL: not wanted. Return: its status. */
int64_t host_do(struct host_vm *vm, const struct puppet_order *o, struct puppet_answer *a);

/** host_begin, host_end - the same in two steps: others act meanwhile. host_ready: the answer is there. */
void host_begin(struct host_vm *vm, uint32_t vcpu, const struct puppet_order *o);
int64_t host_end(struct host_vm *vm, uint32_t vcpu, struct puppet_answer *a);
bool host_ready(struct host_vm *vm, uint32_t vcpu);

/** host_stats - PUPPET_SHELL_STATS, by whoever runs the VM. */
void host_stats(struct host_vm *vm, struct puppet_answer *a);

/** host_id - of the VM. */
uint32_t host_id(const struct host_vm *vm);

#endif
