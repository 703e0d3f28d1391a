/* SPDX-License-Identifier: MIT */
/*
 * A member's own window: the sections that it sees, with which rights, put in place and taken away as a whole. It knows
 * the ops and the plan; it decides no state of a member.
 */
#ifndef IVC_HV_WINDOW_H
#define IVC_HV_WINDOW_H

#include "chan.h"

/** ivc_map_status - what op map may answer, reduced to what a guest may be told. */
int ivc_map_status(int err);

/**
 * ivc_window_build - maps every section of @m's window. The caller has taken a reference to each for it.
 * Return: 0; as ivc_map_status(): nothing is mapped.
 */
IVC_MUST_CHECK int ivc_window_build(struct ivc_member *m);

/**
 * ivc_window_remove - unmaps the window, @closed: one that ivc_window_close() has closed. What cannot be unmapped is
 * quarantined and the VM given up. Return: 0; IVC_E_IO.
 */
int ivc_window_remove(struct ivc_member *m, bool closed);

/** ivc_window_close - takes the memory, keeps the range. What cannot be closed is quarantined and the VM given up. */
void ivc_window_close(struct ivc_member *m);

/** ivc_window_refs_take_locked, _put - one reference for the window to each section that it shows. Put: no lock held. */
void ivc_window_refs_take_locked(struct ivc_member *m);
void ivc_window_refs_put(struct ivc_member *m);

/** ivc_section_quarantine - the memory may still be reachable: it is never used again. No lock held. */
void ivc_section_quarantine(struct ivc_chan *chan, struct ivc_hvm *vm, struct ivc_section *s);

#endif
