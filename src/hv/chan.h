/* SPDX-License-Identifier: MIT */
/*
 * A channel and its members: the records, their states and who may change them. The life cycle's rules are in
 * docs/design.md; this file decides what is held where.
 */
#ifndef IVC_HV_CHAN_H
#define IVC_HV_CHAN_H

#include "hub.h"
#include "region.h"
#include "registry.h"
#include "vm.h"

#define IVC_SEAT_NONE UINT32_MAX /* the publisher's place */

/*
 * A membership. NONE -> PENDING (seat reserved, windows being built) -> ACTIVE -> LEAVING -> NONE
 *               ACTIVE -> REVOKED (memory taken, range kept) -> LEAVING
 * Publishers: NONE -> ACTIVE -> LEAVING.
 */
enum ivc_member_state {
	IVC_MEMBER_NONE = 0,
	IVC_MEMBER_PENDING,
	IVC_MEMBER_ACTIVE,
	IVC_MEMBER_REVOKED,
	IVC_MEMBER_LEAVING
};

/* The member's own window onto the channel. CLOSING belongs to the revoker, BUILDING and UNMAPPING to the member's VM. */
enum ivc_own_state {
	IVC_OWN_NONE = 0,
	IVC_OWN_BUILDING,
	IVC_OWN_OPEN,
	IVC_OWN_CLOSING,
	IVC_OWN_CLOSED,
	IVC_OWN_UNMAPPING
};

/* The publisher's view of the seat section. MAPPING and CLOSING: one op is in flight, counted in chan->views_busy. */
enum ivc_view_state {
	IVC_VIEW_NONE = 0,
	IVC_VIEW_MAPPING,
	IVC_VIEW_MAPPED,
	IVC_VIEW_CLOSING,
	IVC_VIEW_GONE
};

struct ivc_member {
	struct ivc_record record;   /* first; a publisher's is unused */
	struct ivc_hvm *vm;         /* const after insert */
	struct ivc_chan *chan;      /* const after insert */
	uint32_t seat;              /* const after insert; IVC_SEAT_NONE: the publisher */
	uint32_t slot;              /* in vm->member; control lock of vm */
	uint32_t state;             /* enum ivc_member_state; atomic to read, chan lock to change */
	uint32_t own;               /* enum ivc_own_state; chan lock */
	uint32_t view;              /* enum ivc_view_state; chan lock */
	uint32_t holds;             /* chan lock: one for the member, one for a view that is not NONE or GONE */
	uint64_t at;                /* of its window; const after insert */
	uint64_t charge;            /* for hv page and publisher section, 0 when returned; whoever moves `own` */
	uint64_t seat_charge;       /* for the seat section, or what replaces it after a revoke; const after insert */
	struct ivc_section section; /* seat section; bytes 0: none */
	bool sleeps;                /* const after insert */
	uint32_t direct;            /* direct bells that are on; as `view`: whoever runs its op, else chan lock */
};

/* A seat of a channel. */
struct ivc_seat_record {
	struct ivc_member *member; /* rcu, chan lock to change; stays until the publisher's view is gone too */
	bool backed;               /* the publisher's range shows something that must be unmapped; chan lock */
};

struct ivc_chan {
	struct ivc_record record;    /* first */
	struct ivc_hv *hv;           /* const after create */
	struct ivc_name name;        /* const after insert */
	uint64_t handle;             /* atomic; 0: the record is free or being built */
	uint64_t generation;         /* of this record; whoever holds the free record */
	uint64_t epoch;              /* const after insert */
	struct ivc_region_plan plan; /* const after insert */
	uint32_t refs;               /* atomic: publisher, members, calls that look at it; 0: dead */
	struct ivc_lock lock;
	uint32_t state;             /* IVC_CHANNEL_*, 0 before LIVE; atomic to read, chan lock to change */
	uint32_t views_busy;        /* chan lock: ops in flight on the publisher's views of seats */
	bool view_stop;             /* chan lock: the publisher leaves, no further view op may begin */
	struct ivc_section hv_page; /* bytes 0: flat */
	struct ivc_section data;
	struct ivc_member publisher;   /* never NULL in vm->member while LIVE */
	struct ivc_seat_record seat[]; /* config.seats */
};

/* What a guest calls this channel by. Const after insert. */
static inline uint64_t ivc_chan_handle(const struct ivc_chan *chan)
{
	return chan->generation << IVC_HANDLE_INDEX_BITS | chan->record.index;
}

/* The channel that a name in the table belongs to. */
static inline struct ivc_chan *ivc_chan_of_name(struct ivc_name *name)
{
	return (struct ivc_chan *)(void *)((char *)name - offsetof(struct ivc_chan, name));
}

/* What PUBLISH and SUBSCRIBE give back. */
struct ivc_grant {
	uint64_t base;
	uint64_t bytes;
	uint64_t seat;
};

