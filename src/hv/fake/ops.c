/* SPDX-License-Identifier: MIT */
/*
 * The ops over arrays: memory with serial numbers, windows as tables of views, faults by count. It decides what is a
 * breach of platform.h; it does not know why the core asks for anything.
 */
#define _DEFAULT_SOURCE
#include "state.h"

#include <ivc/abi.h>
#include <ivc/atomic.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define CANARY_MAX (UINT64_C(1) << 20) /* of larger memory only this much is filled */

static _Thread_local uint32_t depth;

uint32_t ivc_fake_depth(void)
{
	return depth;
}

void ivc_fake_violation_(struct ivc_fake *fake, const char *what, uint64_t at)
{
	if (ivc_fetch_add_u32(&fake->violations, 1) == 0) {
		(void)snprintf(fake->first_violation, sizeof(fake->first_violation), "%s (0x%llx)", what,
			       (unsigned long long)at);
	}
}

/* Every op begins here. Return: the code that it shall fail with, or 0. */
int ivc_fake_op_begin_(struct ivc_fake *fake, enum ivc_fake_op op, struct ivc_fake_vm *vm)
{
	int code = 0;

	depth++;
	(void)ivc_fetch_add_u64(&fake->count[op], 1);
	if (vm && ivc_load_acquire_u32(&vm->retired)) {
		ivc_fake_violation_(fake, "an op names a VM that was detached", vm->id);
	}
	if (fake->hook) {
		fake->hook(fake->hook_arg, op, vm);
	}
	if (op >= IVC_FAKE_MEM_FREE) {
		return 0;
	}
	(void)ivc_fetch_add_u64(&fake->count[IVC_FAKE_ANY], 1);
	if (fake->fail_times && (fake->fail_op == IVC_FAKE_ANY || fake->fail_op == op) &&
	    (!fake->fail_vm || fake->fail_vm == vm)) {
		const uint64_t seen = ivc_fetch_add_u64(&fake->fail_seen, 1) + 1;

		if (seen >= fake->fail_nth && seen - fake->fail_nth < fake->fail_times) {
			(void)ivc_fetch_add_u64(&fake->fail_hits, 1);
			code = fake->fail_code;
		}
	}
	return code;
}

/* ... and ends here. */
void ivc_fake_op_end_(struct ivc_fake *fake, const struct ivc_fake_entry *entry)
{
	depth--;
	if (!(fake->flags & IVC_FAKE_QUIET)) {
		fake->log[ivc_fetch_add_u64(&fake->log_count, 1) % FAKE_LOG_ENTRIES] = *entry;
	}
}

/* Memory. */

static uint64_t canary_bytes(const struct ivc_fake *fake, const struct fake_mem *mem)
{
	if (fake->flags & IVC_FAKE_QUIET) {
		return 0;
	}
	return mem->bytes < CANARY_MAX ? mem->bytes : CANARY_MAX;
}

