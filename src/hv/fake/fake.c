/* SPDX-License-Identifier: MIT */
/*
 * The side of the fake host that tests see: making it, a guest's accesses, what was recorded, what shall go wrong. It
 * implements no op and knows nothing of channels.
 */
#define _DEFAULT_SOURCE
#include "state.h"

#include <ivc/abi.h>
#include <ivc/atomic.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REVOKED_AT 104u /* offset of the channel state in a closed read-only page */

struct ivc_fake *ivc_fake_create(uint32_t granule_log2, uint32_t flags)
{
	struct ivc_fake *fake = calloc(1, sizeof(*fake));

	if (!fake) {
		return NULL;
	}
	fake->granule = UINT64_C(1) << granule_log2;
	fake->flags = flags;
	fake->live.next = &fake->live;
	fake->live.prev = &fake->live;
	(void)pthread_mutex_init(&fake->lock, NULL);
	return fake;
}

static void vm_free(struct ivc_fake_vm *vm)
{
	for (uint32_t i = 0; i < vm->rams; i++) {
		free(vm->ram[i].bytes);
	}
	for (uint32_t i = 0; i < vm->views; i++) {
		free(vm->view[i].own);
	}
	(void)pthread_mutex_destroy(&vm->lock);
	free(vm->ram);
	free(vm->view);
	free(vm->direct);
	free(vm);
}

void ivc_fake_destroy(struct ivc_fake *fake)
{
	if (!fake) {
		return;
	}
	for (uint32_t i = 0; i < FAKE_GRAVES; i++) {
		if (fake->grave[i]) {
			ivc_fake_mem_end_(fake, fake->grave[i]);
		}
	}
	while (fake->live.next != &fake->live) {
		struct fake_mem *mem = fake->live.next;

		fake->live.next = mem->next;
		ivc_fake_mem_end_(fake, mem);
	}
	for (uint32_t i = 0; i < fake->vms; i++) {
		vm_free(fake->vm[i]);
	}
	(void)pthread_mutex_destroy(&fake->lock);
	free(fake);
}

struct ivc_fake_vm *ivc_fake_vm_new(struct ivc_fake *fake, uint32_t id, uint64_t window, uint64_t window_bytes,
				    const struct ivc_fake_ram *ram, uint32_t rams)
{
	struct ivc_fake_vm *vm;

	if (fake->vms == FAKE_VMS) {
		return NULL;
	}
	vm = calloc(1, sizeof(*vm));
	if (!vm) {
		return NULL;
	}
	(void)pthread_mutex_init(&vm->lock, NULL);
	vm->fake = fake;
	vm->id = id;
	vm->window = window;
	vm->window_bytes = window_bytes;
	vm->ram = calloc(rams ? rams : 1, sizeof(*vm->ram));
	for (uint32_t i = 0; vm->ram && i < rams; i++) {
		vm->ram[i].at = ram[i];
		vm->ram[i].read_only = ram[i].read_only;
		vm->ram[i].bytes = calloc(1, (size_t)ram[i].bytes);
		vm->rams++;
		if (!vm->ram[i].bytes) {
			break;
		}
	}
	if (!vm->ram || vm->rams != rams || (rams && !vm->ram[rams - 1].bytes)) {
		vm_free(vm);
		return NULL;
	}
	for (uint32_t i = 0; i < IVC_FAKE_VCPUS; i++) {
		vm->vcpu[i].vm = vm;
		vm->vcpu[i].index = i;
	}
	fake->vm[fake->vms++] = vm;
	return vm;
}

void ivc_fake_ram_protect(struct ivc_fake_vm *vm, uint32_t index, bool read_only)
{
	pthread_mutex_lock(&vm->lock);
	if (index < vm->rams) {
		ivc_store_release_u32(&vm->ram[index].read_only, read_only);
	}
	pthread_mutex_unlock(&vm->lock);
}

