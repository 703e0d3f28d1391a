/* SPDX-License-Identifier: MIT */
/* The smallest guest image: it finds its hypervisor and says who it is. */
#include <ivc/bare.h>
#include <ivc/text.h>

static struct ivc_guest guest;

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	struct ivc_guest_facts facts;
	const int status = ivc_guest_init(&guest, ivc_bare_env());

	if (status) {
		ivc_bare_print("no hypervisor: %s\n", ivc_strerror(status));
		return 1;
	}
	ivc_guest_info(&guest, &facts);
	ivc_bare_print("VM %llu of %llu KiB, vCPU %u\n", (unsigned long long)facts.vm.v,
		       (unsigned long long)m->ram_bytes >> 10, vcpu);
	return 0;
}
