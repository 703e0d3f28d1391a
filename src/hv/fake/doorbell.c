/* SPDX-License-Identifier: MIT */
/*
 * Op doorbell over a table per VM, and a guest's store to its doorbell page. It decides what is a breach of the op's
 * contract; it knows nothing of channels.
 */
#include "state.h"

#include <ivc/abi.h>
#include <ivc/atomic.h>

#include <stdlib.h>

/* The direct bell that takes @value, or NULL. VM lock held. */
static struct fake_direct *direct_at(struct ivc_fake_vm *vm, uint32_t value)
{
	for (uint32_t i = 0; i < vm->directs; i++) {
		if (vm->direct[i].value == value) {
			return &vm->direct[i];
		}
	}
	return NULL;
}

static int direct_add(struct ivc_fake_vm *vm, uint32_t value, struct ivc_fake_vm *to)
{
	if (vm->directs == vm->directs_room) {
		const uint32_t room = vm->directs_room ? 2 * vm->directs_room : 16;
		struct fake_direct *grown = realloc(vm->direct, room * sizeof(*grown));

		if (!grown) {
			return IVC_E_NOMEM;
		}
		vm->direct = grown;
		vm->directs_room = room;
	}
	vm->direct[vm->directs++] = (struct fake_direct){.to = to, .value = value};
	(void)ivc_fetch_add_u32(&vm->fake->directs, 1);
	return 0;
}

int ivc_fake_op_doorbell_(void *host_from, uint32_t value, void *host_to, bool on)
{
	struct ivc_fake_vm *from = host_from;
	struct ivc_fake_vm *to = host_to;
	struct ivc_fake *fake = from->fake;
	const enum ivc_fake_op op = on ? IVC_FAKE_DOORBELL : IVC_FAKE_DOORBELL_OFF;
	struct ivc_fake_entry entry = {.op = op, .vm = from->id, .at = value, .mem = to->id};
	int err = ivc_fake_op_begin_(fake, op, from);
	struct fake_direct *have;

	if (ivc_load_acquire_u32(&to->retired)) {
		ivc_fake_violation_(fake, "doorbell: rings a VM that was detached", to->id);
	}
	pthread_mutex_lock(&from->lock);
	have = direct_at(from, value);
	if (on) {
		if (have || from == to) {
			ivc_fake_violation_(fake, "doorbell: on twice, or to itself", value);
		}
		if (err == 0 && ivc_load_acquire_u32(&from->dead)) {
			err = IVC_E_SHUTDOWN;
		}
		if (err == 0) {
			err = direct_add(from, value, to);
		}
	} else if (!have || have->to != to) {
		ivc_fake_violation_(fake, "doorbell: off without on", value);
	} else {
		*have = from->direct[--from->directs];
		(void)ivc_fetch_sub_u32(&fake->directs, 1);
	}
	pthread_mutex_unlock(&from->lock);
	entry.result = err;
	ivc_fake_op_end_(fake, &entry);
	return err;
}

bool ivc_fake_doorbell_to(struct ivc_fake_vm *vm, uint32_t value, uint32_t *to)
{
	struct fake_direct *have;

	pthread_mutex_lock(&vm->lock);
	have = direct_at(vm, value);
	if (have) {
		*to = have->to->id;
	}
	pthread_mutex_unlock(&vm->lock);
	return have != NULL;
}

bool ivc_fake_doorbell(struct ivc_fake_vm *vm, uint32_t value)
{
	struct fake_direct *have;

	pthread_mutex_lock(&vm->lock);
	have = direct_at(vm, value);
	if (have) {
		if (ivc_load_acquire_u32(&have->to->retired)) {
			ivc_fake_violation_(vm->fake, "a direct bell rings a VM that was detached", have->to->id);
		}
		(void)ivc_fetch_add_u32(&have->to->bells, 1);
	}
	pthread_mutex_unlock(&vm->lock);
	return have != NULL;
}

uint32_t ivc_fake_doorbells(struct ivc_fake *fake, const struct ivc_fake_vm *vm)
{
	uint32_t count = 0;

	if (!vm) {
		return ivc_load_acquire_u32(&fake->directs);
	}
	for (uint32_t i = 0; i < fake->vms; i++) {
		struct ivc_fake_vm *from = fake->vm[i];

		pthread_mutex_lock(&from->lock);
		for (uint32_t k = 0; k < from->directs; k++) {
			count += from == vm || from->direct[k].to == vm;
		}
		pthread_mutex_unlock(&from->lock);
	}
	return count;
}