void ivc_fake_vm_kill(struct ivc_fake_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	ivc_store_release_u32(&vm->dead, 1);
	for (uint32_t i = 0; i < vm->views; i++) {
		if (vm->view[i].mem) {
			ivc_fake_shown_drop_(vm->fake, vm->view[i].mem);
		}
		free(vm->view[i].own);
	}
	vm->views = 0;
	for (uint32_t i = 0; i < vm->laters; i++) {
		struct fake_later *later = &vm->later[i];

		if (!later->overtaken && !later->closes) {
			ivc_fake_shown_drop_(vm->fake, later->view.mem);
		}
		later->overtaken = true;
	}
	pthread_mutex_unlock(&vm->lock);
}

void ivc_fake_vm_retire(struct ivc_fake_vm *vm)
{
	ivc_store_release_u32(&vm->retired, 1);
}

struct ivc_fake_vcpu *ivc_fake_vcpu(struct ivc_fake_vm *vm, uint32_t index)
{
	return &vm->vcpu[index % IVC_FAKE_VCPUS];
}

bool ivc_fake_unpark_wait(struct ivc_fake_vcpu *vcpu, uint32_t seen, uint32_t ms)
{
	enum {
		SPINS = 2000
	};
	const struct timespec nap = {.tv_nsec = 100000};

	for (uint32_t spent = 0; ivc_load_acquire_u32(&vcpu->unparks) == seen; spent++) {
		if (spent < SPINS) {
			ivc_cpu_relax();
			continue;
		}
		if ((spent - SPINS) / 10 >= ms) {
			return false;
		}
		(void)nanosleep(&nap, NULL);
	}
	return true;
}

/* Guest accesses. Atomic, as a vCPU's are. */

static uint64_t word_load(const void *at, uint32_t bytes)
{
	switch (bytes) {
	case 1:
		return ivc_load_relaxed_u8(at);
	case 2:
		return ivc_load_relaxed_u16(at);
	case 4:
		return ivc_load_relaxed_u32(at);
	default:
		return ivc_load_relaxed_u64(at);
	}
}

static void word_store(void *at, uint32_t bytes, uint64_t value)
{
	switch (bytes) {
	case 1:
		ivc_store_relaxed_u8(at, (uint8_t)value);
		break;
	case 2:
		ivc_store_relaxed_u16(at, (uint16_t)value);
		break;
	case 4:
		ivc_store_relaxed_u32(at, (uint32_t)value);
		break;
	default:
		ivc_store_relaxed_u64(at, value);
		break;
	}
}

/* What backs an address: NULL is a hole, or a closed page that shows only its state. VM lock held. */
static uint8_t *backing(struct ivc_fake_vm *vm, uint64_t at, uint32_t bytes, bool *writable, bool *closed)
{
	const struct fake_ram *ram = ivc_fake_ram_at_(vm, at, bytes);
	const struct fake_view *view;

	*closed = false;
	*writable = false;
	if (ivc_load_acquire_u32(&vm->dead)) {
		return NULL;
	}
	if (ram) {
		*writable = !ivc_load_acquire_u32(&ram->read_only);
		return ram->bytes + (at - ram->at.at);
	}
	view = ivc_fake_view_at_(vm, at, bytes);
	if (!view || at - view->at > view->bytes - bytes) {
		return NULL;
	}
	*writable = view->access == IVC_READ_WRITE;
	if (view->mem) {
		return (uint8_t *)view->mem->addr + (at - view->at);
	}
	*closed = true;
	return view->own ? view->own + (at - view->at) : NULL;
}

