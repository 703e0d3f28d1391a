/* SPDX-License-Identifier: MIT */
/*
 * What /dev/kvm gives a VM: descriptors, the slot of its RAM, its vCPUs, the rate of its clock. It decides which sentence
 * somebody reads whose machine cannot run VMs; it knows no guest.
 */
#include "state.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE       "/dev/kvm"
#define API          12
#define SLOTS_LEAST  31        /* where KVM does not say how many there are */
#define SLOT_ZAP_ALL (1u << 7) /* KVM_X86_QUIRK_SLOT_ZAP_ALL, newer than some headers */
#define WHY(...)     (void)snprintf(why, VMM_WHY_BYTES, __VA_ARGS__)

static const struct {
	unsigned int cap;
	const char *name;
} needed[] = {
	{KVM_CAP_USER_MEMORY, "memory of the VMM"}, {KVM_CAP_READONLY_MEM, "read-only memory slots"},
	{KVM_CAP_EXT_CPUID, "CPUID tables"},        {KVM_CAP_IRQCHIP, "interrupt controllers"},
	{KVM_CAP_IRQFD, "interrupts by eventfd"},   {KVM_CAP_IRQ_ROUTING, "interrupt routes"},
	{KVM_CAP_MP_STATE, "vCPU states"},
};

int vmm_kvm_error(char *why, const char *what)
{
	const int e = errno;
	const char *remedy = "";
	int err = IVC_E_IO;

	switch (e) {
	case EMFILE:
	case ENFILE:
		remedy = "; raise ulimit -n";
		err = IVC_E_NOMEM;
		break;
	case ENOMEM:
	case ENOSPC:
		err = IVC_E_NOMEM;
		break;
	case EBUSY:
		remedy = "; end the other hypervisor of this machine";
		break;
	case EPERM:
	case EACCES:
		err = IVC_E_PERM;
		break;
	default:
		break;
	}
	WHY("%s failed: %s%s", what, strerror(e), remedy);
	return err;
}

/* The remedy is that of the device as it is: to join a group helps only where the group may use it. */
static int no_permission(char *why)
{
	struct group group, *found = NULL;
	char names[4096], number[16];
	struct stat st;

	if (stat(DEVICE, &st) || (st.st_mode & 0060) != 0060 || st.st_gid == 0) {
		WHY("no permission for " DEVICE ": sudo setfacl -m u:$USER:rw " DEVICE ", or sudo chgrp kvm " DEVICE
		    " && sudo chmod 660 " DEVICE " where you are in the group kvm, or run as root");
		return IVC_E_PERM;
	}
	(void)snprintf(number, sizeof(number), "%u", (unsigned int)st.st_gid);
	if (getgrgid_r(st.st_gid, &group, names, sizeof(names), &found)) {
		found = NULL;
	}
	WHY("no permission for " DEVICE ": sudo usermod -aG %.64s $USER, then log in again; or run as root",
	    found ? group.gr_name : number);
	return IVC_E_PERM;
}

int vmm_kvm_open(int *fd, char *why)
{
	const int kvm = open(DEVICE, O_RDWR | O_CLOEXEC);
	int n;

	if (kvm < 0) {
		switch (errno) {
		case ENOENT:
		case ENXIO:
		case ENODEV:
			WHY("there is no " DEVICE ": load the module kvm_intel or kvm_amd (modprobe), or turn "
			    "virtualisation on in the firmware or for the VM that this is");
			return IVC_E_NODEV;
		case EACCES:
		case EPERM:
			return no_permission(why);
		default:
			return vmm_kvm_error(why, "opening " DEVICE);
		}
	}
	n = ioctl(kvm, KVM_GET_API_VERSION, 0);
	if (n != API) {
		if (n < 0) {
			WHY(DEVICE " is not the KVM device (KVM_GET_API_VERSION: %s); look at ls -l " DEVICE,
			    strerror(errno));
		} else {
			WHY(DEVICE " is the KVM interface %d, not %d: this needs Linux 5.10 or later", n, API);
		}
		(void)close(kvm);
		return IVC_E_OPNOTSUPP;
	}
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (ioctl(kvm, KVM_CHECK_EXTENSION, needed[i].cap) <= 0) {
			WHY("the KVM of this machine has no %s: this needs Linux 5.10 or later", needed[i].name);
			(void)close(kvm);
			return IVC_E_OPNOTSUPP;
		}
	}
	*fd = kvm;
	return 0;
}

int vmm_usable(char *why)
{
	int kvm, vm, err;

	err = vmm_kvm_open(&kvm, why);
	if (err) {
		return err;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		err = vmm_kvm_error(why, "making a VM with " DEVICE);
	} else {
		(void)close(vm);
	}
	(void)close(kvm);
	return err;
}

