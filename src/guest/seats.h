/* SPDX-License-Identifier: MIT */
/*
 * What the publisher's side asks of its seats. It decides when the table is looked at and what a reader that lies or
 * leaves loses; it knows no message.
 */
#ifndef IVC_GUEST_SEATS_H
#define IVC_GUEST_SEATS_H

#include "section.h"

/* In held_seat_, beside the number of a seat. */
#define IVC_SEAT_NONE_ UINT32_MAX       /* nothing was peeked */
#define IVC_SEAT_GONE_ (UINT32_MAX - 1) /* the reader whose message was peeked has left: release tells it once */

/**
 * ivc_seats_look_ - the look that every operation begins with: two loads when nothing happened, else readers come and
 * go.
 * Return: 0; IVC_E_PIPE, sticky; IVC_E_INVAL: not open.
 */
int ivc_seats_look_(struct ivc_pub *p);

/** ivc_seats_sitting_ - what was read from the section of seat @i before counts: the same sitting is still there. */
bool ivc_seats_sitting_(const struct ivc_pub *p, uint32_t i);

/** ivc_seats_leave_ - the reader in seat @i is gone, or not to be spoken with. No effect if it is not admitted. */
void ivc_seats_leave_(struct ivc_pub *p, uint32_t i);

/**
 * ivc_seats_broken_ - seat @i showed what no correct reader writes. Return: true: it lied and this sitting is broken
 * for good; false: its memory was taken away meanwhile. It has left in both cases.
 */
bool ivc_seats_broken_(struct ivc_pub *p, uint32_t i);

/** ivc_seats_evicted_ - the same for the readers that the ring has evicted; recv will report the liars. */
void ivc_seats_evicted_(struct ivc_pub *p);

/* Head of the section of seat @i, which its reader writes. */
static inline const volatile struct ivc_side_head *ivc_seats_side_(const struct ivc_pub *p, uint32_t i)
{
	const volatile uint8_t *const at = p->at_.seat + (uint64_t)i * p->at_.seat_bytes;

	return (const volatile struct ivc_side_head *)(const volatile void *)at;
}

/**
 * ivc_seats_bell_ - ring seat @i if it sleeps for @bit and was not rung for this sleep. The caller has the full fence
 * of ivc_armed_() before it, once for all seats, or can do with a bell that is late.
 * Return: it was rung now.
 */
bool ivc_seats_bell_(struct ivc_pub *p, uint32_t i, uint32_t bit);
#endif
