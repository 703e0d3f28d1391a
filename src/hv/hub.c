/* SPDX-License-Identifier: MIT */
/*
 * Free and dead records. It decides that a record is used again only after a grace period.
 */
#include "hub.h"

#include "rcu.h"

struct ivc_record *ivc_hub_take(struct ivc_hv *hv, enum ivc_record_kind kind)
{
	struct ivc_record *record;

	ivc_lock_take(&hv->waiter, &hv->lock);
	record = hv->free[kind];
	if (record != NULL) {
		hv->free[kind] = record->next;
	}
	ivc_lock_give(&hv->lock);
	return record;
}

void ivc_hub_give(struct ivc_hv *hv, struct ivc_record *record)
{
	ivc_lock_take(&hv->waiter, &hv->lock);
	record->next = hv->free[record->kind];
	hv->free[record->kind] = record;
	ivc_lock_give(&hv->lock);
}

void ivc_hub_retire(struct ivc_hv *hv, struct ivc_record *record)
{
	ivc_lock_take(&hv->waiter, &hv->lock);
	record->next = hv->retired;
	hv->retired = record;
	(void)ivc_fetch_add_u32(&hv->retired_count, 1);
	ivc_lock_give(&hv->lock);
}

bool ivc_hub_reclaim(struct ivc_hv *hv, bool now)
{
	struct ivc_record *dead;

	if (!now && ivc_load_relaxed_u32(&hv->retired_count) < IVC_RETIRED_MAX) {
		return false; /* relaxed: only a hint when to look */
	}
	ivc_lock_take(&hv->waiter, &hv->lock);
	dead = hv->retired;
	hv->retired = NULL;
	ivc_store_relaxed_u32(&hv->retired_count, 0);
	ivc_lock_give(&hv->lock);
	if (dead == NULL) {
		return false;
	}
	/* [REC-REUSE] every reader that could hold one of them has left. Partner: ivc_rcu_read_unlock() of the readers. */
	ivc_rcu_synchronize();
	while (dead != NULL) {
		struct ivc_record *next = dead->next;

		ivc_hub_give(hv, dead);
		dead = next;
	}
	return true;
}
