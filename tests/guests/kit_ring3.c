/* SPDX-License-Identifier: MIT */
/* The kit in ring 3 with interrupts, by the device page. */
#include "kit.h"

IVC_BARE_NOTE(IVC_MACHINE_INTERRUPTS, KIT_VECTOR);
