/* SPDX-License-Identifier: MIT */
/*
 * VM 1 publishes channel "temp" and sends three messages to whoever listens.
 * Try it, in three shells: ivc hv --socket /tmp/ivc.sock, ./publisher, ./subscriber
 */
#include <ivc/connect.h>
#include <stdio.h>

#define KEY_TEMP 0x706d6574 /* "temp", as ivc pub and ivc sub take it: the first character is the lowest byte */

int main(int argc, char **argv)
{
	const char *where = argc > 1 ? argv[1] : "unix:/tmp/ivc.sock";
	struct ivc_guest g;
	struct ivc_pub temp;
	struct ivc_seat seat;
	char text[32];
	int err;

	err = ivc_guest_connect(&g, where, ivc_vmid(1));
	err = err ? err : ivc_pub_open(&temp, &g, ivc_key(KEY_TEMP), NULL, &seat);
	err = err ? err : ivc_pub_await(&temp, 1, IVC_FOREVER); /* a channel is not a store: wait for the reader */
	for (int i = 0; i < 3 && !err; i++) {
		const int n = snprintf(text, sizeof(text), "%d degrees\n", 20 + i);

		err = ivc_pub_send(&temp, text, (size_t)n, IVC_FOREVER);
	}
	err = err ? err : ivc_pub_drain(&temp, IVC_FOREVER); /* until it has read all */
	err = err ? err : ivc_pub_close(&temp, IVC_DRAIN);
	if (err) {
		(void)fprintf(stderr, "publisher: %s\n", ivc_guest_why(&g));
	}
	ivc_guest_disconnect(&g);
	return err ? 1 : 0;
}
