/* SPDX-License-Identifier: MIT */
/*
 * Two guests in their own instructions, so that the example is whole: calls are stores to port 0xb8 (docs/abi.md 2.1).
 * A real guest is C and links the guest library: examples/guests. VM 1 publishes key 1 and leaves a text, VM 2 reads it
 * and answers in its seat.
 */
#include "bare.h"

#define TEXT(name, body)                                                                                               \
	__asm__(".pushsection .rodata\n.globl " #name ", " #name "_end\n" #name ":\n" body "\n" #name                  \
		"_end:\n.popsection\n")

/* clang-format off */
__asm__(
	".macro clear\n" /* what a call does not define is zero */
	"xor %edi, %edi\n xor %esi, %esi\n xor %edx, %edx\n xor %ecx, %ecx\n xor %r8d, %r8d\n xor %r9d, %r9d\n"
	".endm\n"
	".macro hypercall nr\n mov $\\nr, %eax\n out %eax, $0xb8\n .endm\n"
	".macro end status\n mov $\\status, %eax\n out %al, $0xf4\n .endm\n"
	".macro wait_for ns\n" /* WAIT: any channel of ours, at most so long */
	"clear\n mov $\\ns, %rsi\n hypercall 0x49564302\n"
	".endm\n"
	".macro copy from\n" /* a text of ours to %rdi */
	"lea \\from(%rip), %rsi\n"
	"10: mov (%rsi), %al\n mov %al, (%rdi)\n inc %rsi\n inc %rdi\n test %al, %al\n jnz 10b\n"
	".endm\n"
	".macro print\n" /* a text of the peer at %rsi: at most 60 bytes, whatever it writes there */
	"mov $60, %ecx\n 11: mov (%rsi), %al\n test %al, %al\n jz 12f\n out %al, $0xe9\n"
	"inc %rsi\n dec %ecx\n jnz 11b\n"
	"12: mov $10, %al\n out %al, $0xe9\n"
	".endm\n");

TEXT(guest_publisher,
	/* PUBLISH: key 1, slots at 0x8000, a section of 4 KiB, one seat, wants bells */
	"clear\n mov $1, %edi\n mov $0x8000, %esi\n mov $0x8008, %edx\n movq $4096, (%rdx)\n mov $0x200000101, %rcx\n"
	"hypercall 3\n test %rax, %rax\n jnz 9f\n"
	/* rbx: hv page, r12: own section, r13: section of the seat */
	"mov 0x8000, %rbx\n mov 64(%rbx), %r12\n add %rbx, %r12\n mov 80(%rbx), %r13\n add %rbx, %r13\n"
	"lea 8(%r12), %rdi\n copy 20f\n movq $1, (%r12)\n"
	/* NOTIFY whoever has joined meanwhile */
	"clear\n mov $1, %edi\n mov $1, %esi\n mov $-1, %rdx\n hypercall 7\n"
	"1: cmpq $1, (%r13)\n je 2f\n wait_for -1\n test %rax, %rax\n js 9f\n jmp 1b\n"
	"2: lea 8(%r13), %rsi\n print\n"
	/* UNPUBLISH: drain */
	"clear\n mov $1, %edi\n hypercall 5\n test %rax, %rax\n jnz 9f\n"
	"end 0\n"
	"9: end 1\n"
	"20: .asciz \"hello from VM 1\"");

TEXT(guest_subscriber,
	/* SUBSCRIBE: VM 1, key 1, wants bells; again while there is no such channel */
	"1: clear\n mov $1, %edi\n mov $1, %esi\n mov $0x8000, %edx\n mov $0x8008, %ecx\n"
	"mov $0x8010, %r8d\n mov $1, %r9d\n"
	"hypercall 4\n test %rax, %rax\n jz 2f\n cmp $-2, %rax\n jne 9f\n wait_for 10000000\n jmp 1b\n"
	/* rbx: hv page, r12: section of VM 1, r13: own seat */
	"2: mov 0x8000, %rbx\n mov 64(%rbx), %r12\n add %rbx, %r12\n"
	"mov 0x8010, %r13\n imul 88(%rbx), %r13\n add 80(%rbx), %r13\n add %rbx, %r13\n"
	"3: cmpq $1, (%r12)\n je 4f\n wait_for -1\n test %rax, %rax\n js 9f\n jmp 3b\n"
	"4: lea 8(%r12), %rsi\n print\n"
	"lea 8(%r13), %rdi\n copy 20f\n movq $1, (%r13)\n"
	/* NOTIFY: VM 1 */
	"clear\n mov $1, %edi\n mov $1, %esi\n mov $1, %edx\n hypercall 7\n"
	/* until the channel is not LIVE any more */
	"5: cmpl $1, 104(%rbx)\n jne 6f\n wait_for -1\n test %rax, %rax\n js 9f\n jmp 5b\n"
	"6: end 0\n"
	"9: end 1\n"
	"20: .asciz \"and hello from VM 2\"");
/* clang-format on */
