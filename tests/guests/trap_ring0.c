/* SPDX-License-Identifier: MIT */
/* Discovery in a guest that starts in ring 0. */
#include "trap.h"

IVC_BARE_NOTE(IVC_MACHINE_RING0, 0);
