/* SPDX-License-Identifier: MIT */
/*
 * Region memory of a registry in this process: a descriptor, that every view maps for itself, and the core's own
 * mapping where it needs one. It decides whether there may be so much; it does not know who shows it.
 */
#include "../../port/backing.h"
#include "../../port/room.h"
#include "state.h"
#include <ivc/atomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define DESCRIPTORS_KEPT 32u /* of the process' limit, for everything else that it does; as the process host */

/* What the core reads or writes of it: the hv page whole, of a flat region the page with its 16-byte head. */
static uint64_t core_bytes(enum ivc_mem_kind kind, uint64_t bytes)
{
	switch (kind) {
	case IVC_MEM_HV:
		return bytes;
	case IVC_MEM_SHARED:
		return IVC_HV_PAGE_BYTES;
	case IVC_MEM_ONE_WRITER:
	default:
		return 0;
	}
}

uint64_t ivc_kvm_memory_room(uint64_t planned)
{
	return ivc_room_bytes(planned);
}

/* kvm_memory_pay - @bytes that are there anyway: the ceiling may be passed, and then nothing new is made below it. */
void kvm_memory_pay(struct ivc_kvm_memory *memory, uint64_t bytes)
{
	if (memory) {
		(void)ivc_fetch_add_u64(&memory->used, bytes);
	}
}

void kvm_memory_give(struct ivc_kvm_memory *memory, uint64_t bytes)
{
	if (memory) {
		(void)ivc_fetch_sub_u64(&memory->used, bytes);
	}
}

/* kvm_memory_of - the ceiling that @mem counts in; NULL: none, or that of another process. */
struct ivc_kvm_memory *kvm_memory_of(const struct ivc_mem *mem)
{
	return (struct ivc_kvm_memory *)(uintptr_t)mem->host[1];
}

int kvm_mem_new(void *host, uint64_t bytes, enum ivc_mem_kind kind, struct ivc_mem *mem)
{
	const uint64_t mine = core_bytes(kind, bytes);
	struct ivc_kvm_memory *memory = host;
	void *addr = NULL;
	int fd;

	if (memory && !ivc_room_take(&memory->used, memory->limit, bytes)) {
		return IVC_E_NOMEM;
	}
	fd = ivc_backing_new(bytes, DESCRIPTORS_KEPT);
	if (fd < 0) {
		goto no_fd;
	}
	if (mine) {
		addr = mmap(NULL, mine, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (addr == MAP_FAILED) {
			goto no_view;
		}
	}
	*mem = (struct ivc_mem){.addr = addr, .bytes = bytes, .kind = kind, .host = {(uint64_t)fd, (uintptr_t)memory}};
	return 0;

no_view:
	close(fd);
no_fd:
	kvm_memory_give(memory, bytes);
	return IVC_E_NOMEM;
}

void kvm_mem_free(void *host, struct ivc_mem *mem)
{
	(void)host;
	if (mem->addr) {
		munmap(mem->addr, core_bytes(mem->kind, mem->bytes));
	}
	close((int)mem->host[0]);
	kvm_memory_give(kvm_memory_of(mem), mem->bytes);
}
