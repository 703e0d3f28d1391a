/* SPDX-License-Identifier: MIT */
/*
 * A VM of the demo that is a virtual machine: a guest without an operating system, in ring 3, that asks whoever runs
 * it for its next order. It decides nothing of the order of things, and knows the file only by what lies in its RAM.
 */
#include "tools/demo_order.h"

#include <ivc/atomic.h>
#include <ivc/bare.h>

#define WRITES 1000u /* forbidden ones */
#define PROBES 100u  /* of addresses where nothing is */

static struct {
	const struct ivc_machine *machine;
	struct demo_vm vm;
	struct ivc_guest way; /* to the hypervisor, as the machine has it; vm.g goes through it and is watched */
	struct demo_answer answer;
	uint64_t calls;
	uint64_t progress;
} self;

static int64_t trap(void *os, const struct ivc_regs *regs)
{
	const uint64_t *arg = regs->arg;
	const int64_t result = ivc_call(&self.way, regs->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);

	(void)os;
	self.calls++;
	demo_note(&self.vm, regs->nr, arg, result);
	return result;
}

int demo_env_connect(struct demo_vm *vm, struct demo_answer *a)
{
	struct ivc_env env = *ivc_bare_env();
	struct ivc_guest_facts facts;
	int err;

	if (!env.now_ns) {
		return IVC_E_OPNOTSUPP; /* nobody tells the rate of the time stamp counter */
	}
	if (vm->work_bytes < demo_work_bytes(vm->born.data_bytes)) {
		return IVC_E_NOMEM;
	}
	err = ivc_guest_init(&self.way, &env);
	env.trap = trap;
	if (!err) {
		err = ivc_guest_init(&vm->g, &env);
	}
	if (!err) {
		ivc_guest_info(&vm->g, &facts);
		a->ram_bytes = self.machine->ram_bytes;
		a->window = facts.window.v;
		a->window_bytes = facts.window_bytes;
		a->vcpus = self.machine->vcpus;
	}
	return err;
}

uint64_t demo_env_calls(struct demo_vm *vm)
{
	(void)vm;
	return self.calls;
}

void *demo_env_at(struct demo_vm *vm, ivc_gpa_t at)
{
	(void)vm;
	return (void *)(uintptr_t)at.v;
}

uint64_t demo_env_now(void)
{
	return ivc_bare_now_ns();
}

void demo_env_nap(uint64_t ns)
{
	(void)ivc_bare_service(DEMO_SERVICE_NAP, NULL, ns);
}

void demo_env_turn(const struct demo_vm *vm)
{
	if (vm->born.alone) {
		ivc_cpu_relax();
	} else {
		demo_env_nap(0); /* one CPU for both: let the other one run */
	}
}

int64_t demo_env_read(struct demo_vm *vm, uint8_t *block, uint64_t room)
{
	(void)vm;
	return ivc_bare_service(DEMO_SERVICE_READ, block, room);
}

int demo_env_hash(struct demo_vm *vm, const uint8_t *block, uint64_t bytes)
{
	(void)vm;
	return (int)ivc_bare_service(DEMO_SERVICE_HASH, (void *)(uintptr_t)block, bytes);
}

int demo_env_digest(struct demo_vm *vm, uint8_t digest[DEMO_DIGEST_BYTES])
{
	(void)vm;
	return (int)ivc_bare_service(DEMO_SERVICE_DIGEST, digest, DEMO_DIGEST_BYTES);
}

void demo_env_progress(struct demo_vm *vm, uint64_t messages)
{
	(void)vm;
	ivc_store_relaxed_u64(&self.progress, messages);
}

/* By trying: a load, a store of something else, a load. What it stored is taken back. */
void demo_env_rights(struct demo_vm *vm, const volatile uint8_t *at, uint64_t bytes, char rights[4])
{
	volatile uint64_t *word = (volatile uint64_t *)((uintptr_t)at + bytes / 2);
	const uint64_t before = ivc_load_relaxed_u64(word);
	uint64_t after;

	(void)vm;
	ivc_store_relaxed_u64(word, ~before);
	after = ivc_load_relaxed_u64(word);
	if (after == ~before) {
		ivc_store_relaxed_u64(word, before);
	}
	rights[0] = before == UINT64_MAX && after == UINT64_MAX ? '-' : 'r';
	rights[1] = after == ~before ? 'w' : '-';
}

int demo_env_forbidden(struct demo_vm *vm, const volatile uint8_t *section, uint64_t bytes,
		       const volatile uint8_t *hole, struct demo_answer *a)
{
	volatile uint64_t *word = (volatile uint64_t *)(uintptr_t)section;
	volatile uint64_t *nothing = (volatile uint64_t *)(uintptr_t)hole;
	const uint64_t words = bytes / sizeof(*word);

	(void)vm;
	for (uint64_t i = 0; i < WRITES; i++) {
		volatile uint64_t *at = &word[i * words / WRITES];

		ivc_store_relaxed_u64(at, ~ivc_load_relaxed_u64(at)); /* the load is allowed, the store is not */
		a->tried++;
	}
	for (uint64_t i = 0; i < PROBES; i++) {
		ivc_store_relaxed_u64(&nothing[i], i);
		a->probed_ones += ivc_load_relaxed_u64(&nothing[i]) == UINT64_MAX;
		a->probed++;
	}
	return 0;
}

int demo_env_answer(struct demo_vm *vm, const struct demo_answer *a)
{
	(void)vm;
	return (int)ivc_bare_service(DEMO_SERVICE_ANSWER, (void *)(uintptr_t)a, sizeof(*a));
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	struct demo_vm *vm = &self.vm;
	int64_t order = 0;

	(void)vcpu;
	self.machine = m;
	vm->work = (uint8_t *)(uintptr_t)m->ram_free;
	vm->work_bytes = m->ram_stacks - m->ram_free;
	if (ivc_bare_service(DEMO_SERVICE_BORN, &vm->born, sizeof(vm->born)) != 0) {
		return 1;
	}
	while (order != DEMO_QUIT) {
		order = ivc_bare_service(DEMO_SERVICE_NEXT, &self.progress, sizeof(self.progress));
		if (order < 0) {
			return 1;
		}
		if (order == DEMO_CRASH) {
			__builtin_trap();
		}
		memset(&self.answer, 0, sizeof(self.answer));
		self.answer.order = (uint32_t)order;
		if (order != DEMO_QUIT) {
			demo_obey(vm, &self.answer);
		}
		if (demo_env_answer(vm, &self.answer) != 0) {
			return 1;
		}
	}
	return 0;
}