/* vmm_kvm_machine - the VM's descriptor, its RAM, and the bounds of everything else. */
int vmm_kvm_machine(struct vmm *vm, uint64_t slots_max, char *why)
{
	struct kvm_userspace_memory_region slot = {.slot = VMM_SLOT_RAM, .memory_size = vm->ram_bytes};
	uint64_t map = VMM_AT_KVM_MAP;
	void *ram;
	int n;

	n = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (n > 0 && vm->vcpus > (uint32_t)n) {
		WHY("%u vCPUs; the KVM of this machine has at most %d for a VM", vm->vcpus, n);
		return IVC_E_INVAL;
	}
	n = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	n = n > 1 ? n - 1 : SLOTS_LEAST; /* one is the RAM's */
	if (slots_max > (uint32_t)n) {
		WHY("%" PRIu64 " memory slots for channels; the KVM of this machine has at most %d", slots_max, n);
		return IVC_E_INVAL;
	}
	vm->slots = slots_max ? (uint32_t)slots_max : (uint32_t)n < VMM_SLOTS ? (uint32_t)n : VMM_SLOTS;
	n = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (n < (int)sizeof(struct kvm_run)) {
		return vmm_kvm_error(why, "asking for the size of a vCPU");
	}
	vm->run_bytes = (uint32_t)n;
	vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->vm_fd < 0) {
		return vmm_kvm_error(why, "making a VM with " DEVICE);
	}
	/* Where KVM on Intel CPUs keeps three pages of its own; elsewhere nothing changes, and nothing depends on it. */
	(void)ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &map);
	(void)ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, VMM_AT_KVM_TSS);
	/* A slot that goes takes only its own pages out of the VM's tables, where KVM can do so (Linux 6.12). */
	(void)ioctl(vm->vm_fd, KVM_ENABLE_CAP,
		    &(struct kvm_enable_cap){.cap = KVM_CAP_DISABLE_QUIRKS2, .args = {SLOT_ZAP_ALL}});
	ram = mmap(NULL, vm->ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED) {
		WHY("no %" PRIu64 " KiB of memory for the RAM of the VM: give a smaller --mem", vm->ram_bytes >> 10);
		return IVC_E_NOMEM;
	}
	vm->ram = ram;
	/* A child of fork() has no use for it, and must not make its pages copies of each other. */
	(void)madvise(ram, vm->ram_bytes, MADV_DONTFORK);
	slot.userspace_addr = (uint64_t)(uintptr_t)ram;
	if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot)) {
		return vmm_kvm_error(why, "giving the VM its RAM");
	}
	return 0;
}

int vmm_kvm_vcpu(struct vmm_vcpu *vcpu, char *why)
{
	void *run;

	vcpu->fd = ioctl(vcpu->vm->vm_fd, KVM_CREATE_VCPU, vcpu->index);
	if (vcpu->fd < 0) {
		return vmm_kvm_error(why, "making a vCPU");
	}
	run = mmap(NULL, vcpu->vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED) {
		return vmm_kvm_error(why, "mapping a vCPU");
	}
	vcpu->run = run;
	return 0;
}

/*
 * The guest's counter is the host's plus an offset that KVM tells exactly; a measured one would be wrong by the time of
 * an exit. All vCPUs get the offset of the first.
 */
void vmm_kvm_clock(struct vmm *vm)
{
	uint64_t offset = 0;
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)(uintptr_t)&offset};
	const int khz = ioctl(vm->vcpu[0].fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0) {
		return;
	}
	vm->tsc_hz = (uint64_t)khz * 1000u;
	if (ioctl(vm->vcpu[0].fd, KVM_GET_DEVICE_ATTR, &attr)) {
		return;
	}
	for (uint32_t i = 1; i < vm->vcpus; i++) {
		if (ioctl(vm->vcpu[i].fd, KVM_SET_DEVICE_ATTR, &attr)) {
			return;
		}
	}
	vm->clock_hz = vm->tsc_hz;
	vm->tsc_offset = (int64_t)offset;
}

static void give_back(int *fd)
{
	if (*fd >= 0) {
		(void)close(*fd);
	}
	*fd = -1;
}

/* vmm_kvm_close - all of the above, also where it was not completed. */
void vmm_kvm_close(struct vmm *vm)
{
	for (uint32_t i = 0; i < VMM_VCPUS_MAX; i++) {
		if (vm->vcpu[i].run) {
			(void)munmap(vm->vcpu[i].run, vm->run_bytes);
		}
		give_back(&vm->vcpu[i].fd);
	}
	give_back(&vm->bell_fd);
	give_back(&vm->wake_fd);
	give_back(&vm->vm_fd);
	give_back(&vm->kvm_fd);
	if (vm->ram) {
		(void)munmap(vm->ram, vm->ram_bytes);
	}
	free(vm->cpuid);
}
