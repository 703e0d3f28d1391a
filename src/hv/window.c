/* SPDX-License-Identifier: MIT */
/*
 * A window is built section by section and taken down in reverse. It decides the rights of each member: who may write
 * what is here and nowhere else.
 */
#include "window.h"

#define PARTS_MAX 3

struct part {
	struct ivc_section *section;
	struct ivc_view view;
};

/* The sections that @m sees, in the order in which they lie. */
static uint32_t window_parts(struct ivc_member *m, struct part parts[PARTS_MAX])
{
	struct ivc_chan *chan = m->chan;
	const struct ivc_region_plan *plan = &chan->plan;
	const bool publisher = m->seat == IVC_SEAT_NONE;
	const bool flat = plan->hv_bytes == 0;
	uint32_t n = 0;

	if (!flat) {
		parts[n].section = &chan->hv_page;
		parts[n].view = (struct ivc_view){
			.at = ivc_gpa(m->at),
			.bytes = plan->hv_bytes,
			.access = IVC_READ,
		};
		n++;
	}
	parts[n].section = &chan->data;
	parts[n].view = (struct ivc_view){
		.at = ivc_gpa(m->at + plan->data_at),
		.bytes = plan->data_bytes,
		.access = publisher || flat ? IVC_READ_WRITE : IVC_READ,
	};
	n++;
	if (!publisher && !flat) {
		parts[n].section = &m->section;
		parts[n].view = (struct ivc_view){
			.at = ivc_gpa(m->at + plan->seat_at + m->seat * plan->seat_bytes),
			.bytes = plan->seat_bytes,
			.access = IVC_READ_WRITE,
		};
		n++;
	}
	for (uint32_t i = 0; i < n; i++) {
		parts[i].view.mem = &parts[i].section->mem;
	}
	return n;
}

int ivc_map_status(int err)
{
	switch (err) {
	case 0:
	case IVC_E_NOMEM:
	case IVC_E_NOSPC:
	case IVC_E_OPNOTSUPP:
	case IVC_E_SHUTDOWN:
		return err;
	default:
		return IVC_E_IO;
	}
}

void ivc_section_quarantine(struct ivc_chan *chan, struct ivc_hvm *vm, struct ivc_section *s)
{
	const struct ivc_waiter *waiter = &chan->hv->waiter;

	ivc_lock_take(waiter, &chan->lock);
	s->quarantined = 1;
	ivc_lock_give(&chan->lock);
	(void)ivc_fetch_add_u64(&vm->stats.quarantined, s->mem.bytes);
	ivc_vm_fail(vm);
}

int ivc_window_build(struct ivc_member *m)
{
	const struct ivc_plat_ops *ops = &m->chan->hv->ops;
	struct part parts[PARTS_MAX];
	const uint32_t n = window_parts(m, parts);
	uint32_t done = 0;
	int err = 0;

	while (done < n) {
		err = ops->map(m->vm->host, &parts[done].view);
		if (err != 0) {
			break;
		}
		done++;
	}
	if (err == 0) {
		return 0;
	}
	while (done-- > 0) {
		if (ops->unmap(m->vm->host, &parts[done].view) != 0) {
			ivc_section_quarantine(m->chan, m->vm, parts[done].section);
		}
	}
	return ivc_map_status(err);
}

int ivc_window_remove(struct ivc_member *m, bool closed)
{
	const struct ivc_plat_ops *ops = &m->chan->hv->ops;
	struct part parts[PARTS_MAX];
	uint32_t n = window_parts(m, parts);
	int result = 0;

	while (n-- > 0) {
		if (closed) {
			parts[n].view.mem = NULL;
		}
		if (ops->unmap(m->vm->host, &parts[n].view) == 0) {
			continue;
		}
		result = IVC_E_IO;
		if (closed) {
			ivc_vm_fail(m->vm); /* host memory of the VM's own: nothing of ours to keep from use */
		} else {
			ivc_section_quarantine(m->chan, m->vm, parts[n].section);
		}
	}
	return result;
}

void ivc_window_close(struct ivc_member *m)
{
	const struct ivc_plat_ops *ops = &m->chan->hv->ops;
	struct part parts[PARTS_MAX];
	uint32_t n = window_parts(m, parts);

	while (n-- > 0) {
		if (ops->close(m->vm->host, &parts[n].view) != 0) {
			ivc_section_quarantine(m->chan, m->vm, parts[n].section);
		}
	}
}

void ivc_window_refs_take_locked(struct ivc_member *m)
{
	struct part parts[PARTS_MAX];
	const uint32_t n = window_parts(m, parts);

	for (uint32_t i = 0; i < n; i++) {
		parts[i].section->refs++;
	}
}

void ivc_window_refs_put(struct ivc_member *m)
{
	struct ivc_hv *hv = m->chan->hv;
	struct part parts[PARTS_MAX];
	const uint32_t n = window_parts(m, parts);
	bool last[PARTS_MAX];

	ivc_lock_take(&hv->waiter, &m->chan->lock);
	for (uint32_t i = 0; i < n; i++) {
		last[i] = ivc_section_put_locked(parts[i].section);
	}
	ivc_lock_give(&m->chan->lock);
	for (uint32_t i = 0; i < n; i++) {
		if (last[i]) {
			ivc_section_drop(hv, parts[i].section);
		}
	}
}
