/* SPDX-License-Identifier: MIT */
/* The smallest embedder: the library that it is linked with is the one that its headers describe. */
#include <stdio.h>

#include <ivc/hv.h>
#include <ivc/text.h>

int main(void)
{
	const struct ivc_hv_config cfg = {.size = sizeof(cfg)};

	(void)printf("ivc %x, %s, %d\n", (unsigned int)ivc_version(), ivc_strerror(IVC_E_NOENT),
		     ivc_hv_bytes(&cfg) != 0);
	return ivc_version() == IVC_VERSION ? 0 : 1;
}
