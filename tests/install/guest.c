/* SPDX-License-Identifier: MIT */
/* The smallest guest program: the headers are enough, and the texts are in the library. */
#include <stdio.h>

#include <ivc/abi.h>
#include <ivc/guest.h>
#include <ivc/text.h>

int main(void)
{
	char text[64];

	(void)ivc_call_format(text, sizeof(text), IVC_HC_PUBLISH);
	(void)puts(text);
	return 0;
}
