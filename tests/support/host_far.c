/* SPDX-License-Identifier: MIT */
/*
 * Who runs a VM of a test: gets orders over a socket per vCPU, gives them to the interpreter in this process or in a guest,
 * sends the answers back. It decides what an end is; it asserts nothing.
 */
#include "host_state.h"
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

static bool next(int fd, struct puppet_order *o)
{
	ssize_t n;

	do {
		n = recv(fd, o, sizeof(*o), 0);
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*o);
}

static void answer(int fd, const struct puppet_answer *a)
{
	const ssize_t n = send(fd, a, sizeof(*a), MSG_NOSIGNAL);

	(void)n; /* a test that is over does not listen */
}

static void doze(void *os)
{
	const struct timespec ns = {.tv_nsec = 200000};

	(void)os;
	(void)nanosleep(&ns, NULL);
}

void host_far_shut(struct host_vm *vm, uint32_t spared)
{
	ivc_store_release_u32(&vm->shut, 1);
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		if (i != spared) {
			(void)shutdown(vm->far[i], SHUT_RDWR);
		}
	}
}

/* ------------------------------------------------------------------------------------------- a process that is a VM */

struct far_process {
	struct host_vm *vm;
	const char *where;
	struct ivc_guest g;
	struct ivc_connect_info info;
};

struct far_vcpu {
	struct far_process *far;
	pthread_t thread;
	struct puppet puppet;
};

static void *at(void *os, uint64_t gpa)
{
	const struct far_process *far = os;

	if (gpa - far->info.window.v >= far->info.window_bytes) {
		return NULL;
	}
	return (char *)far->info.window_at + (gpa - far->info.window.v);
}

static uint64_t now_ns(void *os)
{
	(void)os;
	return run_now_ns();
}

static void copy(void *to, const void *from, uint64_t bytes)
{
	memcpy(to, from, bytes);
}

static void process_stats(const struct far_process *far, struct puppet_answer *a)
{
	struct ivc_port_vm_info info;

	memset(a, 0, sizeof(*a));
	a->status = ivc_port_read_vm(far->where, ivc_vmid(far->vm->id), &info);
	if (!a->status) {
		a->value[2] = info.views;
		a->value[3] = info.stats.channels_now;
		a->value[4] = info.stats.memberships_now;
		a->value[5] = info.stats.waits_parked;
	}
}

static void *process_vcpu(void *arg)
{
	struct far_vcpu *v = arg;
	struct puppet *p = &v->puppet;
	const int fd = v->far->vm->far[p->vcpu];
	struct puppet_order o;
	struct puppet_answer a;

	while (next(fd, &o)) {
		switch (o.op) {
		case PUPPET_DIE:
			__builtin_trap();
		case PUPPET_EXIT:
			/* Not _exit(), where a race detector sleeps for a second. */
			(void)syscall(SYS_exit_group, (long)o.arg[0]);
			return NULL;
		case PUPPET_LEAVE:
			puppet_close_all(p);
			host_far_shut(v->far->vm, p->vcpu);
			return NULL;
		case PUPPET_SHELL_STATS:
			process_stats(v->far, &a);
			break;
		default:
			(void)puppet_do(p, &o, &a);
			break;
		}
		answer(fd, &a);
	}
	return NULL;
}

void host_far_process(struct host_vm *vm, const char *where)
{
	struct far_process *far = calloc(1, sizeof(*far));
	struct far_vcpu *v = calloc(HOST_VCPUS, sizeof(*v));

	ACTOR_CHECK(far && v && vm->vcpus > 0 && vm->vcpus <= HOST_VCPUS);
	far->vm = vm;
	far->where = where;
	if (ivc_guest_connect(&far->g, where, ivc_vmid(vm->id))) {
		fprintf(stderr, "VM %u: %s\n", vm->id, ivc_guest_why(&far->g));
		_exit(HOST_STATUS_NONE);
	}
	ACTOR_CHECK(ivc_guest_connection(&far->g, &far->info) == 0);
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		v[i].far = far;
		v[i].puppet.g = &far->g;
		v[i].puppet.vcpu = i;
		v[i].puppet.os = (struct puppet_os){.at = at, .now_ns = now_ns, .nap = doze, .copy = copy, .os = far};
		ACTOR_CHECK(i == 0 || pthread_create(&v[i].thread, NULL, process_vcpu, &v[i]) == 0);
	}
	process_vcpu(&v[0]);
	for (uint32_t i = 1; i < vm->vcpus; i++) {
		pthread_join(v[i].thread, NULL);
	}
	ivc_guest_disconnect(&far->g);
	free(v);
	free(far);
}

/* --------------------------------------------------------------------------------------------- a guest on /dev/kvm */

#ifdef IVC_TESTS_VMM
static struct {
	void *at;
	size_t bytes;
} image;

