/* SPDX-License-Identifier: MIT */
/* The worker in ring 3, without interrupts: it polls, or sleeps in the call WAIT. It decides nothing else. */
#include <ivc/bare.h>

IVC_BARE_NOTE(0, 0);
