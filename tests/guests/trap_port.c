/* SPDX-License-Identifier: MIT */
/* Discovery in a guest without a note: ring 3 with I/O privilege. */
#include "trap.h"
