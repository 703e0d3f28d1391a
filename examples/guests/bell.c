/* SPDX-License-Identifier: MIT */
/*
 * Sleeps on the interrupt: a guest in ring 0 with an interrupt handler. Between two messages its CPU is halted; the
 * bell of ringer.c wakes it. Where both VMs have a doorbell page, that bell goes from one guest to the other without
 * the hypervisor.
 *
 *	ivc vm run ringer.elf + bell.elf
 *	vm2| vector 96, doorbell page at 0xc0001000
 *	vm2| message 1 of 20: woken after 50113 us, 1 interrupts
 *	vm2| ...
 *	vm2| 20 messages, 21 interrupts
 *
 * About one for each message, and one more tells that the channel is closed. On a port to `ivc hv` there is no doorbell page.
 *
 * --arg: "peer=N key=K"
 */
#include <ivc/bare.h>
#include <ivc/text.h>

#define VECTOR   0x60
#define NAP_NS   UINT64_C(10000000)
#define SLICE_NS UINT64_C(100000000)

IVC_BARE_NOTE(IVC_MACHINE_RING0 | IVC_MACHINE_INTERRUPTS, VECTOR);

static struct ivc_guest guest;

/* Takes the pending bells, so that the next one interrupts again. The sleeper looks for itself what came. */
static void on_interrupt(void)
{
	(void)ivc_guest_interrupt(&guest);
}

static int open_when_there(struct ivc_sub *s, ivc_vmid_t peer, ivc_key_t key)
{
	const struct ivc_env *const env = ivc_bare_env();
	int err;

	while ((err = ivc_sub_open(s, &guest, peer, key, NULL)) == IVC_E_NOENT) {
		(void)env->park(env->os, ivc_bare_now_ns() + NAP_NS);
	}
	return err;
}

/*
 * ivc_sub_recv() with a timeout would look for a while and then sleep in the same way; who sleeps at once does it like
 * this: ask for a bell, look again, halt.
 */
static int64_t recv_by_interrupt(struct ivc_sub *s, void *buf, size_t room)
{
	const struct ivc_env *const env = ivc_bare_env();
	int64_t n;

	while ((n = ivc_sub_recv(s, buf, room, 0)) == IVC_E_AGAIN) {
		if (ivc_sub_arm(s) == 0) {
			(void)env->park(env->os, ivc_bare_now_ns() + SLICE_NS); /* no sleep rests on the bell alone */
		}
	}
	return n;
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const ivc_vmid_t peer = ivc_vmid((uint32_t)ivc_bare_arg(m, "peer", 1));
	struct ivc_guest_facts facts;
	static struct ivc_sub sub;
	uint64_t message[2]; /* number, of how many */
	uint64_t begin, count = 0;
	int64_t n;

	if (vcpu != 0) {
		return 0;
	}
	ivc_bare_interrupts(on_interrupt); /* before the environment is taken: it can park now */
	n = ivc_guest_init(&guest, ivc_bare_env());
	if (n == 0) {
		ivc_guest_info(&guest, &facts);
		if (facts.doorbell.v != 0) {
			ivc_bare_print("vector %u, doorbell page at 0x%lx\n", facts.vector, facts.doorbell.v);
		} else {
			ivc_bare_print("vector %u, no doorbell page\n", facts.vector);
		}
		n = open_when_there(&sub, peer, ivc_key(ivc_bare_arg(m, "key", 1)));
	}
	while (n >= 0) {
		begin = ivc_bare_now_ns();
		n = recv_by_interrupt(&sub, message, sizeof(message));
		if (n == (int64_t)sizeof(message)) {
			count++;
			ivc_bare_print("message %lu of %lu: woken after %lu us, %lu interrupts\n", message[0],
				       message[1], (ivc_bare_now_ns() - begin) / 1000, ivc_bare_interrupts_seen());
		}
	}
	if (n != IVC_E_PIPE) { /* PIPE: the ringer has closed the channel, and everything was read */
		ivc_bare_print("bell: %s\n", ivc_strerror((int)n));
		return 1;
	}
	ivc_bare_print("%lu messages, %lu interrupts\n", count, ivc_bare_interrupts_seen());
	return ivc_sub_close(&sub) == 0 ? 0 : 1;
}
