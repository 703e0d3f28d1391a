/* SPDX-License-Identifier: MIT */
/*
 * From here on no vector or floating-point register is used: a guest kernel may not have saved them. gcc on x86_64 and
 * aarch64 and clang on x86_64 are told here, whatever the command line says. clang on aarch64 takes it from the command
 * line alone: -mgeneral-regs-only; riscv64 has it in -march. First include of each source of the guest half, regs_end.h
 * is the last. It knows compilers alone.
 */
#if defined(__clang__) && defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("general-regs-only"))), apply_to = function)
#elif defined(__GNUC__) && !defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))
#pragma GCC target("general-regs-only")
#endif