/* Zeroed memory, aligned as mem_new promises; large pieces cost pages only when they are touched. */
static void *pages_new(uint64_t bytes, uint64_t granule)
{
	const uint64_t align = bytes >= IVC_HUGE_BYTES ? IVC_HUGE_BYTES : granule;
	uint8_t *base;
	uint64_t skip;
	void *small = NULL;

	if (bytes < IVC_HUGE_BYTES) {
		if (posix_memalign(&small, (size_t)align, (size_t)bytes) != 0) {
			return NULL;
		}
		memset(small, FAKE_CANARY, 64); /* zeroing must not rest on luck */
		memset(small, 0, (size_t)bytes);
		return small;
	}
	base = mmap(NULL, (size_t)(bytes + align), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	if (base == MAP_FAILED) {
		return NULL;
	}
	skip = (align - ((uint64_t)(uintptr_t)base & (align - 1))) & (align - 1);
	if (skip) {
		(void)munmap(base, (size_t)skip);
	}
	if (align - skip) {
		(void)munmap(base + skip + bytes, (size_t)(align - skip));
	}
	return base + skip;
}

static void pages_free(void *addr, uint64_t bytes)
{
	if (bytes < IVC_HUGE_BYTES) {
		free(addr);
	} else {
		(void)munmap(addr, (size_t)bytes);
	}
}

/* Ends a grave: whoever wrote to it after mem_free is a violation. */
void ivc_fake_mem_end_(struct ivc_fake *fake, struct fake_mem *mem)
{
	const uint64_t bytes = canary_bytes(fake, mem);
	const uint8_t *at = mem->addr;

	for (uint64_t i = 0; i < bytes; i++) {
		if (at[i] != FAKE_CANARY) {
			ivc_fake_violation_(fake, "memory was written after mem_free", mem->serial);
			break;
		}
	}
	pages_free(mem->addr, mem->bytes);
	free(mem);
}

static struct fake_mem *mem_of(const struct ivc_mem *mem)
{
	return (struct fake_mem *)(uintptr_t)mem->host[0]; /* what op_mem_new stored there */
}

static int op_mem_new(void *host, uint64_t bytes, enum ivc_mem_kind kind, struct ivc_mem *out)
{
	struct ivc_fake *fake = host;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_MEM_NEW, .bytes = bytes};
	struct fake_mem *mem = NULL;
	int err = ivc_fake_op_begin_(fake, IVC_FAKE_MEM_NEW, NULL);

	if (bytes == 0 || bytes % fake->granule) {
		ivc_fake_violation_(fake, "mem_new: not whole granules", bytes);
	}
	if (err == 0) {
		mem = calloc(1, sizeof(*mem));
		err = mem ? 0 : IVC_E_NOMEM;
	}
	if (err == 0) {
		mem->addr = pages_new(bytes, fake->granule);
		err = mem->addr ? 0 : IVC_E_NOMEM;
	}
	if (err == 0) {
		mem->bytes = bytes;
		mem->kind = kind;
		pthread_mutex_lock(&fake->lock);
		mem->serial = ++fake->serial;
		mem->next = fake->live.next;
		mem->prev = &fake->live;
		mem->next->prev = mem;
		fake->live.next = mem;
		fake->mems++;
		fake->mem_bytes += bytes;
		pthread_mutex_unlock(&fake->lock);
		*out = (struct ivc_mem){.addr = mem->addr,
					.bytes = bytes,
					.kind = kind,
					.host = {(uint64_t)(uintptr_t)mem, mem->serial}};
		entry.mem = mem->serial;
	} else {
		free(mem);
	}
	entry.result = err;
	ivc_fake_op_end_(fake, &entry);
	return err;
}

static void op_mem_free(void *host, struct ivc_mem *out)
{
	struct ivc_fake *fake = host;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_MEM_FREE, .bytes = out->bytes, .mem = out->host[1]};
	struct fake_mem *mem = mem_of(out);
	struct fake_mem *old = NULL;

	(void)ivc_fake_op_begin_(fake, IVC_FAKE_MEM_FREE, NULL);
	pthread_mutex_lock(&fake->lock);
	if (!mem || mem->freed || mem->serial != out->host[1]) {
		ivc_fake_violation_(fake, "mem_free: not live", out->host[1]);
	} else {
		if (mem->shown) {
			ivc_fake_violation_(fake, "mem_free: a window shows it", mem->serial);
		}
		mem->freed = true;
		mem->next->prev = mem->prev;
		mem->prev->next = mem->next;
		fake->mems--;
		fake->mem_bytes -= mem->bytes;
		memset(mem->addr, FAKE_CANARY, (size_t)canary_bytes(fake, mem));
		old = fake->grave[fake->buried % FAKE_GRAVES];
		fake->grave[fake->buried++ % FAKE_GRAVES] = mem;
	}
	pthread_mutex_unlock(&fake->lock);
	if (old) {
		ivc_fake_mem_end_(fake, old);
	}
	ivc_fake_op_end_(fake, &entry);
}

/* Windows. */

/* The view that meets [at, at + bytes), or NULL. VM lock held, as for the next ones. */
struct fake_view *ivc_fake_view_at_(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes)
{
	for (uint32_t i = 0; i < vm->views; i++) {
		if (ivc_ranges_meet(vm->view[i].at, vm->view[i].bytes, at, bytes)) {
			return &vm->view[i];
		}
	}
	return NULL;
}

static bool view_is(const struct fake_view *have, const struct ivc_view *want)
{
	return have && have->at == want->at.v && have->bytes == want->bytes;
}

