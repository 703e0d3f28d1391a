/* SPDX-License-Identifier: MIT */
/*
 * Receives the file of publisher.c into RAM, checks it, and tells how fast it came. The channel ends after the file,
 * so IVC_E_PIPE is its good end; ivc_sub_state() tells that from a publisher that died on the way.
 *
 *	ivc vm run publisher.elf + subscriber.elf
 *	vm2| 8388608 bytes in 512 messages, 9 ms, 932 MB/s, sum 0x2815ba8106a8a203: right
 *
 * --arg: "peer=N key=K"
 */
#include <ivc/bare.h>
#include <ivc/text.h>

IVC_BARE_NOTE(0, 0);

#define NAP_NS UINT64_C(10000000)

struct file_head {
	uint64_t bytes;
	uint64_t sum;
};

static int open_when_there(struct ivc_sub *s, struct ivc_guest *g, ivc_vmid_t peer, ivc_key_t key)
{
	ivc_handle_t rang;
	int err;

	while ((err = ivc_sub_open(s, g, peer, key, NULL)) == IVC_E_NOENT) {
		(void)ivc_call_wait(g, (ivc_handle_t){0}, NAP_NS, &rang);
	}
	return err;
}

static uint64_t sum_of(const uint64_t *at, uint64_t words)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < words; i++) {
		sum = (sum << 1 | sum >> 63) + at[i];
	}
	return sum;
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const ivc_vmid_t peer = ivc_vmid((uint32_t)ivc_bare_arg(m, "peer", 1));
	char *const ram = (char *)(uintptr_t)m->ram_free; /* what lies behind the image is ours */
	const uint64_t room = m->ram_stacks - m->ram_free;
	struct file_head head = {0, 0};
	static struct ivc_guest guest;
	static struct ivc_sub sub;
	uint64_t bytes = 0, messages = 0, begin, ns, sum;
	int64_t n;

	if (vcpu != 0) {
		return 0;
	}
	n = ivc_guest_init(&guest, ivc_bare_env());
	n = n != 0 ? n : open_when_there(&sub, &guest, peer, ivc_key(ivc_bare_arg(m, "key", 1)));
	n = n != 0 ? n : ivc_sub_recv(&sub, &head, sizeof(head), IVC_FOREVER);
	if (n >= 0 && (n != (int64_t)sizeof(head) || head.bytes > room)) {
		n = IVC_E_MSGSIZE; /* what a peer says is checked before it is believed */
	}
	if (n >= 0) {
		memset(ram, 0, head.bytes); /* the host gives RAM at the first touch: that is not the channel's time */
	}
	begin = ivc_bare_now_ns();
	while (n >= 0) {
		n = ivc_sub_recv(&sub, ram + bytes, room - bytes, IVC_FOREVER);
		bytes += n > 0 ? (uint64_t)n : 0;
		messages += n >= 0;
	}
	ns = ivc_bare_now_ns() - begin;
	if (n != IVC_E_PIPE || bytes != head.bytes) {
		ivc_bare_print("subscriber: %s after %lu of %lu bytes%s\n", ivc_strerror((int)n), bytes, head.bytes,
			       ivc_sub_state(&sub) == IVC_CHANNEL_DEAD ? ", the publisher died" : "");
		return 1;
	}
	sum = sum_of((const uint64_t *)(const void *)ram, bytes / 8);
	ivc_bare_print("%lu bytes in %lu messages, %lu ms, %lu MB/s, sum 0x%016lx: %s\n", bytes, messages, ns / 1000000,
		       ns != 0 ? bytes * 1000 / ns : 0, sum, sum == head.sum ? "right" : "wrong");
	return ivc_sub_close(&sub) == 0 && sum == head.sum ? 0 : 1;
}
