/* SPDX-License-Identifier: MIT */
/* Discovery in a guest of ring 3 that takes interrupts, where ports are not offered. */
#include "trap.h"

IVC_BARE_NOTE(IVC_MACHINE_INTERRUPTS, 64);
