/* SPDX-License-Identifier: MIT */
/*
 * Region memory as memfds: filled before anyone has them, sealed so that nobody can take a page away, and sealed
 * against writing before a reader gets one. It decides who pays for a descriptor; it does not know who maps what.
 */
#include "../../port/backing.h"
#include "../../port/room.h"
#include "state.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

struct proc_account *proc_account_new(void)
{
	struct proc_account *account = calloc(1, sizeof(*account));

	if (account) {
		account->refs = 1;
	}
	return account;
}

void proc_account_drop(struct proc_account *account)
{
	if (account && ivc_fetch_sub_u32(&account->refs, 1) == 1) {
		free(account);
	}
}

static bool level_take(volatile uint32_t *level, uint32_t n, uint32_t most)
{
	uint32_t now = ivc_load_relaxed_u32(level);

	do {
		if (n > most || now > most - n) {
			return false;
		}
	} while (!ivc_compare_exchange_u32(level, &now, now + n));
	return true;
}

/* proc_fds_take - @n descriptors within the quota of @account (NULL: nobody's) and without touching the reserve. */
bool proc_fds_take(struct ivc_proc *proc, struct proc_account *account, uint32_t n)
{
	if (account && !level_take(&account->fds, n, proc->limits.vm_fds)) {
		return false;
	}
	if (!level_take(&proc->fds, n, proc->limits.fds)) {
		if (account) {
			ivc_fetch_sub_u32(&account->fds, n);
		}
		return false;
	}
	return true;
}

void proc_fds_give(struct ivc_proc *proc, struct proc_account *account, uint32_t n)
{
	ivc_fetch_sub_u32(&proc->fds, n);
	if (account) {
		ivc_fetch_sub_u32(&account->fds, n);
	}
}

/* proc_mem_seal - from here on nobody can map or write @mem for writing; existing mappings go on. */
bool proc_mem_seal(struct proc_mem *mem)
{
	if (fcntl(mem->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)) {
		return false;
	}
	ivc_store_release_u32(&mem->sealed, 1);
	return true;
}

int proc_mem_new(void *host, uint64_t bytes, enum ivc_mem_kind kind, struct ivc_mem *mem)
{
	struct ivc_proc *proc = host;
	const struct proc_self *self = pthread_getspecific(proc->self);
	struct proc_mem *m = calloc(1, sizeof(*m));

	if (!m || bytes > INT64_MAX) {
		goto no_record;
	}
	m->account = self ? self->account : NULL;
	m->kind = kind;
	if (!proc_fds_take(proc, m->account, 1)) {
		goto no_record;
	}
	if (!ivc_room_take(&proc->bytes, proc->limits.bytes, bytes)) {
		goto no_bytes;
	}
	m->bytes = bytes;
	m->fd = ivc_backing_new(bytes, 0);
	if (m->fd < 0) {
		goto no_fd;
	}
	if (kind != IVC_MEM_ONE_WRITER) {
		/* The hv page whole; of a flat region only the page with its 16-byte head. */
		m->addr_bytes = kind == IVC_MEM_HV ? bytes : IVC_HV_PAGE_BYTES;
		m->addr = mmap(NULL, m->addr_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
		if (m->addr == MAP_FAILED) {
			goto no_view;
		}
	}
	if (kind == IVC_MEM_HV && !proc_mem_seal(m)) {
		goto no_seal;
	}
	if (m->account) {
		ivc_fetch_add_u32(&m->account->refs, 1);
	}
	pthread_mutex_lock(&proc->mem_lock);
	m->next = proc->mems;
	if (m->next) {
		m->next->prev = m;
	}
	proc->mems = m;
	pthread_mutex_unlock(&proc->mem_lock);
	ivc_fetch_add_u32(&proc->memfds, 1);
	*mem = (struct ivc_mem){.addr = m->addr, .bytes = bytes, .kind = kind, .host = {(uintptr_t)m, 0}};
	return 0;

no_seal:
	munmap(m->addr, m->addr_bytes);
no_view:
	close(m->fd);
no_fd:
	ivc_fetch_sub_u64(&proc->bytes, bytes);
no_bytes:
	proc_fds_give(proc, m->account, 1);
no_record:
	free(m);
	return IVC_E_NOMEM;
}

/* Unlinked from proc->mems already. */
static void mem_end(struct ivc_proc *proc, struct proc_mem *m)
{
	if (m->addr) {
		munmap(m->addr, m->addr_bytes);
	}
	/* The pages go when the last process has let go of them; they never come back to us. */
	close(m->fd);
	ivc_fetch_sub_u64(&proc->bytes, m->bytes);
	proc_fds_give(proc, m->account, 1);
	proc_account_drop(m->account);
	ivc_fetch_sub_u32(&proc->memfds, 1);
	free(m);
}

void proc_mem_free(void *host, struct ivc_mem *mem)
{
	struct ivc_proc *proc = host;
	struct proc_mem *m = (struct proc_mem *)(uintptr_t)mem->host[0];

	pthread_mutex_lock(&proc->mem_lock);
	if (m->prev) {
		m->prev->next = m->next;
	} else {
		proc->mems = m->next;
	}
	if (m->next) {
		m->next->prev = m->prev;
	}
	pthread_mutex_unlock(&proc->mem_lock);
	mem_end(proc, m);
}

/* proc_mem_free_all - what the core has quarantined goes too when the registry is no more. */
void proc_mem_free_all(struct ivc_proc *proc)
{
	while (proc->mems) {
		struct proc_mem *m = proc->mems;

		proc->mems = m->next;
		mem_end(proc, m);
	}
}
