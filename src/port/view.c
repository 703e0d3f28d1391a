/* SPDX-License-Identifier: MIT */
/*
 * Which sections the VM's window shows, and what they turn into when the registry goes. It decides what is sane to ask
 * of the ops; what is allowed was decided by the registry. Serving thread only.
 */
#include "backing.h"
#include "state.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct port_view *find(struct port *p, uint64_t at, uint64_t bytes)
{
	for (size_t i = 0; i < p->views_now; i++) {
		if (ivc_ranges_meet(p->views[i].at, p->views[i].bytes, at, bytes)) {
			return &p->views[i];
		}
	}
	return NULL;
}

static bool sane(const struct port *p, const struct ivc_wire_view *w)
{
	const uint64_t page = UINT64_C(1) << IVC_GRANULE_LOG_MIN;

	return ivc_range_ok(w->at, w->bytes) && !((w->at | w->bytes) & (page - 1)) && w->at >= p->window &&
	       w->bytes <= p->window_bytes && w->at - p->window <= p->window_bytes - w->bytes &&
	       (w->access == IVC_READ || w->access == IVC_READ_WRITE);
}

static void *show(int fd, uint64_t bytes, int prot)
{
	void *at = ivc_backing_reserve(bytes);

	if (!at) {
		return NULL;
	}
	if (mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		munmap(at, bytes);
		return NULL;
	}
	return at;
}

static void hide(struct port_view *v)
{
	if (v->addr) {
		munmap(v->addr, v->addr_bytes);
		v->addr = NULL;
	}
	v->mem.addr = NULL;
}

static struct ivc_view as_view(const struct port_view *v)
{
	return (struct ivc_view){
		.at = ivc_gpa(v->at),
		.bytes = v->bytes,
		.mem = v->closed ? NULL : &v->mem,
		.access = v->access,
	};
}

/* An op's answer to a request without token. */
static int plain(int err)
{
	return err > 0 ? IVC_E_IO : err;
}

/* A place for one more view, not counted yet. */
static struct port_view *room(struct port *p)
{
	if (p->views_now == p->views_room) {
		const size_t more = p->views_room ? p->views_room * 2 : 16;
		struct port_view *views = realloc(p->views, more * sizeof(*views));

		if (!views) {
			return NULL;
		}
		p->views = views;
		p->views_room = more;
	}
	return &p->views[p->views_now];
}

/* Return: the status for ACK; IVC_E_PROTO: no hypervisor asks this. @fd stays the caller's. */
int port_view_map(struct port *p, const struct ivc_wire_view *w, int fd)
{
	struct port_view *old, *v, next;
	struct ivc_view view;
	int err;

	if (fd == -1 || !sane(p, w) || w->kind < IVC_MEM_HV || w->kind > IVC_MEM_SHARED) {
		return IVC_E_PROTO;
	}
	old = find(p, w->at, w->bytes);
	if (old && (!old->closed || old->at != w->at || old->bytes != w->bytes)) {
		return IVC_E_PROTO;
	}
	if (fd < 0) {
		return IVC_E_NOMEM; /* it was sent, this process has too many open */
	}
	v = old ? old : room(p);
	if (!v) {
		return IVC_E_NOMEM;
	}
	next = (struct port_view){.at = w->at, .bytes = w->bytes, .access = (enum ivc_access)w->access};
	next.mem.bytes = w->bytes;
	next.mem.kind = (enum ivc_mem_kind)w->kind;
	next.mem.host[0] = (uint64_t)fd;
	/* The hv page is also ours to read: of it a copy stays when the registry goes. */
	if (!(p->flags & IVC_PORT_NO_VIEW) || w->kind == IVC_MEM_HV) {
		next.addr_bytes = w->bytes;
		next.addr = show(fd, w->bytes, w->access == IVC_READ ? PROT_READ : PROT_READ | PROT_WRITE);
		if (!next.addr) {
			return IVC_E_NOMEM;
		}
	}
	next.mem.addr = p->flags & IVC_PORT_NO_VIEW ? NULL : next.addr;
	view = as_view(&next);
	err = plain(p->ops->map(p->host, &view));
	if (err) {
		hide(&next);
		return err;
	}
	next.mem.host[0] = UINT64_MAX;
	*v = next;
	p->views_now += !old;
	return 0;
}

