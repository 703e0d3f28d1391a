/* SPDX-License-Identifier: MIT */
/*
 * VM 2 subscribes to channel "temp" of VM 1 and prints what comes until the publisher closes it.
 * Try it, in three shells: ivc hv --socket /tmp/ivc.sock, ./publisher, ./subscriber
 */
#include <ivc/connect.h>
#include <stdio.h>

#define KEY_TEMP 0x706d6574 /* "temp" */

int main(int argc, char **argv)
{
	const char *where = argc > 1 ? argv[1] : "unix:/tmp/ivc.sock";
	struct ivc_guest g;
	struct ivc_sub temp;
	char text[256];
	int64_t n;

	n = ivc_guest_connect(&g, where, ivc_vmid(2));
	n = n ? n : ivc_sub_open(&temp, &g, ivc_vmid(1), ivc_key(KEY_TEMP), NULL);
	while (n >= 0) {
		n = ivc_sub_recv(&temp, text, sizeof(text), IVC_FOREVER);
		(void)fwrite(text, 1, n > 0 ? (size_t)n : 0, stdout);
	}
	if (n != IVC_E_PIPE) { /* PIPE: the publisher has closed it, and everything was read */
		(void)fprintf(stderr, "subscriber: %s\n", ivc_guest_why(&g));
	}
	ivc_guest_disconnect(&g);
	return n == IVC_E_PIPE ? 0 : 1;
}
