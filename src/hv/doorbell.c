/* SPDX-License-Identifier: MIT */
/*
 * Direct bells between a publisher and one seat, as long as the publisher's view of the seat is mapped. It decides who may
 * be rung without the core; it never rings.
 */
#include "chan.h"

/* The publisher rings the seat, the seat rings the publisher: bits of ivc_member.direct. */
#define DIRECT_DOWN 1u
#define DIRECT_UP   2u

static uint32_t value_down(const struct ivc_member *m)
{
	return m->chan->record.index << IVC_DOORBELL_INDEX_SHIFT | m->seat;
}

static uint32_t value_up(const struct ivc_member *m)
{
	return m->chan->record.index << IVC_DOORBELL_INDEX_SHIFT | IVC_DOORBELL_ALL;
}

/* One that never sleeps is never rung; one without a vector hears no interrupt. */
static bool wanted(const struct ivc_member *from, const struct ivc_member *to)
{
	return to->sleeps && from->vm->config.doorbell != 0 && to->vm->config.vector != 0;
}

/* Whether an earlier sitting of the same VM is still there: its UP has the same value. Context: channel lock. */
static bool sits_twice_locked(const struct ivc_member *m)
{
	const struct ivc_chan *chan = m->chan;

	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		const struct ivc_member *other = ivc_chan_seat_get(chan, seat);

		if (other != NULL && other != m && other->vm == m->vm) {
			return true;
		}
	}
	return false;
}

/* Which bells are of use: none if the seat will not turn ACTIVE. */
static uint32_t useful(const struct ivc_member *m)
{
	struct ivc_chan *chan = m->chan;
	uint32_t bells = 0;

	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	if (m->state == IVC_MEMBER_ACTIVE && chan->state == IVC_CHANNEL_LIVE && !chan->view_stop) {
		bells = sits_twice_locked(m) ? DIRECT_DOWN : DIRECT_DOWN | DIRECT_UP;
	}
	ivc_lock_give(&chan->lock);
	return ivc_vm_alive(m->vm) && ivc_vm_alive(chan->publisher.vm) ? bells : 0;
}

uint32_t ivc_doorbell_on(struct ivc_member *m)
{
	const struct ivc_plat_ops *ops = &m->chan->hv->ops;
	const struct ivc_member *publisher = &m->chan->publisher;
	const uint32_t bells = ops->doorbell == NULL ? 0 : useful(m);
	uint32_t direct = 0;

	/* What fails stays a matter of ivc_hv_doorbell(): slower, and nothing else. */
	if ((bells & DIRECT_DOWN) != 0 && wanted(publisher, m) &&
	    ops->doorbell(publisher->vm->host, value_down(m), m->vm->host, true) == 0) {
		direct |= DIRECT_DOWN;
	}
	if ((bells & DIRECT_UP) != 0 && wanted(m, publisher) &&
	    ops->doorbell(m->vm->host, value_up(m), publisher->vm->host, true) == 0) {
		direct |= DIRECT_UP;
	}
	return direct;
}

void ivc_doorbell_off(struct ivc_member *m)
{
	const struct ivc_plat_ops *ops = &m->chan->hv->ops;
	const struct ivc_member *publisher = &m->chan->publisher;
	const uint32_t direct = m->direct;

	m->direct = 0;
	if ((direct & DIRECT_UP) != 0) {
		(void)ops->doorbell(m->vm->host, value_up(m), publisher->vm->host, false);
	}
	if ((direct & DIRECT_DOWN) != 0) {
		(void)ops->doorbell(publisher->vm->host, value_down(m), m->vm->host, false);
	}
}