int port_view_close(struct port *p, const struct ivc_wire_view *w)
{
	struct port_view *v = sane(p, w) ? find(p, w->at, w->bytes) : NULL;
	struct ivc_view view;
	int err;

	if (!v || v->closed || v->at != w->at || v->bytes != w->bytes) {
		return IVC_E_PROTO;
	}
	view = as_view(v);
	err = plain(p->ops->close(p->host, &view));
	if (!err) {
		v->closed = true;
		hide(v);
	}
	return err;
}

static int unmap(struct port *p, struct port_view *v)
{
	const struct ivc_view view = as_view(v);
	const int err = plain(p->ops->unmap(p->host, &view));

	if (!err) {
		hide(v);
		*v = p->views[--p->views_now];
	}
	return err;
}

int port_view_unmap(struct port *p, const struct ivc_wire_view *w)
{
	struct port_view *v = sane(p, w) ? find(p, w->at, w->bytes) : NULL;

	if (!v || v->at != w->at || v->bytes != w->bytes) {
		return IVC_E_PROTO;
	}
	return unmap(p, v);
}

/*
 * A private copy of the hv page @from in state REVOKED; its descriptor in *@fd, or -1. Return: NULL: none can be made.
 */
static void *revoked_copy(const void *from, uint64_t bytes, bool want_fd, int *fd)
{
	const uint64_t *page = from;
	struct ivc_hv_page head;
	uint64_t *to;

	*fd = want_fd ? memfd_create("ivc-revoked", MFD_CLOEXEC) : -1;
	if (want_fd && (*fd < 0 || ftruncate(*fd, (off_t)bytes))) {
		goto fail;
	}
	to = mmap(NULL, bytes, PROT_READ | PROT_WRITE, want_fd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, *fd, 0);
	if (to == MAP_FAILED) {
		goto fail;
	}
	/* Whoever wrote the page may still be alive: word by word. */
	for (size_t i = 0; i < IVC_HV_PAGE_BYTES / sizeof(*to); i++) {
		to[i] = ivc_load_relaxed_u64(&page[i]);
	}
	memcpy(&head, to, sizeof(head));
	head.state = IVC_CHANNEL_REVOKED;
	head.sequence &= ~1u;
	memcpy(to, &head, sizeof(head));
	mprotect(to, bytes, PROT_READ);
	return to;
fail:
	if (*fd >= 0) {
		close(*fd);
	}
	return NULL;
}

static void view_revoke(struct port *p, struct port_view *v)
{
	const bool want_fd = (p->flags & IVC_PORT_NO_VIEW) != 0;
	struct ivc_view view = as_view(v);
	void *copy;
	int fd;

	copy = revoked_copy(v->addr, v->bytes, want_fd, &fd);
	if (p->ops->close(p->host, &view)) {
		goto out;
	}
	hide(v);
	v->closed = true;
	if (!copy) {
		return;
	}
	v->mem.addr = want_fd ? NULL : copy;
	v->mem.host[0] = want_fd ? (uint64_t)fd : UINT64_MAX;
	view.mem = &v->mem;
	if (!p->ops->map(p->host, &view)) {
		v->closed = false;
		v->addr = copy;
		v->addr_bytes = v->bytes;
		copy = NULL;
	}
	v->mem.host[0] = UINT64_MAX;
out:
	if (copy) {
		munmap(copy, v->bytes);
	}
	if (fd >= 0) {
		close(fd);
	}
}

/* port_views_revoke - the registry is gone: nobody will write its pages again, so they say REVOKED from here on. */
void port_views_revoke(struct port *p)
{
	for (size_t i = 0; i < p->views_now; i++) {
		struct port_view *v = &p->views[i];

		if (v->mem.kind == IVC_MEM_HV && !v->closed) {
			view_revoke(p, v);
		}
	}
}

/* port_views_end - the window becomes a hole. Return: nothing is shown any more. */
bool port_views_end(struct port *p)
{
	bool all = true;

	while (p->views_now) {
		if (unmap(p, &p->views[p->views_now - 1])) {
			p->views_now--; /* the op keeps it; so does our mapping below it */
			all = false;
		}
	}
	free(p->views);
	p->views = NULL;
	p->views_room = 0;
	return all;
}
