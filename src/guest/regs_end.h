/* SPDX-License-Identifier: MIT */
/*
 * The end of what regs_begin.h began, for the compiler that wants one. It decides and knows no more than that.
 */
#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute pop
#endif
