/* SPDX-License-Identifier: MIT */
/*
 * A VMM with several VMs in one process, and what it takes to give them channels: the lines between the markers. The
 * rest is a VMM as it was. The registry is in this process.
 */
#include "bare.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
/* ivc: begin */
#include <ivc/kvm.h>

#define WINDOW       UINT64_C(0x80000000) /* guest-physical addresses that are neither RAM nor device */
#define WINDOW_BYTES UINT64_C(0x40000000)

static struct ivc_kvm_memory memory; /* what all channels together may take */
static struct ivc_hv *registry;
/* ivc: end */

struct vm {
	struct bare bare;
	pthread_t thread;
	/* ivc: begin */
	struct ivc_kvm *kvm;
	struct ivc_vm *member;
	struct ivc_kvm_vcpu vcpu;
	/* ivc: end */
};

/* ivc: begin */
static void *ram_at(void *vm, ivc_gpa_t at, uint32_t bytes)
{
	return bare_ram(&((const struct vm *)vm)->bare, at.v, bytes);
}

static int channels_open(void)
{
	const struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = ivc_kvm_ops(), .host = &memory};

	memory.limit = ivc_kvm_memory_room(0);
	return ivc_hv_create(&registry, &cfg);
}

static int channels_join(struct vm *v, uint32_t id)
{
	const struct ivc_kvm_config host = {.size = sizeof(host),
					    .vm_fd = v->bare.vm_fd,
					    .bell_fd = -1,
					    .slot_first = 1,
					    .slot_count = 64,
					    .vm = v,
					    .ram = ram_at};
	struct ivc_vm_config cfg = {.size = sizeof(cfg),
				    .id = {id},
				    .window = {WINDOW},
				    .window_bytes = WINDOW_BYTES,
				    .quota = IVC_QUOTA_DEFAULT};
	int err = ivc_kvm_create(&v->kvm, &host);

	cfg.host = v->kvm;
	err = err ? err : ivc_kvm_cpuid(v->bare.cpuid, BARE_CPUID_ROOM, IVC_X86_TRAP_PORT, ivc_gpa(0), ivc_gpa(0));
	return err ? err : ivc_hv_vm_attach(registry, &cfg, &v->member);
}

/* Its vCPU has stopped. */
static void channels_leave(struct vm *v)
{
	while (v->member && ivc_hv_vm_detach(v->member) == IVC_E_AGAIN) {
	}
	ivc_kvm_destroy(v->kvm);
}
/* ivc: end */

static void *vcpu_main(void *arg)
{
	struct vm *v = arg;

	/* ivc: begin */
	(void)ivc_hv_thread_enter();
	ivc_kvm_vcpu_init(&v->vcpu, v->kvm, v->member, v->bare.vcpu_fd, v->bare.run);
	/* ivc: end */
	for (;;) {
		/* ivc: begin */
		enum ivc_kvm_verdict verdict;
		/* ivc: end */

		if (ioctl(v->bare.vcpu_fd, KVM_RUN, 0)) {
			if (errno == EINTR) {
				continue;
			}
			perror("KVM_RUN");
			v->bare.status = 255;
			break;
		}
		/* ivc: begin */
		verdict = ivc_kvm_exit(&v->vcpu);
		if (verdict == IVC_KVM_DONE) {
			continue;
		}
		if (verdict == IVC_KVM_FAILED) {
			v->bare.status = 255; /* its registers cannot be read */
			break;
		}
		/* ivc: end */
		if (!bare_exit(&v->bare)) {
			break;
		}
	}
	/* ivc: begin */
	ivc_hv_thread_leave();
	/* ivc: end */
	return NULL;
}

/* Return: 0, or -1 with nothing left but what vm_end() ends. */
static int vm_start(struct vm *v, const char *name, uint32_t id, const char *begin, const char *end)
{
	if (bare_open(&v->bare, name)) {
		return -1;
	}
	/* ivc: begin */
	if (channels_join(v, id)) {
		fprintf(stderr, "%s: no channels for it\n", name);
		return -1;
	}
	/* ivc: end */
	if (bare_boot(&v->bare, begin, end)) {
		return -1;
	}
	return pthread_create(&v->thread, NULL, vcpu_main, v) ? -1 : 0;
}

static void vm_end(struct vm *v)
{
	/* ivc: begin */
	channels_leave(v);
	/* ivc: end */
	bare_close(&v->bare);
}

int main(void)
{
	static struct vm vm[2];

	/* ivc: begin */
	(void)ivc_hv_thread_enter();
	if (channels_open()) {
		fprintf(stderr, "no memory for the registry\n");
		return 1;
	}
	/* ivc: end */
	if (vm_start(&vm[0], "vm1", 1, guest_publisher, guest_publisher_end) ||
	    vm_start(&vm[1], "vm2", 2, guest_subscriber, guest_subscriber_end)) {
		return 1;
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(vm[i].thread, NULL);
	}
	for (int i = 0; i < 2; i++) {
		vm_end(&vm[i]);
	}
	/* ivc: begin */
	if (ivc_hv_destroy(registry)) {
		return 1;
	}
	ivc_hv_thread_leave();
	/* ivc: end */
	return vm[0].bare.status || vm[1].bare.status;
}
