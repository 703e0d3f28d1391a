/* SPDX-License-Identifier: MIT */
/* A guest that does the one thing that its argument names. What is right about it is the test's business. */
#include "vm_act.h"

#include <ivc/atomic.h>
#include <ivc/bare.h>

#define LONG_BYTES 600u
#define MANY_BYTES 5000u

static struct ivc_guest guest;
static uint32_t arrived;

static bool is(const char *arg, const char *word)
{
	const size_t n = strlen(word);

	return strlen(arg) >= n && memcmp(arg, word, n) == 0 && (arg[n] == '\0' || arg[n] == ' ');
}

static uint32_t number(const char *arg)
{
	uint32_t n = 0;

	while (*arg != '\0' && *arg != ' ') {
		arg++;
	}
	for (arg += *arg == ' '; *arg >= '0' && *arg <= '9'; arg++) {
		n = n * 10 + (uint32_t)(*arg - '0');
	}
	return n;
}

static void out8(uint16_t port, uint8_t v)
{
	__asm__ __volatile__("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static void out_text(const char *text, size_t n)
{
	__asm__ __volatile__("rep outsb" : "+S"(text), "+c"(n) : "d"((uint16_t)IVC_MACHINE_PORT_CONSOLE) : "memory");
}

__attribute__((noreturn)) static void spin(void)
{
	for (;;) {
		ivc_cpu_relax();
	}
}

/* Every kind of byte, lines that are too long, one without an end. */
static int lines(void)
{
	static const char odd[] = "odd \x01\x1b[31m\x7f\x80\xff\tend\n";
	static char text[LONG_BYTES];

	out_text("one\n\ntwo\r\n", 10);
	out_text(odd, sizeof(odd) - 1);
	memset(text, 'x', sizeof(text));
	out_text(text, sizeof(text));
	out_text("\nlast", 5);
	return 0;
}

static int many(void)
{
	static char text[MANY_BYTES];

	for (size_t i = 0; i < sizeof(text); i++) {
		text[i] = i % 50 == 49 ? '\n' : (char)('a' + i / 50 % 26);
	}
	out_text(text, sizeof(text));
	return 0;
}

/* Ports and addresses of nobody: what they read as, and that writes do nothing. */
static int nobody(void)
{
	volatile uint64_t *const at = (volatile uint64_t *)(uintptr_t)UINT64_C(0xd0000000);
	volatile uint32_t *const page = (volatile uint32_t *)(uintptr_t)(IVC_MACHINE_PAGE + 0x500);
	volatile uint64_t *const window = (volatile uint64_t *)(uintptr_t)(IVC_MACHINE_WINDOW + 0x12345678);
	uint32_t port;

	__asm__ __volatile__("inl $0x80, %0" : "=a"(port));
	*at = 5;
	*page = 5;
	*window = 5;
	out8(0x80, 5);
	ivc_bare_print("port %x memory %lx page %x window %lx\n", port, *at, *page, *window);
	return 0;
}

static int told(const struct ivc_machine *m)
{
	ivc_bare_print("magic %x bytes %u vm %lu vcpus %u flags %x\n", m->magic, m->bytes, m->vm, m->vcpus, m->flags);
	ivc_bare_print("ram %lx free %lx stacks %lx hz %lu\n", m->ram_bytes, m->ram_free, m->ram_stacks, m->tsc_hz);
	ivc_bare_print("arg '%s'\n", m->arg);
	return m->random == 0;
}

static int clock(void)
{
	struct ivc_vm_info info;
	uint32_t low, high;

	if (ivc_call_vm_info(&guest, 0, &info) != 0) {
		return 1;
	}
	__asm__ __volatile__("rdtsc" : "=a"(low), "=d"(high));
	ivc_bare_print("tsc %lu hz %lu offset %ld\n", (uint64_t)high << 32 | low, info.counter_hz, info.counter_offset);
	return 0;
}

static int service(void)
{
	static uint64_t buffer[2] = {1, 2};
	const int64_t answer = ivc_bare_service(VM_ACT_SERVICE, buffer, sizeof(buffer));

	ivc_bare_print("answer %ld buffer %lu %lu\n", answer, buffer[0], buffer[1]);
	ivc_bare_print("outside %ld\n", ivc_bare_service(VM_ACT_SERVICE, (void *)(uintptr_t)UINT64_C(0xc0000000), 16));
	return 0;
}

/* A channel of its own, so that there is something to take away when it ends. */
static int publish(void)
{
	struct ivc_call_region region;

	if (ivc_call_publish(&guest, 0, (ivc_key_t){VM_ACT_KEY}, 8192,
			     IVC_LAYOUT_SECTIONED | UINT64_C(4) << IVC_LAYOUT_SEATS_SHIFT, &region) != 0) {
		return 1;
	}
	*(volatile uint64_t *)(uintptr_t)(region.base.v + 4096) = 1;
	ivc_bare_print("published\n");
	return 0;
}

static int wait(uint64_t ns)
{
	ivc_handle_t rang;
	const int err = ivc_call_wait(&guest, (ivc_handle_t){0}, ns, &rang);

	ivc_bare_print("waited %d\n", err);
	return 0;
}

static int call(const char *arg)
{
	if (ivc_guest_init(&guest, ivc_bare_env()) != 0) {
		return 99;
	}
	if (is(arg, "clock")) {
		return clock();
	}
	if (is(arg, "wait")) {
		return wait(IVC_FOREVER);
	}
	if (is(arg, "calls")) {
		for (;;) {
			(void)ivc_call_vm_id(&guest);
		}
	}
	if (is(arg, "until")) { /* until the hypervisor is gone */
		ivc_bare_print("calling\n");
		while (ivc_call_vm_id(&guest) >= 0) {
		}
		ivc_bare_print("gone\n");
		return 5;
	}
	if (publish()) {
		return 98;
	}
	if (is(arg, "publish-wait")) {
		return wait(IVC_FOREVER);
	}
	if (is(arg, "publish-exit")) {
		return 0;
	}
	spin();
}

static int cpus(const struct ivc_machine *m, uint32_t vcpu)
{
	ivc_bare_print("cpu %u of %u\n", vcpu, m->vcpus);
	(void)ivc_fetch_add_u32(&arrived, 1);
	while (vcpu == 0 && ivc_load_acquire_u32(&arrived) < m->vcpus) {
		ivc_cpu_relax();
	}
	return 0;
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const char *arg = m->arg;

	if (is(arg, "cpus")) {
		return cpus(m, vcpu);
	}
	if (vcpu != 0) {
		return 0;
	}
	if (is(arg, "exit")) {
		return (int)number(arg);
	}
	if (is(arg, "spin")) {
		spin();
	}
	if (is(arg, "print")) {
		for (;;) {
			ivc_bare_print("again and again\n");
		}
	}
	if (is(arg, "stop")) {
		out8(IVC_MACHINE_PORT_STOP, 0);
	}
	if (is(arg, "fault")) {
		*(volatile uint32_t *)(uintptr_t)VM_ACT_NOWHERE = 1;
	}
	if (is(arg, "ud2")) {
		__asm__ __volatile__("movq %0, %%r15\n\tud2" : : "i"(VM_ACT_R15) : "r15");
	}
	if (is(arg, "lost")) {
		__asm__ __volatile__("jmp *%0" : : "r"(IVC_MACHINE_PAGE));
	}
	if (is(arg, "lines")) {
		return lines();
	}
	if (is(arg, "many")) {
		return many();
	}
	if (is(arg, "nobody")) {
		return nobody();
	}
	if (is(arg, "told")) {
		return told(m);
	}
	if (is(arg, "service")) {
		return service();
	}
	return call(arg);
}
