/* SPDX-License-Identifier: MIT */
/*
 * Free and dead records. It decides that a record is used again only after a grace period.
 */
#include "hub.h"

#include "rcu.h"

struct ivc_hvm *ivc_hub_vm(const struct ivc_hv *hv, uint32_t index)
{
	return (struct ivc_hvm *)(void *)(hv->vms + index * hv->vm_stride);
}

struct ivc_chan *ivc_hub_chan(const struct ivc_hv *hv, uint32_t index)
{
	return (struct ivc_chan *)(void *)(hv->chans + index * hv->chan_stride);
}

static uint32_t live_limit(const struct ivc_hv *hv, enum ivc_record_kind kind)
{
	return kind == IVC_RECORD_CHAN ? hv->config.channels : hv->config.memberships;
}

int ivc_hub_take(struct ivc_hv *hv, enum ivc_record_kind kind, struct ivc_record **out)
{
	struct ivc_record *record = NULL;
	int err = 0;

	ivc_lock_take(&hv->waiter, &hv->lock);
	if (hv->live[kind] >= live_limit(hv, kind)) {
		err = IVC_E_NOMEM;
	} else if (hv->free[kind] == NULL) {
		err = IVC_RETRY_RECLAIM; /* the spare records are all dead */
	} else {
		record = hv->free[kind];
		hv->free[kind] = record->next;
		hv->live[kind]++;
	}
	ivc_lock_give(&hv->lock);
	if (err == 0) {
		*out = record;
	}
	return err;
}

static void free_locked(struct ivc_hv *hv, struct ivc_record *record)
{
	record->next = hv->free[record->kind];
	hv->free[record->kind] = record;
}

void ivc_hub_give(struct ivc_hv *hv, struct ivc_record *record)
{
	ivc_lock_take(&hv->waiter, &hv->lock);
	free_locked(hv, record);
	hv->live[record->kind]--;
	ivc_lock_give(&hv->lock);
}

void ivc_hub_retire(struct ivc_hv *hv, struct ivc_record *record)
{
	ivc_lock_take(&hv->waiter, &hv->lock);
	record->next = hv->retired;
	hv->retired = record;
	hv->live[record->kind]--;
	(void)ivc_fetch_add_u32(&hv->retired_count, 1);
	ivc_lock_give(&hv->lock);
}

void ivc_hub_reclaim(struct ivc_hv *hv, bool now)
{
	struct ivc_record *dead;

	if (!now && ivc_load_relaxed_u32(&hv->retired_count) < IVC_RETIRED_MAX) {
		return; /* relaxed: only a hint when to look */
	}
	ivc_lock_take(&hv->waiter, &hv->lock);
	dead = hv->retired;
	hv->retired = NULL;
	ivc_store_relaxed_u32(&hv->retired_count, 0);
	ivc_lock_give(&hv->lock);
	if (dead == NULL && !now) {
		return;
	}
	/* [REC-REUSE] every reader that could hold one of them has left. Partner: ivc_rcu_read_unlock() of the readers. */
	ivc_rcu_synchronize();
	while (dead != NULL) {
		struct ivc_record *next = dead->next;

		ivc_lock_take(&hv->waiter, &hv->lock);
		free_locked(hv, dead);
		ivc_lock_give(&hv->lock);
		dead = next;
	}
}
