/* SPDX-License-Identifier: MIT */
/*
 * Bells and parked calls: calls NOTIFY, BELL and WAIT, and the end of a park. It decides who is told and which call takes
 * which bell; it never looks into a region.
 */
#ifndef IVC_HV_BELL_H
#define IVC_HV_BELL_H

#include "chan.h"

/** ivc_bell_raise - one member is told to look. Context: read section, or a reference that keeps the member. */
void ivc_bell_raise(struct ivc_member *m);

/**
 * ivc_bell_publisher - somebody joined or left: the publisher is told, the other seats need not know.
 * ivc_bell_ended - the channel is not LIVE any more: every member but its publisher is told, and whoever waits on it wakes.
 * Context: a reference to the channel.
 */
void ivc_bell_publisher(struct ivc_chan *chan);
void ivc_bell_ended(struct ivc_chan *chan);

/** ivc_bell_left - @vm itself leaves: its calls that wait on this channel end with IVC_E_STALE. */
void ivc_bell_left(struct ivc_hvm *vm, const struct ivc_chan *chan);

/** ivc_bell_notify - NOTIFY by name. Return: 0; IVC_E_NOENT: no LIVE channel, or the caller or the target is not in it. */
int ivc_bell_notify(struct ivc_hvm *vm, ivc_vmid_t publisher, ivc_key_t key, uint64_t target);

/**
 * ivc_bell_ring - BELL by handle. @target: a seat, or IVC_ALL: every peer. @own: the caller's seat, IVC_ALL: publisher.
 * Return: 0; IVC_E_STALE: not the caller's handle or seat; IVC_E_PIPE: a subscriber rings and the publisher is gone;
 *         IVC_E_NOENT: nobody sits in the target seat.
 */
int ivc_bell_ring(struct ivc_hvm *vm, uint64_t handle, uint64_t target, uint64_t own);

/**
 * ivc_bell_doorbell - a store to the doorbell page: BELL with the index of the handle in bits 8-31 of @value, the target in
 * bits 0-7, and the seat that @vm has there. Return: false: nobody was rung, @value names nothing of @vm's.
 */
bool ivc_bell_doorbell(struct ivc_hvm *vm, uint32_t value);

/**
 * ivc_bell_wait - WAIT: takes a pending bell, or parks the call.
 * Return: IVC_DONE, call->result is a handle, IVC_E_STALE or IVC_E_AGAIN (timeout 0); IVC_PARKED.
 */
enum ivc_verdict ivc_bell_wait(struct ivc_hvm *vm, void *vcpu, struct ivc_call *call, uint64_t handle,
			       uint64_t timeout_ns);

/** ivc_bell_park_end - as ivc_hv_park_end(). */
void ivc_bell_park_end(struct ivc_hvm *vm, struct ivc_call *call, int why);

/** ivc_bell_unpark_all - teardown: every parked call of @vm ends with @result. */
void ivc_bell_unpark_all(struct ivc_hvm *vm, int result);

#endif
