/* SPDX-License-Identifier: MIT */
/* The kit in ring 0 with interrupts: it can halt. */
#include "kit.h"

IVC_BARE_NOTE(IVC_MACHINE_RING0 | IVC_MACHINE_INTERRUPTS, KIT_VECTOR);