bool host_far_image(const char **why)
{
	static char text[VMM_WHY_BYTES];
	FILE *file;
	long bytes;

	*why = text;
	if (vmm_usable(text)) {
		return false;
	}
	if (image.at) {
		return true;
	}
	snprintf(text, sizeof(text), "%s is not there: build the test guests", IVC_GUEST_DIR "/puppet.elf");
	file = fopen(IVC_GUEST_DIR "/puppet.elf", "rb");
	if (!file) {
		return false;
	}
	bytes = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
	rewind(file);
	image.at = bytes > 0 ? malloc((size_t)bytes) : NULL;
	image.bytes = bytes > 0 ? (size_t)bytes : 0;
	if (image.at && fread(image.at, image.bytes, 1, file) != 1) {
		free(image.at);
		image.at = NULL;
	}
	fclose(file);
	return image.at != NULL;
}

static void guest_stats(struct host_vm *vm, struct puppet_answer *a)
{
	struct ivc_vm_stats stats;

	memset(a, 0, sizeof(*a));
	ivc_hv_vm_stats(vmm_vm(vm->vmm), &stats);
	a->value[0] = stats.stray_reads;
	a->value[1] = stats.stray_writes;
	a->value[2] = ivc_kvm_views(vmm_kvm(vm->vmm));
	a->value[3] = stats.channels_now;
	a->value[4] = stats.memberships_now;
	a->value[5] = stats.waits_parked;
}

/* The guest brings an answer and wants the next order. */
static int64_t service(void *user, uint32_t vcpu, uint32_t number, void *at_box, uint64_t bytes)
{
	struct host_vm *vm = user;
	struct puppet_box box;

	if (number == PUPPET_SERVICE_NAP) {
		doze(NULL);
		return 0;
	}
	if (number != PUPPET_SERVICE_NEXT || !at_box || bytes != sizeof(box) || vcpu >= vm->vcpus) {
		return IVC_E_INVAL;
	}
	memcpy(&box, at_box, sizeof(box));
	if (box.answered) {
		answer(vm->far[vcpu], &box.answer);
	}
	for (;;) {
		if (!next(vm->far[vcpu], &box.order)) {
			doze(NULL);
			return ivc_load_acquire_u32(&vm->shut) ? IVC_E_AGAIN : IVC_E_SHUTDOWN;
		}
		if (box.order.op != PUPPET_SHELL_STATS) {
			break;
		}
		guest_stats(vm, &box.answer);
		answer(vm->far[vcpu], &box.answer);
	}
	if (box.order.op == PUPPET_DIE || box.order.op == PUPPET_EXIT || box.order.op == PUPPET_LEAVE) {
		host_far_shut(vm, vcpu);
	}
	box.answered = 0;
	memcpy(at_box, &box, sizeof(box));
	return 0;
}

static void line(void *user, const char *text)
{
	const struct host_vm *vm = user;

	fprintf(stderr, "vm%u| %s\n", vm->id, text);
}

struct vmm *host_far_create(struct host_vm *vm, struct ivc_hv *hv, const char *where)
{
	const struct vmm_config cfg = {
		.id = ivc_vmid(vm->id),
		.ram_bytes = UINT64_C(8) << 20,
		.vcpus = vm->vcpus,
		.image = image.at,
		.image_bytes = image.bytes,
		.hv = hv,
		.where = where,
		.user = vm,
		.line = line,
		.service = service,
	};
	char why[VMM_WHY_BYTES] = "";
	struct vmm *vmm;

	if (vmm_create(&vmm, &cfg, why)) {
		fprintf(stderr, "VM %u: %s\n", vm->id, why);
		return NULL;
	}
	return vmm;
}

int host_far_guest(struct host_vm *vm, const char *where)
{
	struct vmm_end end = {0};

	vm->vmm = host_far_create(vm, NULL, where);
	if (!vm->vmm || vmm_start(vm->vmm)) {
		return HOST_STATUS_NONE;
	}
	while (vmm_wait(vm->vmm, HOST_LONG, &end)) {
	}
	vmm_destroy(vm->vmm);
	free(image.at);
	switch (end.kind) {
	case VMM_EXITED:
		return end.code < 64 ? (int)end.code : 64;
	case VMM_CRASHED:
		return HOST_STATUS_CRASHED;
	case VMM_STOPPED:
		return HOST_STATUS_STOPPED;
	default:
		fprintf(stderr, "VM %u: %s\n", vm->id, end.text);
		return HOST_STATUS_FAILED;
	}
}
#else
bool host_far_image(const char **why)
{
	*why = "there is no VMM for this architecture";
	return false;
}

struct vmm *host_far_create(struct host_vm *vm, struct ivc_hv *hv, const char *where)
{
	(void)vm;
	(void)hv;
	(void)where;
	return NULL;
}

int host_far_guest(struct host_vm *vm, const char *where)
{
	(void)vm;
	(void)where;
	return HOST_STATUS_NONE;
}
#endif
