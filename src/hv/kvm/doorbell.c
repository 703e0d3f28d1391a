/* SPDX-License-Identifier: MIT */
/*
 * How a bell reaches a guest: an eventfd that KVM turns into an interrupt, written here, or by KVM itself when the
 * sender's vCPU stores to its doorbell page. It does not know which channel a value stands for.
 */
#include "state.h"
#include <errno.h>
#include <ivc/atomic.h>
#include <sys/ioctl.h>
#include <unistd.h>

void kvm_bell(void *vm, ivc_handle_t handle)
{
	struct ivc_kvm *kvm = vm;
	const uint64_t one = 1;
	ssize_t n;

	if (kvm->config.bell_fd >= 0) {
		do {
			n = write(kvm->config.bell_fd, &one, sizeof(one));
		} while (n < 0 && errno == EINTR);
	} else if (kvm->config.bell) {
		kvm->config.bell(kvm->config.vm, handle);
	}
}

/*
 * One more that starts in @sender. KVM has no bound of its own for these: it keeps them in one list, which it copies when
 * it changes and searches at each store, and peers decide how long that of a publisher gets.
 */
static bool one_more(struct ivc_kvm *sender)
{
	if (ivc_fetch_add_u32(&sender->doorbells, 1) < sender->config.doorbells) {
		return true;
	}
	(void)ivc_fetch_sub_u32(&sender->doorbells, 1);
	return false;
}

int kvm_doorbell(void *from, uint32_t value, void *to, bool on)
{
	struct ivc_kvm *sender = from;
	const struct ivc_kvm *target = to;
	struct kvm_ioeventfd wire = {
		.datamatch = value,
		.addr = sender->config.doorbell.v,
		.len = sizeof(value),
		.fd = target->config.bell_fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	if (wire.addr == 0 || wire.fd < 0) {
		return IVC_E_OPNOTSUPP;
	}
	if (on && !one_more(sender)) {
		return IVC_E_NOSPC;
	}
	if (!ioctl(sender->config.vm_fd, KVM_IOEVENTFD, &wire)) {
		if (!on) {
			(void)ivc_fetch_sub_u32(&sender->doorbells, 1);
		}
		return 0;
	}
	if (on) {
		(void)ivc_fetch_sub_u32(&sender->doorbells, 1);
	}
	switch (errno) {
	case ENOMEM:
		return IVC_E_NOMEM;
	case ENOSPC:
		return IVC_E_NOSPC;
	case EEXIST:
		return IVC_E_EXIST;
	default:
		return IVC_E_IO;
	}
}