void ivc_fake_shown_drop_(struct ivc_fake *fake, struct fake_mem *mem)
{
	if (mem) {
		pthread_mutex_lock(&fake->lock);
		mem->shown--;
		pthread_mutex_unlock(&fake->lock);
	}
}

static void view_remove(struct ivc_fake_vm *vm, struct fake_view *view)
{
	ivc_fake_shown_drop_(vm->fake, view->mem);
	free(view->own);
	*view = vm->view[--vm->views];
}

/* Puts @view in, also over a closed one of the same range. Its memory is counted as shown already. */
int ivc_fake_view_put_(struct ivc_fake_vm *vm, const struct fake_view *view)
{
	struct fake_view *have = ivc_fake_view_at_(vm, view->at, view->bytes);

	if (have) {
		free(have->own);
		*have = *view;
		return 0;
	}
	if (vm->views == vm->views_room) {
		const uint32_t room = vm->views_room ? 2 * vm->views_room : 16;
		struct fake_view *grown = realloc(vm->view, room * sizeof(*grown));

		if (!grown) {
			return IVC_E_NOMEM;
		}
		vm->view = grown;
		vm->views_room = room;
	}
	vm->view[vm->views++] = *view;
	return 0;
}

int ivc_fake_view_close_(struct ivc_fake_vm *vm, struct fake_view *view)
{
	uint8_t *own = NULL;

	if (view->access == IVC_READ_WRITE) {
		own = calloc(1, (size_t)view->bytes);
		if (!own) {
			return IVC_E_NOMEM;
		}
	}
	ivc_fake_shown_drop_(vm->fake, view->mem);
	view->mem = NULL;
	view->own = own;
	return 0;
}

/* An unmap, or the VM's end: what is pending for this range has no effect any more. */
static void later_overtake(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes)
{
	for (uint32_t i = 0; i < vm->laters; i++) {
		struct fake_later *later = &vm->later[i];

		if (!later->overtaken && ivc_ranges_meet(later->view.at, later->view.bytes, at, bytes)) {
			later->overtaken = true;
			if (!later->closes) {
				ivc_fake_shown_drop_(vm->fake, later->view.mem);
			}
		}
	}
}

static bool later_pending(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes)
{
	for (uint32_t i = 0; i < vm->laters; i++) {
		if (!vm->later[i].overtaken &&
		    ivc_ranges_meet(vm->later[i].view.at, vm->later[i].view.bytes, at, bytes)) {
			return true;
		}
	}
	return false;
}

static void later_add(struct ivc_fake_vm *vm, const struct fake_view *view, void *token, bool closes)
{
	vm->later[vm->laters++] = (struct fake_later){.view = *view, .token = token, .closes = closes};
}

static void view_check(struct ivc_fake_vm *vm, const struct ivc_view *view, const char *what)
{
	const uint64_t align = view->bytes >= IVC_HUGE_BYTES ? IVC_HUGE_BYTES : vm->fake->granule;

	if (!ivc_range_ok(view->at.v, view->bytes) || view->bytes % vm->fake->granule || view->at.v % align) {
		ivc_fake_violation_(vm->fake, what, view->at.v);
	}
	if (view->at.v < vm->window || view->at.v - vm->window > vm->window_bytes ||
	    view->bytes > vm->window_bytes - (view->at.v - vm->window)) {
		ivc_fake_violation_(vm->fake, "a view leaves the window", view->at.v);
	}
	if (view->access != IVC_READ && view->access != IVC_READ_WRITE) {
		ivc_fake_violation_(vm->fake, "a view without access", view->at.v);
	}
}