/* chan.c: the channel as a whole. Context for all that act for a VM: that VM's control lock. */

/**
 * ivc_chan_publish - a new LIVE channel of @vm. Everything that can fail comes before the name is seen by anyone.
 * Return: 0, @grant written; IVC_E_EXIST, DQUOT, NOSPC, NOMEM, OPNOTSUPP, IO, SHUTDOWN; IVC_RETRY_RECLAIM.
 */
IVC_MUST_CHECK int ivc_chan_publish(struct ivc_hvm *vm, ivc_key_t key, const struct ivc_region_plan *plan,
				    struct ivc_grant *grant);

/**
 * ivc_chan_end - the publisher's side ends: name unlinked, @state shown, publisher's window gone, with REVOKED also every
 * member's memory. Commits at once; what fails afterwards is quarantined.
 * Return: 0; IVC_E_IO: the publisher's own window could not be removed.
 */
int ivc_chan_end(struct ivc_chan *chan, uint32_t state);

/** ivc_chan_own - @vm's LIVE channel under @key, or NULL. Stays valid under the control lock. */
struct ivc_chan *ivc_chan_own(struct ivc_hvm *vm, ivc_key_t key);

/** ivc_chan_get - a reference, unless the record is dead. Context: read section. Drop with ivc_chan_put(). */
bool ivc_chan_get(struct ivc_chan *chan);
void ivc_chan_put(struct ivc_chan *chan);

/** ivc_chan_by_handle - the record that @handle names now, or NULL. Context: read section. */
struct ivc_chan *ivc_chan_by_handle(struct ivc_hv *hv, uint64_t handle);

/** ivc_chan_handle_at - the handle of the channel that has record @index now, or 0. Context: read section. */
uint64_t ivc_chan_handle_at(struct ivc_hv *hv, uint32_t index);

/** ivc_chan_seat_get - who sits there, or NULL. Context: read section or chan lock. */
struct ivc_member *ivc_chan_seat_get(const struct ivc_chan *chan, uint32_t seat);

/** ivc_chan_info - a consistent cut. Context: a reference held, no lock. */
void ivc_chan_info(struct ivc_chan *chan, struct ivc_channel_info *info);

/* page.c: the hv page. Context: chan lock, or not visible yet. Flat channels: nothing happens. */
void ivc_page_init(struct ivc_chan *chan);
void ivc_page_state(struct ivc_chan *chan, uint32_t state);
void ivc_page_seat(struct ivc_chan *chan, uint32_t seat, uint32_t vm, uint8_t state, uint8_t flags, uint64_t epoch);
void ivc_page_seat_state(struct ivc_chan *chan, uint32_t seat, uint8_t state);

/* member.c: subscribers. */

/**
 * ivc_member_join - @vm takes a seat. Commits when the seat turns JOINING; any failure leaves nothing behind.
 * Return: 0, @grant written; IVC_E_EXIST, NOENT, BUSY, DQUOT, NOSPC, NOMEM, OPNOTSUPP, IO, SHUTDOWN; IVC_RETRY_RECLAIM.
 */
IVC_MUST_CHECK int ivc_member_join(struct ivc_hvm *vm, ivc_vmid_t publisher, ivc_key_t key, bool sleeps,
				   struct ivc_grant *grant);

/** ivc_member_of - @vm's seat in a channel of that name, LIVE or not, or NULL. Context: control lock of @vm. */
struct ivc_member *ivc_member_of(struct ivc_hvm *vm, ivc_vmid_t publisher, ivc_key_t key);

/**
 * ivc_member_end - the member leaves: own window gone, seat shows @seat_state, publisher's view closed.
 * Return: 0; IVC_E_IO: its own window could not be removed. Context: control lock of its VM.
 */
int ivc_member_end(struct ivc_member *m, uint8_t seat_state);

/** ivc_member_take_back - revoke: the member's memory goes, its address range stays. Waits for a join or leave in flight. */
void ivc_member_take_back(struct ivc_chan *chan, uint32_t seat);

/*
 * doorbell.c: direct bells between the publisher and a seat. They are on within the time that the publisher's view of the
 * seat is mapped, and whoever runs the op on that view turns them on and off: so both VMs' records are valid.
 */

/** ivc_doorbell_on - before the seat turns ACTIVE. Return: for ivc_member.direct. No lock of the channel held. */
uint32_t ivc_doorbell_on(struct ivc_member *m);

/** ivc_doorbell_off - before the view is closed or unmapped. No lock of the channel held. */
void ivc_doorbell_off(struct ivc_member *m);

/** ivc_member_views_end - the publisher's window: waits for view ops in flight, unmaps every seat. Return: 0; IVC_E_IO. */
int ivc_member_views_end(struct ivc_chan *chan);

#endif
