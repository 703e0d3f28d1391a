/* SPDX-License-Identifier: MIT */
/* The kit in ring 3, by ports. */
#include "kit.h"

IVC_BARE_NOTE(0, 0);