/* Rights of each kind of memory; counts it as shown. */
static void mem_show(struct ivc_fake *fake, const struct ivc_view *view)
{
	struct fake_mem *mem = mem_of(view->mem);
	const bool writes = view->access == IVC_READ_WRITE;

	pthread_mutex_lock(&fake->lock);
	if (mem->freed || mem->serial != view->mem->host[1]) {
		ivc_fake_violation_(fake, "map: memory is not live", view->at.v);
	}
	if (view->bytes != mem->bytes) {
		ivc_fake_violation_(fake, "map: not the whole memory", view->at.v);
	}
	if (mem->kind == IVC_MEM_HV && writes) {
		ivc_fake_violation_(fake, "map: an hv page is writable", view->at.v);
	}
	if (mem->kind == IVC_MEM_ONE_WRITER && writes == mem->mapped) {
		ivc_fake_violation_(fake, "map: not exactly the first window of a section writes", view->at.v);
	}
	if (mem->kind == IVC_MEM_SHARED && !writes) {
		ivc_fake_violation_(fake, "map: a flat region is read-only", view->at.v);
	}
	mem->mapped = true;
	mem->shown++;
	pthread_mutex_unlock(&fake->lock);
}

static int op_map(void *host_vm, const struct ivc_view *view)
{
	struct ivc_fake_vm *vm = host_vm;
	struct ivc_fake *fake = vm->fake;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_MAP,
				       .vm = vm->id,
				       .at = view->at.v,
				       .bytes = view->bytes,
				       .mem = view->mem->host[1],
				       .access = view->access};
	const struct fake_view shown = {.at = view->at.v,
					.bytes = view->bytes,
					.mem = mem_of(view->mem),
					.access = view->access,
					.kind = view->mem->kind};
	int err = ivc_fake_op_begin_(fake, IVC_FAKE_MAP, vm);
	struct fake_view *have;

	pthread_mutex_lock(&vm->lock);
	view_check(vm, view, "map: range");
	have = ivc_fake_view_at_(vm, view->at.v, view->bytes);
	if (have && have->mem) {
		ivc_fake_violation_(fake, "map: the range shows memory already", view->at.v);
	} else if (have && !view_is(have, view)) {
		ivc_fake_violation_(fake, "map: not the range that was closed", view->at.v);
	}
	if (later_pending(vm, view->at.v, view->bytes)) {
		ivc_fake_violation_(fake, "map: the range has an op under way", view->at.v);
	}
	if (err == 0 && ivc_load_acquire_u32(&vm->dead)) {
		err = IVC_E_SHUTDOWN;
	}
	if (err == 0) {
		mem_show(fake, view);
		if (view->token && vm->answers_later && vm->laters < FAKE_LATERS) {
			later_add(vm, &shown, view->token, false);
			err = IVC_LATER;
		} else {
			err = ivc_fake_view_put_(vm, &shown);
			if (err) {
				ivc_fake_shown_drop_(fake, shown.mem);
			}
		}
	}
	pthread_mutex_unlock(&vm->lock);
	entry.result = err;
	ivc_fake_op_end_(fake, &entry);
	return err;
}

static int op_close(void *host_vm, const struct ivc_view *view)
{
	struct ivc_fake_vm *vm = host_vm;
	struct ivc_fake *fake = vm->fake;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_CLOSE,
				       .vm = vm->id,
				       .at = view->at.v,
				       .bytes = view->bytes,
				       .mem = view->mem ? view->mem->host[1] : 0,
				       .access = view->access};
	int err = ivc_fake_op_begin_(fake, IVC_FAKE_CLOSE, vm);
	struct fake_view *have;

	pthread_mutex_lock(&vm->lock);
	view_check(vm, view, "close: range");
	have = ivc_fake_view_at_(vm, view->at.v, view->bytes);
	if (ivc_load_acquire_u32(&vm->dead)) {
		err = 0; /* gone with the address space */
	} else if (!view_is(have, view) || !have->mem || !view->mem || have->mem != mem_of(view->mem) ||
		   have->access != view->access) {
		ivc_fake_violation_(fake, "close: not a view that shows this memory", view->at.v);
	} else if (err == 0 && view->token && vm->answers_later && vm->laters < FAKE_LATERS) {
		later_add(vm, have, view->token, true);
		err = IVC_LATER;
	} else {
		err = err == 0 ? ivc_fake_view_close_(vm, have) : err;
		have->unknown = err != 0;
	}
	pthread_mutex_unlock(&vm->lock);
	entry.result = err;
	ivc_fake_op_end_(fake, &entry);
	return err;
}

