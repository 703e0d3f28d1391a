/* SPDX-License-Identifier: MIT */
/*
 * The VM's window: each section is a mapping of its own in this process with a memory slot over it. What a slot shows
 * is changed below it: a new mapping is made elsewhere and moved to the place in one mremap. KVM's mmu notifiers take every
 * page of the old memory from the vCPUs before that returns. It decides which number a slot gets; it knows no channel.
 */
#include "../../port/backing.h"
#include "state.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int status_of(int err)
{
	switch (err) {
	case ENOMEM:
	case EAGAIN:
		return IVC_E_NOMEM;
	case ENOSPC:
		return IVC_E_NOSPC;
	default:
		return IVC_E_IO;
	}
}

/* Where in kvm->order the first view is that ends behind @at. */
static uint32_t place(const struct ivc_kvm *kvm, uint64_t at)
{
	uint32_t low = 0;
	uint32_t high = kvm->views_now;

	while (low < high) {
		const uint32_t mid = low + (high - low) / 2;
		const struct kvm_view *v = &kvm->view[kvm->order[mid]];

		if (v->at + (v->bytes - 1) < at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

/* What lies at @p and shares an address with @view, or NULL. */
static struct kvm_view *meeting(struct ivc_kvm *kvm, uint32_t p, const struct ivc_view *view)
{
	struct kvm_view *v = p < kvm->views_now ? &kvm->view[kvm->order[p]] : NULL;

	return v && ivc_ranges_meet(v->at, v->bytes, view->at.v, view->bytes) ? v : NULL;
}

static bool same_range(const struct kvm_view *v, const struct ivc_view *view)
{
	return v && v->at == view->at.v && v->bytes == view->bytes;
}

static int protection(const struct kvm_view *v)
{
	return v->access == IVC_READ ? PROT_READ : PROT_READ | PROT_WRITE;
}

/*
 * A mapping for @v: of the memory behind @fd, or for -1 zeroed memory of nobody else, of which only what the VM writes takes
 * memory. At @at, or anywhere. Return: NULL: none, errno says why.
 */
static void *mapping(const struct kvm_view *v, int fd, void *at)
{
	const int flags = (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED) | (at ? MAP_FIXED : 0);
	void *p = mmap(at, v->bytes, protection(v), flags, fd, 0);

	if (p == MAP_FAILED) {
		return NULL;
	}
	/* A child of fork() has no use for it, and would keep it when the VM has left. */
	(void)madvise(p, v->bytes, MADV_DONTFORK);
	return p;
}

/* The descriptor behind a section, -1 where there is none. */
static int descriptor(const struct ivc_view *view)
{
	return view->mem->host[0] <= INT_MAX ? (int)view->mem->host[0] : -1;
}

/* The slot with number @n over its view; @bytes 0 deletes it. */
static int slot_set(const struct ivc_kvm *kvm, uint32_t n, uint64_t bytes)
{
	const struct kvm_view *v = &kvm->view[n];
	const struct kvm_userspace_memory_region slot = {
		.slot = kvm->config.slot_first + n,
		.flags = v->access == IVC_READ ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = v->at,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)v->addr,
	};
	int err;

	if (kvm->config.set_slot) {
		err = kvm->config.set_slot(kvm->config.vm, &slot);
		return err ? status_of(-err) : 0;
	}
	return ioctl(kvm->config.vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) ? status_of(errno) : 0;
}

/* A new view, at @p of the order. */
static int add(struct ivc_kvm *kvm, uint32_t p, const struct ivc_view *view)
{
	struct kvm_view *v;
	uint32_t n;
	int err;

	if (descriptor(view) < 0) {
		return IVC_E_IO;
	}
	if (kvm->views_now == kvm->config.slot_count) {
		return IVC_E_NOSPC;
	}
	n = kvm->order[kvm->views_now];
	v = &kvm->view[n];
	*v = (struct kvm_view){.at = view->at.v, .bytes = view->bytes, .access = view->access};
	v->addr = ivc_backing_reserve(view->bytes);
	if (!v->addr) {
		return IVC_E_NOMEM;
	}
	err = mapping(v, descriptor(view), v->addr) ? slot_set(kvm, n, v->bytes) : status_of(errno);
	if (err) {
		munmap(v->addr, v->bytes);
		return err;
	}
	memmove(&kvm->order[p + 1], &kvm->order[p], (kvm->views_now - p) * sizeof(*kvm->order));
	kvm->order[p] = n;
	kvm->views_now++;
	return 0;
}

/* The slot of @v goes at once, so that no vCPU reaches what is below it; where that fails, the next op tries again. */
static void give_up(const struct ivc_kvm *kvm, struct kvm_view *v)
{
	if (!v->no_slot && !slot_set(kvm, (uint32_t)(v - kvm->view), 0)) {
		v->no_slot = true;
	}
}

/*
 * Other memory under the slot of @v, in one step. What can fail comes first, and changes nothing. Should the step itself fail,
 * what was there may be gone, and the next mapping of this process may come to lie in its place.
 * Return: 0; IVC_E_NOMEM: as before; IVC_E_IO: lost.
 */
static int swap(const struct ivc_kvm *kvm, struct kvm_view *v, int fd)
{
	void *next;

	if (v->lost || v->no_slot) {
		give_up(kvm, v);
		return IVC_E_IO;
	}
	next = mapping(v, fd, NULL);
	if (!next) {
		return status_of(errno);
	}
	if (mremap(next, v->bytes, v->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, v->addr) == MAP_FAILED) {
		munmap(next, v->bytes);
		v->lost = true;
		give_up(kvm, v);
		return IVC_E_IO;
	}
	return 0;
}

/* Fresh memory under the slot of a closed view. A slot cannot change its rights without a gap. */
static int reopen(const struct ivc_kvm *kvm, struct kvm_view *v, const struct ivc_view *view)
{
	int err;

	if (!v->closed || !same_range(v, view) || descriptor(view) < 0) {
		return IVC_E_IO;
	}
	if (v->access != view->access) {
		return IVC_E_OPNOTSUPP;
	}
	err = swap(kvm, v, descriptor(view));
	if (err) {
		return err;
	}
	v->closed = false;
	kvm_memory_give(v->paid, v->bytes);
	v->paid = NULL;
	return 0;
}

int kvm_map(void *vm, const struct ivc_view *view)
{
	struct ivc_kvm *kvm = vm;
	struct kvm_view *v;
	uint32_t p;
	int err;

	pthread_mutex_lock(&kvm->lock);
	p = place(kvm, view->at.v);
	v = meeting(kvm, p, view);
	err = v ? reopen(kvm, v, view) : add(kvm, p, view);
	pthread_mutex_unlock(&kvm->lock);
	return err;
}

int kvm_close(void *vm, const struct ivc_view *view)
{
	struct ivc_kvm *kvm = vm;
	struct kvm_view *v;
	int err = IVC_E_IO;

	pthread_mutex_lock(&kvm->lock);
	v = meeting(kvm, place(kvm, view->at.v), view);
	if (same_range(v, view)) {
		err = swap(kvm, v, -1);
		if (err) {
			/* The memory must not be reached any more, even at the price of a gap. */
			give_up(kvm, v);
			err = IVC_E_IO;
		} else if (!v->closed) {
			v->closed = true;
			/* Private pages now, which the VM fills as it likes. */
			v->paid = v->access == IVC_READ ? NULL : kvm_memory_of(view->mem);
			kvm_memory_pay(v->paid, v->bytes);
		}
	}
	pthread_mutex_unlock(&kvm->lock);
	return err;
}

/* The mapping goes after the slot: until then the vCPU has memory there, from then on an exit. */
static int take_out(struct ivc_kvm *kvm, uint32_t p)
{
	const uint32_t n = kvm->order[p];
	struct kvm_view *v = &kvm->view[n];
	const int err = v->no_slot ? 0 : slot_set(kvm, n, 0);

	if (err) {
		return err;
	}
	if (!v->lost) {
		munmap(v->addr, v->bytes);
	}
	kvm_memory_give(v->paid, v->bytes);
	kvm->views_now--;
	memmove(&kvm->order[p], &kvm->order[p + 1], (kvm->views_now - p) * sizeof(*kvm->order));
	kvm->order[kvm->views_now] = n;
	return 0;
}

int kvm_unmap(void *vm, const struct ivc_view *view)
{
	struct ivc_kvm *kvm = vm;
	int err = IVC_E_IO;
	uint32_t p;

	pthread_mutex_lock(&kvm->lock);
	p = place(kvm, view->at.v);
	if (same_range(meeting(kvm, p, view), view)) {
		err = take_out(kvm, p);
	}
	pthread_mutex_unlock(&kvm->lock);
	return err;
}

/*
 * kvm_views_end - what failed ops have left behind. Below a slot that cannot be deleted the mapping stays for good: the
 * guest may still run, and would see whatever this process maps there next.
 */
void kvm_views_end(struct ivc_kvm *kvm)
{
	while (kvm->views_now) {
		if (take_out(kvm, kvm->views_now - 1)) {
			kvm->views_now--;
		}
	}
}

uint32_t ivc_kvm_views(struct ivc_kvm *kvm)
{
	uint32_t n;

	pthread_mutex_lock(&kvm->lock);
	n = kvm->views_now;
	pthread_mutex_unlock(&kvm->lock);
	return n;
}
