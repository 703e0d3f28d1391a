/* SPDX-License-Identifier: MIT */
/*
 * How much memory sections may take in all: a ceiling that is taken from and given back to, and what it had better
 * be. It decides nothing about who gets it; it does not know what a section is.
 *
 * Why there is one: pages of a memfd that a control group, or a system without one, has no room for are not refused.
 * The kernel kills somebody for them, and that may be this process or one that has nothing to do with it.
 */
#ifndef IVC_PORT_ROOM_H
#define IVC_PORT_ROOM_H

#include <stdbool.h>
#include <stdint.h>

/**
 * ivc_room_bytes - three quarters of the memory that this process could still get, now, when it has taken @planned
 * bytes more. Return: bytes; without any limit that can be read, more than anybody has.
 */
uint64_t ivc_room_bytes(uint64_t planned);

/** ivc_room_take - @n more of @limit. Return: false: it would be beyond, *@used is as before. Any thread. */
bool ivc_room_take(volatile uint64_t *used, uint64_t limit, uint64_t n);

#endif
