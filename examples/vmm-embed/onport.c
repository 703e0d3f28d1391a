/* SPDX-License-Identifier: MIT */
/*
 * A VMM with one VM per process, and what it takes to give it channels: the lines between the markers. The rest is a
 * VMM as it was. The registry is another process, `ivc hv`; a thread here does what it asks for.
 */
#include "bare.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
/* ivc: begin */
#include <ivc/kvm.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WINDOW       UINT64_C(0x80000000) /* guest-physical addresses that are neither RAM nor device */
#define WINDOW_BYTES UINT64_C(0x40000000)
/* ivc: end */

static struct vm {
	struct bare bare;
	pthread_t thread;
	/* ivc: begin */
	struct ivc_kvm *kvm;
	struct ivc_vm *member;
	struct ivc_kvm_vcpu vcpu;
	pthread_t server;
	int stop_fd;
	/* ivc: end */
} vm;

/* ivc: begin */
static void *ram_at(void *v, ivc_gpa_t at, uint32_t bytes)
{
	return bare_ram(v, at.v, bytes);
}

/* Maps and unmaps as the registry says, until the VM stops, or the registry is gone: calls are IVC_E_SHUTDOWN then. */
static void *serve(void *arg)
{
	struct pollfd fd[2] = {{ivc_port_fd(vm.member), POLLIN, 0}, {vm.stop_fd, POLLIN, 0}};

	while (poll(fd, 2, -1) < 0 || (!fd[1].revents && !ivc_port_serve(vm.member))) {
	}
	return arg;
}

static int channels_join(const char *where, uint32_t id)
{
	const struct ivc_kvm_config host = {.size = sizeof(host),
					    .vm_fd = vm.bare.vm_fd,
					    .bell_fd = -1,
					    .slot_first = 1,
					    .slot_count = 64,
					    .vm = &vm.bare,
					    .ram = ram_at};
	struct ivc_vm_config cfg = {.size = sizeof(cfg),
				    .flags = IVC_PORT_NO_VIEW,
				    .id = {id},
				    .window = {WINDOW},
				    .window_bytes = WINDOW_BYTES};
	int err = ivc_kvm_create(&vm.kvm, &host);

	cfg.host = vm.kvm;
	err = err ? err : ivc_kvm_cpuid(vm.bare.cpuid, BARE_CPUID_ROOM, IVC_X86_TRAP_PORT, ivc_gpa(0), ivc_gpa(0));
	err = err ? err : ivc_port_connect(&vm.member, where, &cfg, ivc_kvm_ops());
	vm.stop_fd = eventfd(0, EFD_CLOEXEC);
	return err || vm.stop_fd < 0 || pthread_create(&vm.server, NULL, serve, NULL) ? -1 : 0;
}

/* Its vCPU has stopped. */
static void channels_leave(void)
{
	(void)eventfd_write(vm.stop_fd, 1);
	pthread_join(vm.server, NULL);
	while (ivc_hv_vm_detach(vm.member) == IVC_E_AGAIN) {
	}
	ivc_kvm_destroy(vm.kvm);
	close(vm.stop_fd);
}
/* ivc: end */

static void *vcpu_main(void *arg)
{
	/* ivc: begin */
	ivc_kvm_vcpu_init(&vm.vcpu, vm.kvm, vm.member, vm.bare.vcpu_fd, vm.bare.run);
	/* ivc: end */
	for (;;) {
		/* ivc: begin */
		enum ivc_kvm_verdict verdict;
		/* ivc: end */

		if (ioctl(vm.bare.vcpu_fd, KVM_RUN, 0)) {
			if (errno == EINTR) {
				continue;
			}
			perror("KVM_RUN");
			vm.bare.status = 255;
			break;
		}
		/* ivc: begin */
		verdict = ivc_kvm_exit(&vm.vcpu);
		if (verdict == IVC_KVM_DONE) {
			continue;
		}
		if (verdict == IVC_KVM_FAILED) {
			vm.bare.status = 255; /* its registers cannot be read */
			break;
		}
		/* ivc: end */
		if (!bare_exit(&vm.bare)) {
			break;
		}
	}
	return arg;
}

int main(int argc, char **argv)
{
	const bool publishes = argc == 3 && strcmp(argv[2], "publish") == 0;
	const char *begin = publishes ? guest_publisher : guest_subscriber;
	const char *end = publishes ? guest_publisher_end : guest_subscriber_end;

	if (!publishes && (argc != 3 || strcmp(argv[2], "subscribe") != 0)) {
		fprintf(stderr, "usage: onport unix:PATH publish|subscribe\n");
		return 2;
	}
	if (bare_open(&vm.bare, publishes ? "vm1" : "vm2")) {
		return 1;
	}
	/* ivc: begin */
	if (channels_join(argv[1], publishes ? 1 : 2)) {
		fprintf(stderr, "%s: no registry behind %s, or it refuses\n", vm.bare.name, argv[1]);
		return 1;
	}
	/* ivc: end */
	if (bare_boot(&vm.bare, begin, end) || pthread_create(&vm.thread, NULL, vcpu_main, NULL)) {
		return 1;
	}
	pthread_join(vm.thread, NULL);
	/* ivc: begin */
	channels_leave();
	/* ivc: end */
	bare_close(&vm.bare);
	return (int)vm.bare.status;
}
