/* SPDX-License-Identifier: MIT */
/*
 * struct ivc_hv: the arrays that everything lives in, the free records, the dead ones. It decides when a record may be
 * used again; it knows nothing of what a channel or a VM does.
 */
#ifndef IVC_HV_HUB_H
#define IVC_HV_HUB_H

#include "lock.h"

#include <ivc/hv.h>

struct ivc_chan;
struct ivc_hvm;
struct ivc_member;
struct ivc_registry;

/* Head of every record that a reader may still hold when it dies. */
struct ivc_record {
	struct ivc_record *next; /* hv->lock: free list, or list of the dead */
	uint32_t kind;           /* const after create */
	uint32_t index;          /* const after create */
};

enum ivc_record_kind {
	IVC_RECORD_CHAN = 0,
	IVC_RECORD_MEMBER = 1,
	IVC_RECORD_KINDS = 2
};

/* Dead records wait here; the call that brings their number to this waits for one grace period, with no lock held. */
#define IVC_RETIRED_MAX 256u

/* Phase of the hypervisor, enum ivc_hv_phase and one more: DISABLE is at work. */
#define IVC_HV_STOPPING 3u

struct ivc_hv {
	struct ivc_plat_ops ops;     /* const after create; a copy, short tables padded with NULL */
	void *host;                  /* const after create */
	struct ivc_waiter waiter;    /* const after create */
	struct ivc_hv_config config; /* const after create; every number filled in */
	uint64_t granule;            /* const after create */
	uint64_t instance;           /* const after create */
	struct ivc_registry *names;  /* const after create */
	void *arena_own;             /* const after create; NULL: the embedder's */
	unsigned char *vms;          /* const after create: array of struct ivc_hvm, vm_stride apart */
	unsigned char *chans;        /* const after create: array of struct ivc_chan, chan_stride apart */
	struct ivc_member *members;  /* const after create */
	uint64_t vm_stride;
	uint64_t chan_stride;
	uint32_t chan_count; /* records: config.channels and those that may wait for a grace period */
	uint32_t member_count;

	uint32_t phase;                /* atomic; enum ivc_hv_phase or IVC_HV_STOPPING */
	uint32_t entrances;            /* atomic: PUBLISH and SUBSCRIBE that have found the phase RUN and are at work */
	uint32_t controlled;           /* atomic: calls of guests at work under a control lock */
	uint64_t epoch;                /* atomic: the next one; channels and seats share the numbers */
	uint64_t quarantined_bytes;    /* atomic */
	uint64_t quarantined_sections; /* atomic */
	uint64_t region_bytes_now;     /* atomic */
	uint32_t sections_now;         /* atomic */
	uint32_t channels_now;         /* atomic: LIVE */
	uint32_t memberships_now;      /* atomic */
	uint32_t vms_now;              /* hv->lock */

	struct ivc_lock lock;
	struct ivc_record *free[IVC_RECORD_KINDS]; /* hv->lock */
	uint32_t live[IVC_RECORD_KINDS];           /* hv->lock: taken and not retired */
	struct ivc_record *retired;                /* hv->lock */
	uint32_t retired_count;                    /* atomic; changed under hv->lock */
};

struct ivc_hvm *ivc_hub_vm(const struct ivc_hv *hv, uint32_t index);
struct ivc_chan *ivc_hub_chan(const struct ivc_hv *hv, uint32_t index);

/* Result inside the core: no record is free, but some wait for a grace period. Never reaches a guest. */
#define IVC_RETRY_RECLAIM 2

/**
 * ivc_hub_take - a free record.
 * Return: 0; IVC_E_NOMEM: the configured number is in use; IVC_RETRY_RECLAIM: ivc_hub_reclaim(hv, true), then again.
 */
IVC_MUST_CHECK int ivc_hub_take(struct ivc_hv *hv, enum ivc_record_kind kind, struct ivc_record **out);

/** ivc_hub_give - a record that no reader ever saw goes back at once. */
void ivc_hub_give(struct ivc_hv *hv, struct ivc_record *record);

/** ivc_hub_retire - [REC-REUSE] a record that readers may still hold: dead, used again after a grace period. */
void ivc_hub_retire(struct ivc_hv *hv, struct ivc_record *record);

/**
 * ivc_hub_reclaim - when IVC_RETIRED_MAX records are dead, or @now: waits for a grace period and frees them.
 * Context: no lock held, not in a read section.
 */
void ivc_hub_reclaim(struct ivc_hv *hv, bool now);

/** ivc_hub_epoch - a number that was never given before. */
static inline uint64_t ivc_hub_epoch(struct ivc_hv *hv)
{
	return ivc_fetch_add_u64(&hv->epoch, 1);
}

#endif
