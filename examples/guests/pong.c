/* SPDX-License-Identifier: MIT */
/*
 * The other side of ping.c: sends every message back through the ring that each reader has to its publisher, until
 * the channel ends.
 *
 *	ivc vm run ping.elf + pong.elf
 *	vm2| sent 20100 messages back
 *
 * --arg: "peer=N key=K"
 */
#include <ivc/bare.h>
#include <ivc/text.h>

IVC_BARE_NOTE(0, 0);

#define NAP_NS UINT64_C(10000000)

/* Subscribes as soon as the channel is there. */
static int open_when_there(struct ivc_sub *s, struct ivc_guest *g, ivc_vmid_t peer, ivc_key_t key)
{
	ivc_handle_t rang;
	int err;

	while ((err = ivc_sub_open(s, g, peer, key, NULL)) == IVC_E_NOENT) {
		(void)ivc_call_wait(g, (ivc_handle_t){0}, NAP_NS, &rang); /* sleeps: nothing rings here yet */
	}
	return err;
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const ivc_vmid_t peer = ivc_vmid((uint32_t)ivc_bare_arg(m, "peer", 1));
	static struct ivc_guest guest;
	static struct ivc_sub sub;
	uint64_t message[8];
	uint64_t count = 0;
	int64_t n;

	if (vcpu != 0) {
		return 0;
	}
	n = ivc_guest_init(&guest, ivc_bare_env());
	n = n != 0 ? n : open_when_there(&sub, &guest, peer, ivc_key(ivc_bare_arg(m, "key", 1)));
	while (n >= 0) {
		n = ivc_sub_recv(&sub, message, sizeof(message), IVC_FOREVER);
		if (n >= 0) {
			n = ivc_sub_send(&sub, message, (size_t)n, IVC_FOREVER);
			count += n == 0;
		}
	}
	if (n != IVC_E_PIPE) { /* PIPE: ping has closed the channel, and everything was read */
		ivc_bare_print("pong: %s\n", ivc_strerror((int)n));
		return 1;
	}
	ivc_bare_print("sent %lu messages back\n", count);
	return ivc_sub_close(&sub) == 0 ? 0 : 1;
}
