/* SPDX-License-Identifier: MIT */
/*
 * How long does a message take to another VM and back? Publishes a channel, sends one message after the other, waits for
 * each to come back from pong.c, and tells what its own clock says.
 *
 *	ivc vm run ping.elf + pong.elf
 *	vm1| 20000 round trips of 64 bytes: least 147 ns, median 190 ns, 99 % 402 ns, most 30641 ns
 *	vm2| sent 20100 messages back
 *
 * --arg: "key=K count=N"
 */
#include <ivc/bare.h>
#include <ivc/text.h>

IVC_BARE_NOTE(0, 0);

#define COUNT_MAX 100000u
#define WARM_UP   100u

static uint32_t took[COUNT_MAX]; /* ns */

static void sort(uint32_t *v, size_t count)
{
	for (size_t gap = count / 2; gap != 0; gap /= 2) {
		for (size_t i = gap; i < count; i++) {
			const uint32_t one = v[i];
			size_t at = i;

			for (; at >= gap && v[at - gap] > one; at -= gap) {
				v[at] = v[at - gap];
			}
			v[at] = one;
		}
	}
}

/* Sends @number and waits for it. Return: 0; IVC_E_*. */
static int round_trip(struct ivc_pub *p, uint64_t number)
{
	uint64_t message[8] = {number};
	uint64_t answer[8] = {0};
	int64_t n;

	n = ivc_pub_send(p, message, sizeof(message), IVC_FOREVER);
	n = n != 0 ? n : ivc_pub_recv(p, NULL, answer, sizeof(answer), IVC_FOREVER);
	if (n >= 0 && (n != (int64_t)sizeof(answer) || answer[0] != number)) {
		n = IVC_E_BADMSG;
	}
	return n < 0 ? (int)n : 0;
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const uint64_t wanted = ivc_bare_arg(m, "count", 20000);
	const uint32_t count = wanted == 0 || wanted > COUNT_MAX ? COUNT_MAX : (uint32_t)wanted;
	static struct ivc_guest guest;
	static struct ivc_pub pub;
	static struct ivc_seat seat;
	int err;

	if (vcpu != 0) {
		return 0;
	}
	err = ivc_guest_init(&guest, ivc_bare_env());
	err = err != 0 ? err : ivc_pub_open(&pub, &guest, ivc_key(ivc_bare_arg(m, "key", 1)), NULL, &seat);
	err = err != 0 ? err : ivc_pub_await(&pub, 1, IVC_FOREVER);
	for (uint32_t i = 0; i < count + WARM_UP && err == 0; i++) {
		const uint64_t begin = ivc_bare_now_ns();

		err = round_trip(&pub, i);
		took[i < WARM_UP ? 0 : i - WARM_UP] = (uint32_t)(ivc_bare_now_ns() - begin);
	}
	if (err != 0) {
		ivc_bare_print("ping: %s\n", ivc_strerror(err));
		return 1;
	}
	sort(took, count);
	ivc_bare_print("%u round trips of 64 bytes: least %u ns, median %u ns, 99 %% %u ns, most %u ns\n", count,
		       took[0], took[count / 2], took[count - 1 - count / 100], took[count - 1]);
	return ivc_pub_close(&pub, IVC_DRAIN) == 0 ? 0 : 1;
}