static int op_unmap(void *host_vm, const struct ivc_view *view)
{
	struct ivc_fake_vm *vm = host_vm;
	struct ivc_fake *fake = vm->fake;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_UNMAP,
				       .vm = vm->id,
				       .at = view->at.v,
				       .bytes = view->bytes,
				       .mem = view->mem ? view->mem->host[1] : 0,
				       .access = view->access};
	int err = ivc_fake_op_begin_(fake, IVC_FAKE_UNMAP, vm);
	struct fake_view *have;

	pthread_mutex_lock(&vm->lock);
	view_check(vm, view, "unmap: range");
	have = ivc_fake_view_at_(vm, view->at.v, view->bytes);
	if (ivc_load_acquire_u32(&vm->dead)) {
		err = 0;
	} else if (!have && later_pending(vm, view->at.v, view->bytes)) {
		if (err == 0) {
			later_overtake(vm, view->at.v, view->bytes);
		}
	} else if (!view_is(have, view)) {
		ivc_fake_violation_(fake, "unmap: no such view", view->at.v);
	} else if (!have->unknown &&
		   ((view->mem ? mem_of(view->mem) : NULL) != have->mem || view->access != have->access)) {
		ivc_fake_violation_(fake, "unmap: the view shows something else", view->at.v);
	} else if (err == 0) {
		later_overtake(vm, view->at.v, view->bytes);
		view_remove(vm, have);
	} else {
		have->unknown = true;
	}
	pthread_mutex_unlock(&vm->lock);
	entry.result = err;
	ivc_fake_op_end_(fake, &entry);
	return err;
}

/* Slots. */

struct fake_ram *ivc_fake_ram_at_(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes)
{
	for (uint32_t i = 0; i < vm->rams; i++) {
		const struct ivc_fake_ram *ram = &vm->ram[i].at;

		if (at >= ram->at && at - ram->at < ram->bytes && bytes <= ram->bytes - (at - ram->at)) {
			return &vm->ram[i];
		}
	}
	return NULL;
}

static void *op_slot_get(void *host_vm, void *vcpu, ivc_gpa_t at, uint32_t bytes)
{
	struct ivc_fake_vm *vm = host_vm;
	struct ivc_fake *fake = vm->fake;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_SLOT_GET, .vm = vm->id, .at = at.v, .bytes = bytes};
	const struct ivc_fake_vcpu *cpu = vcpu;
	const struct fake_ram *ram;
	void *slot = NULL;
	const int err = ivc_fake_op_begin_(fake, IVC_FAKE_SLOT_GET, vm);

	if (at.v % 8 || (bytes != 8 && bytes != 64) || !ivc_range_ok(at.v, bytes)) {
		ivc_fake_violation_(fake, "slot_get: not a slot", at.v);
	} else if (ivc_ranges_meet(at.v, bytes, vm->window, vm->window_bytes)) {
		ivc_fake_violation_(fake, "slot_get: inside the window", at.v);
	}
	if (!cpu || cpu->vm != vm) {
		ivc_fake_violation_(fake, "slot_get: not a vCPU of this VM", at.v);
	}
	ram = ivc_fake_ram_at_(vm, at.v, bytes);
	if (err == 0 && ram && !ivc_load_acquire_u32(&ram->read_only) && !ivc_load_acquire_u32(&vm->dead)) {
		slot = ram->bytes + (at.v - ram->at.at);
		(void)ivc_fetch_add_u32(&fake->pins, 1);
	}
	entry.result = slot ? 0 : IVC_E_FAULT;
	ivc_fake_op_end_(fake, &entry);
	return slot;
}

static void op_slot_put(void *host_vm, void *vcpu, ivc_gpa_t at, void *slot)
{
	struct ivc_fake_vm *vm = host_vm;
	struct ivc_fake *fake = vm->fake;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_SLOT_PUT, .vm = vm->id, .at = at.v};
	const struct fake_ram *ram = ivc_fake_ram_at_(vm, at.v, 8);

	(void)vcpu;
	(void)ivc_fake_op_begin_(fake, IVC_FAKE_SLOT_PUT, vm);
	if (!ram || slot != ram->bytes + (at.v - ram->at.at)) {
		ivc_fake_violation_(fake, "slot_put: not what slot_get gave", at.v);
	}
	if (ivc_fetch_sub_u32(&fake->pins, 1) == 0) {
		ivc_fake_violation_(fake, "slot_put: nothing is held", at.v);
	}
	ivc_fake_op_end_(fake, &entry);
}

