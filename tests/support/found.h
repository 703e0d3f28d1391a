/* SPDX-License-Identifier: MIT */
/*
 * What the guest `found` and its test agree on: the exit code. It knows nothing else.
 */
#ifndef IVC_TESTS_FOUND_H
#define IVC_TESTS_FOUND_H

#define FOUND_ERROR 0x1000 /* plus the number of an IVC_E_*; below: IVC_X86_TRAP_* */

#endif
