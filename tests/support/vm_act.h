/* SPDX-License-Identifier: MIT */
/* Numbers that the guest vm_act and its tests agree on. It decides nothing else. */
#ifndef IVC_TESTS_VM_ACT_H
#define IVC_TESTS_VM_ACT_H

#define VM_ACT_SERVICE 77u
#define VM_ACT_KEY     UINT64_C(0x746361)
#define VM_ACT_NOWHERE UINT64_C(0x10000000000)
#define VM_ACT_R15     0x1234567

#endif