static bool load_locked(struct ivc_fake_vm *vm, uint64_t at, uint32_t bytes, uint64_t *value)
{
	bool writable;
	bool closed;
	const uint8_t *word = backing(vm, at, bytes, &writable, &closed);

	if (word) {
		*value = word_load(word, bytes);
		return true;
	}
	*value = UINT64_MAX;
	if (closed) {
		const struct fake_view *view = ivc_fake_view_at_(vm, at, bytes);
		uint8_t shown[8] = {0};
		uint64_t all;

		if (at - view->at <= REVOKED_AT && REVOKED_AT - (at - view->at) < bytes) {
			shown[REVOKED_AT - (at - view->at)] = (uint8_t)IVC_CHANNEL_REVOKED;
		}
		memcpy(&all, shown, sizeof(all));
		*value = all;
	}
	return closed;
}

static bool store_locked(struct ivc_fake_vm *vm, uint64_t at, uint32_t bytes, uint64_t value)
{
	bool writable;
	bool closed;
	uint8_t *word = backing(vm, at, bytes, &writable, &closed);

	if (!word || !writable) {
		return false;
	}
	word_store(word, bytes, value);
	return true;
}

bool ivc_fake_load(struct ivc_fake_vm *vm, uint64_t at, uint32_t bytes, uint64_t *value)
{
	bool ok;

	pthread_mutex_lock(&vm->lock);
	ok = load_locked(vm, at, bytes, value);
	pthread_mutex_unlock(&vm->lock);
	return ok;
}

bool ivc_fake_store(struct ivc_fake_vm *vm, uint64_t at, uint32_t bytes, uint64_t value)
{
	bool ok;

	pthread_mutex_lock(&vm->lock);
	ok = store_locked(vm, at, bytes, value);
	pthread_mutex_unlock(&vm->lock);
	return ok;
}

bool ivc_fake_fill(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes, uint64_t value)
{
	bool ok = true;

	pthread_mutex_lock(&vm->lock);
	for (uint64_t i = 0; i < bytes; i += 8) {
		ok = store_locked(vm, at + i, 8, value) && ok;
	}
	pthread_mutex_unlock(&vm->lock);
	return ok;
}

bool ivc_fake_filled(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes, uint64_t value)
{
	bool ok = true;

	pthread_mutex_lock(&vm->lock);
	for (uint64_t i = 0; ok && i < bytes; i += 8) {
		uint64_t found;

		ok = load_locked(vm, at + i, 8, &found) && found == value;
	}
	pthread_mutex_unlock(&vm->lock);
	return ok;
}

/* What was asked for. */

uint64_t ivc_fake_count(const struct ivc_fake *fake, enum ivc_fake_op op)
{
	return ivc_load_acquire_u64(&fake->count[op]);
}

uint32_t ivc_fake_bells(const struct ivc_fake_vm *vm)
{
	return ivc_load_acquire_u32(&vm->bells);
}

uint32_t ivc_fake_failed(const struct ivc_fake_vm *vm)
{
	return ivc_load_acquire_u32(&vm->failed);
}

uint64_t ivc_fake_log_count(const struct ivc_fake *fake)
{
	return ivc_load_acquire_u64(&fake->log_count);
}

bool ivc_fake_log_get(const struct ivc_fake *fake, uint64_t index, struct ivc_fake_entry *out)
{
	const uint64_t count = ivc_fake_log_count(fake);

	if (index >= count || count - index > FAKE_LOG_ENTRIES) {
		return false;
	}
	*out = fake->log[index % FAKE_LOG_ENTRIES];
	return true;
}

