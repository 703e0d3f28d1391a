/* SPDX-License-Identifier: MIT */
/*
 * RAM and window of a process VM. In the window every address is always backed: by a section, by memory of our own
 * where one was taken away, else by zeros that can only be read. It decides the protection of each page; it knows no
 * channel.
 */
#include "state.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OWN (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

/* Address space for @bytes, 2 MiB aligned, and so placed that GPA and address agree in their low 21 bits. */
static uint8_t *reserve(uint64_t bytes, uint64_t gpa)
{
	const uint64_t skew = gpa & (IVC_HUGE_BYTES - 1);
	const uint64_t room = bytes + 2 * IVC_HUGE_BYTES;
	uintptr_t base, at;

	base = (uintptr_t)mmap(NULL, room, PROT_READ, OWN, -1, 0);
	if (base == (uintptr_t)MAP_FAILED) {
		return NULL;
	}
	at = ((base + IVC_HUGE_BYTES - 1) & ~(uintptr_t)(IVC_HUGE_BYTES - 1)) + skew;
	if (at != base) {
		munmap((void *)base, at - base);
	}
	munmap((void *)(at + bytes), base + room - (at + bytes));
	return (uint8_t *)at;
}

int connect_memory_new(struct connection *c)
{
	void *ram = mmap(NULL, c->ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED) {
		return IVC_E_NOMEM;
	}
	c->window_at = reserve(c->window_bytes, c->window);
	if (!c->window_at) {
		munmap(ram, c->ram_bytes);
		return IVC_E_NOMEM;
	}
	c->ram = ram;
	return 0;
}

void connect_memory_free(struct connection *c)
{
	if (c->ram) {
		munmap(c->ram, c->ram_bytes);
		munmap(c->window_at, c->window_bytes);
		c->ram = NULL;
		c->window_at = NULL;
	}
}

static void *at_of(const struct connection *c, const struct ivc_view *view)
{
	return c->window_at + (view->at.v - c->window);
}

/*
 * One step, no gap, under running vCPUs. Not mmap(): a race detector takes that for a store to the whole range, and
 * here the guest's threads are free to look at any moment.
 */
static int replace(void *at, uint64_t bytes, int prot, int flags, int fd)
{
	return syscall(SYS_mmap, at, bytes, (long)prot, (long)(flags | MAP_FIXED), (long)fd, 0L) == -1 ? IVC_E_NOMEM
												       : 0;
}

int connect_map(void *os, const struct ivc_view *view)
{
	const int prot = view->access == IVC_READ ? PROT_READ : PROT_READ | PROT_WRITE;

	return replace(at_of(os, view), view->bytes, prot, MAP_SHARED, (int)view->mem->host[0]);
}

/* Zeros: the state word of a hv page that is zero means REVOKED. */
int connect_close(void *os, const struct ivc_view *view)
{
	const int prot = view->access == IVC_READ ? PROT_READ : PROT_READ | PROT_WRITE;

	return replace(at_of(os, view), view->bytes, prot, OWN, -1);
}

int connect_unmap(void *os, const struct ivc_view *view)
{
	return replace(at_of(os, view), view->bytes, PROT_READ, OWN, -1);
}

void *connect_slot_get(void *os, void *vcpu, ivc_gpa_t at, uint32_t bytes)
{
	const struct connection *c = os;

	(void)vcpu;
	return at.v < c->ram_bytes && bytes <= c->ram_bytes - at.v ? c->ram + at.v : NULL;
}

void *connect_env_map(void *os, ivc_gpa_t at, uint64_t bytes, bool write)
{
	const struct connection *c = os;

	(void)write;
	if (at.v >= c->window && at.v - c->window < c->window_bytes && bytes <= c->window_bytes - (at.v - c->window)) {
		return c->window_at + (at.v - c->window);
	}
	return connect_slot_get(os, NULL, at, 0) && bytes <= c->ram_bytes - at.v ? c->ram + at.v : NULL;
}
