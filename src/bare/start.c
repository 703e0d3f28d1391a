/* SPDX-License-Identifier: MIT */
/*
 * The first instructions of a guest and its last: from the machine's entry to ivc_bare_main() on each vCPU, and out by the
 * exit device. It decides the order in which the kit is made ready and knows no program.
 */
#include "state.h"

const struct ivc_machine *ivc_bare_machine_;
static uint32_t ready;

void ivc_bare_start_(const struct ivc_machine *m, uint32_t vcpu);

/* rdi and rsi are those of the machine. */
__asm__(".section .text.ivc_bare_entry_, \"ax\"\n"
	".globl ivc_bare_entry_\n"
	".type ivc_bare_entry_, @function\n"
	"ivc_bare_entry_:\n"
	"	xorl %ebp, %ebp\n"
	"	andq $-16, %rsp\n"
	"	call ivc_bare_start_\n"
	"	ud2\n"
	".size ivc_bare_entry_, . - ivc_bare_entry_\n"
	".text\n");

void ivc_bare_exit(uint32_t code)
{
	for (;;) {
		if (ivc_bare_ports_()) {
			__asm__ __volatile__("outl %0, $" IVC_BARE_TEXT_(IVC_MACHINE_PORT_EXIT)
					     :
					     : "a"(code)
					     : "memory");
		} else {
			ivc_bare_page_(IVC_MACHINE_AT_EXIT, code, 0, 0);
		}
		ivc_cpu_relax();
	}
}

/* This vCPU has nothing more to do; the VM goes on. */
__attribute__((noreturn)) static void stop(void)
{
	for (;;) {
		if (ivc_bare_ports_()) {
			__asm__ __volatile__("outl %0, $" IVC_BARE_TEXT_(IVC_MACHINE_PORT_STOP) : : "a"(0) : "memory");
		} else {
			ivc_bare_page_(IVC_MACHINE_AT_STOP, 0, 0, 0);
		}
		ivc_cpu_relax();
	}
}

void ivc_bare_start_(const struct ivc_machine *m, uint32_t vcpu)
{
	int code;

	if (vcpu == 0) {
		ivc_bare_machine_ = m;
		ivc_bare_clock_start_();
		ivc_bare_env_start_();
		ivc_bare_irq_start_(0);
		/* [BARE-READY] the kit's state, then the word. Partner: the loop below. */
		ivc_store_release_u32(&ready, 1);
	} else {
		/* [BARE-READY] the word, then the kit's state. Partner: the store above. */
		while (ivc_load_acquire_u32(&ready) == 0) {
			ivc_cpu_relax();
		}
		ivc_bare_irq_start_(vcpu);
	}
	code = ivc_bare_main(m, vcpu);
	if (vcpu == 0) {
		ivc_bare_exit((uint32_t)code);
	}
	stop();
}