static int view_order(const void *a, const void *b)
{
	const struct ivc_fake_view *x = a;
	const struct ivc_fake_view *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

uint32_t ivc_fake_views(struct ivc_fake_vm *vm, struct ivc_fake_view *out, uint32_t max)
{
	uint32_t count;
	uint32_t told;

	pthread_mutex_lock(&vm->lock);
	count = vm->views;
	told = count < max ? count : max;
	for (uint32_t i = 0; i < told; i++) {
		const struct fake_view *view = &vm->view[i];

		out[i] = (struct ivc_fake_view){.at = view->at,
						.bytes = view->bytes,
						.mem = view->mem ? view->mem->serial : 0,
						.access = view->access,
						.kind = view->kind,
						.unknown = view->unknown};
	}
	pthread_mutex_unlock(&vm->lock);
	if (told) {
		qsort(out, told, sizeof(*out), view_order);
	}
	return count;
}

uint32_t ivc_fake_mems(struct ivc_fake *fake)
{
	uint32_t mems;

	pthread_mutex_lock(&fake->lock);
	mems = fake->mems;
	pthread_mutex_unlock(&fake->lock);
	return mems;
}

uint64_t ivc_fake_mem_bytes(struct ivc_fake *fake)
{
	uint64_t bytes;

	pthread_mutex_lock(&fake->lock);
	bytes = fake->mem_bytes;
	pthread_mutex_unlock(&fake->lock);
	return bytes;
}

uint32_t ivc_fake_pins(const struct ivc_fake *fake)
{
	return ivc_load_acquire_u32(&fake->pins);
}

uint32_t ivc_fake_violations(const struct ivc_fake *fake, const char **text)
{
	const uint32_t violations = ivc_load_acquire_u32(&fake->violations);

	if (text) {
		*text = violations ? fake->first_violation : "";
	}
	return violations;
}

/* How the host behaves. */

void ivc_fake_fail(struct ivc_fake *fake, enum ivc_fake_op op, uint64_t nth, uint64_t times, int code)
{
	fake->fail_op = op;
	fake->fail_code = code;
	fake->fail_nth = nth;
	fake->fail_times = times;
	fake->fail_vm = NULL;
	ivc_store_release_u64(&fake->fail_seen, 0);
	ivc_store_release_u64(&fake->fail_hits, 0);
}

void ivc_fake_fail_vm(struct ivc_fake *fake, const struct ivc_fake_vm *vm)
{
	fake->fail_vm = vm;
}

uint64_t ivc_fake_fail_hits(const struct ivc_fake *fake)
{
	return ivc_load_acquire_u64(&fake->fail_hits);
}

void ivc_fake_hook(struct ivc_fake *fake, ivc_fake_hook_fn *fn, void *arg)
{
	fake->hook = fn;
	fake->hook_arg = arg;
}

void ivc_fake_later(struct ivc_fake_vm *vm, bool on)
{
	pthread_mutex_lock(&vm->lock);
	vm->answers_later = on;
	pthread_mutex_unlock(&vm->lock);
}

uint32_t ivc_fake_later_count(struct ivc_fake_vm *vm)
{
	uint32_t laters;

	pthread_mutex_lock(&vm->lock);
	laters = vm->laters;
	pthread_mutex_unlock(&vm->lock);
	return laters;
}

bool ivc_fake_later_take(struct ivc_fake_vm *vm, void **token, int *status)
{
	struct fake_later later;
	bool taken = false;

	pthread_mutex_lock(&vm->lock);
	if (vm->laters) {
		taken = true;
		later = vm->later[0];
		memmove(&vm->later[0], &vm->later[1], (vm->laters - 1) * sizeof(later));
		vm->laters--;
		*token = later.token;
		if (later.overtaken) {
			*status = later.closes ? 0 : IVC_E_SHUTDOWN;
		} else if (later.closes) {
			struct fake_view *view = ivc_fake_view_at_(vm, later.view.at, later.view.bytes);

			*status = *status == 0 ? ivc_fake_view_close_(vm, view) : *status;
			view->unknown = *status != 0;
		} else {
			if (*status == 0) {
				*status = ivc_fake_view_put_(vm, &later.view);
			}
			if (*status != 0) {
				ivc_fake_shown_drop_(vm->fake, later.view.mem);
			}
		}
	}
	pthread_mutex_unlock(&vm->lock);
	return taken;
}

void ivc_fake_clock(struct ivc_fake *fake, uint64_t ns)
{
	ivc_store_release_u64(&fake->clock, ns);
}

void ivc_fake_control(struct ivc_fake *fake, int result)
{
	fake->control = result;
}
