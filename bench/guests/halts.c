/* SPDX-License-Identifier: MIT */
/* The worker in ring 0, as an operating system is: it sleeps by HLT until the interrupt of bells. It decides nothing else. */
#include <ivc/bare.h>

IVC_BARE_NOTE(IVC_MACHINE_RING0 | IVC_MACHINE_INTERRUPTS, 0x40);
