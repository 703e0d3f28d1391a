/* SPDX-License-Identifier: MIT */
/*
 * Sends a message every 50 ms to whoever sleeps: bell.c. It sleeps in the WAIT call itself, but its note asks for
 * interrupts, and with them comes a doorbell page: the guest library rings by a store there.
 *
 *	ivc vm run ringer.elf + bell.elf
 *	vm1| 20 messages, 1 reader
 *
 * --arg: "key=K count=N ms=N"
 */
#include <ivc/bare.h>
#include <ivc/text.h>

#define VECTOR 0x60
#define MS     UINT64_C(1000000)

IVC_BARE_NOTE(IVC_MACHINE_INTERRUPTS, VECTOR);

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const uint64_t count = ivc_bare_arg(m, "count", 20);
	const uint64_t each = ivc_bare_arg(m, "ms", 50) * MS;
	static struct ivc_guest guest;
	static struct ivc_pub pub;
	static struct ivc_seat seat;
	ivc_handle_t rang;
	int err;

	if (vcpu != 0) {
		return 0;
	}
	err = ivc_guest_init(&guest, ivc_bare_env());
	err = err != 0 ? err : ivc_pub_open(&pub, &guest, ivc_key(ivc_bare_arg(m, "key", 1)), NULL, &seat);
	err = err != 0 ? err : ivc_pub_await(&pub, 1, IVC_FOREVER);
	for (uint64_t i = 1; i <= count && err == 0; i++) {
		const uint64_t message[2] = {i, count};

		(void)ivc_call_wait(&guest, (ivc_handle_t){0}, each, &rang); /* a pause */
		err = ivc_pub_send(&pub, message, sizeof(message), IVC_FOREVER);
	}
	err = err != 0 ? err : ivc_pub_drain(&pub, IVC_FOREVER);
	if (err != 0) {
		ivc_bare_print("ringer: %s\n", ivc_strerror(err));
		return 1;
	}
	ivc_bare_print("%lu messages, %d reader\n", count, ivc_pub_readers(&pub));
	return ivc_pub_close(&pub, IVC_DRAIN) == 0 ? 0 : 1;
}
