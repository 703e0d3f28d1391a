/* SPDX-License-Identifier: MIT */
/* The beginning of a VMM: a registry over the ops of the KVM host, and where KVM is usable one VM of it. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

#include <ivc/kvm.h>
#include <ivc/text.h>

static void *ram(void *vm, ivc_gpa_t at, uint32_t bytes)
{
	(void)vm;
	(void)at;
	(void)bytes;
	return NULL;
}

static void bell(void *vm, ivc_handle_t handle)
{
	(void)vm;
	(void)handle;
}

/* One VM joins and leaves. */
static int serve(struct ivc_hv *hv, int vm_fd)
{
	const struct ivc_kvm_config host = {.size = sizeof(host),
					    .vm_fd = vm_fd,
					    .bell_fd = -1,
					    .slot_first = 1,
					    .slot_count = 8,
					    .ram = ram,
					    .bell = bell};
	struct ivc_vm_config cfg = {
		.size = sizeof(cfg), .id = ivc_vmid(1), .window = ivc_gpa(UINT64_C(1) << 30), .window_bytes = 1 << 30};
	struct ivc_kvm *kvm;
	struct ivc_vm *vm;
	int status = ivc_kvm_create(&kvm, &host);

	if (status) {
		return status;
	}
	cfg.host = kvm;
	status = ivc_hv_vm_attach(hv, &cfg, &vm);
	while (!status && (status = ivc_hv_vm_detach(vm)) == IVC_E_AGAIN) {
		status = 0;
	}
	ivc_kvm_destroy(kvm);
	return status;
}

int main(void)
{
	const struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = ivc_kvm_ops()};
	const int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const int vm_fd = kvm_fd < 0 ? -1 : ioctl(kvm_fd, KVM_CREATE_VM, 0);
	struct ivc_hv *hv;
	int status;

	if (vm_fd < 0) {
		perror("/dev/kvm");
	}
	(void)ivc_hv_thread_enter();
	status = ivc_hv_create(&hv, &cfg);
	if (!status) {
		status = vm_fd < 0 ? 0 : serve(hv, vm_fd);
		if (ivc_hv_destroy(hv)) {
			status = status ? status : IVC_E_BUSY;
		}
	}
	ivc_hv_thread_leave();
	(void)printf("%s: %s\n", vm_fd < 0 ? "a registry without a VM" : "one VM on KVM",
		     status ? ivc_strerror(status) : "ok");
	return status ? 1 : 0;
}
