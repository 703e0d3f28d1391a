/* SPDX-License-Identifier: MIT */
/*
 * From here on no vector or floating-point register is used, whatever the command line says: a guest kernel may not
 * have saved them. First include of each source of the guest half, regs_end.h is the last. It knows compilers alone.
 */
#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("general-regs-only"))), apply_to = function)
#elif defined(__GNUC__) && !defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))
#pragma GCC target("general-regs-only")
#endif
