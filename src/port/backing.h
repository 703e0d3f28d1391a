/* SPDX-License-Identifier: MIT */
/*
 * Memory of sections as every hosted side has it: descriptors of memory that is there for good, and places to map it.
 * It decides how such memory is made; it does not know who maps it, or what for.
 */
#ifndef IVC_PORT_BACKING_H
#define IVC_PORT_BACKING_H

#include <ivc/types.h>

/**
 * ivc_backing_new - a memfd of @bytes, close-on-exec, zeroed, with all its pages present, sealed against shrinking and
 * growing.
 * @kept: so many of the last descriptors of the process' limit are not for this; 0: the caller counts by itself.
 * Return: descriptor; -1: no memory or no descriptor.
 */
int ivc_backing_new(uint64_t bytes, uint32_t kept);

/** ivc_backing_reserve - @bytes of address space without memory, 2 MiB aligned from there on. Return: NULL: none is left. */
void *ivc_backing_reserve(uint64_t bytes);

#endif
