/* SPDX-License-Identifier: MIT */
/* The worker in ring 3, with the interrupt of bells. It decides nothing else. */
#include <ivc/bare.h>

IVC_BARE_NOTE(IVC_MACHINE_INTERRUPTS, 0x40);