/* Events and services. */

static void op_bell(void *host_vm, ivc_handle_t handle)
{
	struct ivc_fake_vm *vm = host_vm;
	const struct ivc_fake_entry entry = {.op = IVC_FAKE_BELL, .vm = vm->id, .at = handle.v};

	(void)ivc_fake_op_begin_(vm->fake, IVC_FAKE_BELL, vm);
	(void)ivc_fetch_add_u32(&vm->bells, 1);
	ivc_fake_op_end_(vm->fake, &entry);
}

static void op_unpark(void *host_vm, void *vcpu)
{
	struct ivc_fake_vm *vm = host_vm;
	struct ivc_fake_vcpu *cpu = vcpu;
	const struct ivc_fake_entry entry = {.op = IVC_FAKE_UNPARK, .vm = vm->id, .at = cpu->index};

	(void)ivc_fake_op_begin_(vm->fake, IVC_FAKE_UNPARK, vm);
	if (cpu->vm != vm) {
		ivc_fake_violation_(vm->fake, "unpark: not a vCPU of this VM", vm->id);
	}
	(void)ivc_fetch_add_u32(&cpu->unparks, 1);
	ivc_fake_op_end_(vm->fake, &entry);
}

static void op_barrier(void *host)
{
	const struct ivc_fake_entry entry = {.op = IVC_FAKE_BARRIER};

	(void)ivc_fake_op_begin_(host, IVC_FAKE_BARRIER, NULL);
	ivc_fence_full();
	ivc_fake_op_end_(host, &entry);
}

static void op_relax(void *host)
{
	struct ivc_fake *fake = host;

	(void)ivc_fake_op_begin_(fake, IVC_FAKE_RELAX, NULL); /* not recorded: there may be millions */
	depth--;
	(void)sched_yield();
}

static uint64_t op_now_ns(void *host)
{
	struct ivc_fake *fake = host;
	const uint64_t set = ivc_load_acquire_u64(&fake->clock);
	struct timespec now;

	if (set) {
		return set;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void op_failed(void *host_vm)
{
	struct ivc_fake_vm *vm = host_vm;
	const struct ivc_fake_entry entry = {.op = IVC_FAKE_FAILED, .vm = vm->id};

	(void)ivc_fake_op_begin_(vm->fake, IVC_FAKE_FAILED, vm);
	(void)ivc_fetch_add_u32(&vm->failed, 1);
	ivc_fake_op_end_(vm->fake, &entry);
}

static void op_log(void *host, int level, const char *text)
{
	const struct ivc_fake_entry entry = {.op = IVC_FAKE_LOG, .at = (uint64_t)strlen(text), .result = level};

	(void)ivc_fake_op_begin_(host, IVC_FAKE_LOG, NULL);
	ivc_fake_op_end_(host, &entry);
}

static int op_control(void *host_vm, uint64_t nr, uint64_t op, uint64_t arg)
{
	struct ivc_fake_vm *vm = host_vm;
	struct ivc_fake_entry entry = {.op = IVC_FAKE_CONTROL, .vm = vm->id, .at = nr, .bytes = op, .mem = arg};
	int err = ivc_fake_op_begin_(vm->fake, IVC_FAKE_CONTROL, vm);

	if (err == 0) {
		err = vm->fake->control;
	}
	entry.result = err;
	ivc_fake_op_end_(vm->fake, &entry);
	return err;
}

const struct ivc_plat_ops *ivc_fake_ops(void)
{
	static const struct ivc_plat_ops ops = {
		.size = sizeof(ops),
		.mem_new = op_mem_new,
		.mem_free = op_mem_free,
		.map = op_map,
		.close = op_close,
		.unmap = op_unmap,
		.slot_get = op_slot_get,
		.slot_put = op_slot_put,
		.bell = op_bell,
		.unpark = op_unpark,
		.barrier = op_barrier,
		.relax = op_relax,
		.now_ns = op_now_ns,
		.failed = op_failed,
		.log = op_log,
		.control = op_control,
		.doorbell = ivc_fake_op_doorbell_,
	};

	return &ops;
}
