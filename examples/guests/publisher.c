/* SPDX-License-Identifier: MIT */
/*
 * Sends a file to another VM: first a message that says how long it is, then its bytes, 16 KiB in a message. Nothing is sent before a reader is there: a channel is not a store. Reader:
 * subscriber.c.
 *
 *	ivc vm run publisher.elf + subscriber.elf
 *	vm1| 8388608 bytes sent, sum 0x2815ba8106a8a203
 *	vm2| 8388608 bytes in 512 messages, 9 ms, 932 MB/s, sum 0x2815ba8106a8a203: right
 *
 * --arg: "key=K bytes=N"
 */
#include <ivc/bare.h>
#include <ivc/text.h>

IVC_BARE_NOTE(0, 0);

#define PART 2048u /* words in a message; a message may have nearly half of the ring */

/* First message, known to the reader. */
struct file_head {
	uint64_t bytes;
	uint64_t sum;
};

/* The file: word @i of it. It stands for what a real guest would read from somewhere. */
static uint64_t word(uint64_t i)
{
	i = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
	return i ^ i >> 29;
}

static uint64_t sum_of(uint64_t words)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < words; i++) {
		sum = (sum << 1 | sum >> 63) + word(i);
	}
	return sum;
}

/* One message of @words words. A full ring holds it back until the reader has made room. */
static int send_part(struct ivc_pub *p, uint64_t from, uint64_t words)
{
	static uint64_t part[PART];

	for (uint64_t i = 0; i < words; i++) {
		part[i] = word(from + i);
	}
	return ivc_pub_send(p, part, words * 8, IVC_FOREVER);
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const struct ivc_pub_options options = {.bytes = UINT64_C(1) << 20};
	const uint64_t words = ivc_bare_arg(m, "bytes", UINT64_C(8) << 20) / 8;
	struct file_head head = {words * 8, 0};
	static struct ivc_guest guest;
	static struct ivc_pub pub;
	static struct ivc_seat seat;
	int err;

	if (vcpu != 0) {
		return 0;
	}
	head.sum = sum_of(words);
	err = ivc_guest_init(&guest, ivc_bare_env());
	err = err != 0 ? err : ivc_pub_open(&pub, &guest, ivc_key(ivc_bare_arg(m, "key", 1)), &options, &seat);
	err = err != 0 ? err : ivc_pub_await(&pub, 1, IVC_FOREVER);
	err = err != 0 ? err : ivc_pub_send(&pub, &head, sizeof(head), IVC_FOREVER);
	for (uint64_t at = 0; at < words && err == 0;) {
		const uint64_t part = words - at < PART ? words - at : PART;

		err = send_part(&pub, at, part);
		at += part;
		if (err == 0 && ivc_pub_readers(&pub) == 0) {
			err = IVC_E_PIPE; /* nobody would get the rest */
		}
	}
	err = err != 0 ? err : ivc_pub_drain(&pub, IVC_FOREVER);
	if (err != 0) {
		ivc_bare_print("publisher: %s\n", ivc_strerror(err));
		return 1;
	}
	ivc_bare_print("%lu bytes sent, sum 0x%016lx\n", head.bytes, head.sum);
	return ivc_pub_close(&pub, IVC_DRAIN) == 0 ? 0 : 1;
}
