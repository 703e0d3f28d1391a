/* SPDX-License-Identifier: MIT */
/*
 * Everything that the guest kit gives, tried out in images that differ in how the machine starts them. It prints what it
 * saw; the test judges. With interrupts, vCPU 0 interrupts itself by its local APIC as a bell would.
 */
#ifndef IVC_TESTS_KIT_H
#define IVC_TESTS_KIT_H

#include <ivc/bare.h>

#define KIT_VECTOR  0x51u
#define KIT_EXIT    7
#define KIT_SERVICE 3u
#define KIT_MS      UINT64_C(1000000)
#define KIT_SELF    0x40000u /* of the APIC's command register: this vCPU */
#define KIT_COMMAND 0x300u
#define KIT_BYTES   600u

static uint32_t kit_parks; /* the second vCPU is about to sleep */
static uint32_t kit_handled;
static uint32_t kit_done;

static void kit_handler(void)
{
	if (ivc_fetch_add_u32(&kit_handled, 1) == 0) {
		ivc_bare_print("handler %u\n", KIT_VECTOR);
	}
}

/* @step: between the sizes tried; ring 0 is slow where KVM emulates it. */
static inline uint32_t kit_memory(uint32_t step)
{
	static unsigned char from[KIT_BYTES], to[KIT_BYTES], want[KIT_BYTES];
	uint32_t wrong = 0;

	for (uint32_t n = 0; n < KIT_BYTES / 2; n += step) {
		for (uint32_t i = 0; i < KIT_BYTES; i++) {
			from[i] = (unsigned char)(i * 7 + n);
			to[i] = want[i] = (unsigned char)(i * 5);
		}
		for (uint32_t i = 0; i < n; i++) {
			want[i + 3] = from[i + 1];
		}
		wrong += memcpy(to + 3, from + 1, n) != to + 3 || memcmp(to, want, sizeof(to)) != 0;
		/* Up and down over itself. */
		for (uint32_t i = n; i != 0; i--) {
			want[i - 1 + 9] = want[i - 1 + 3];
		}
		wrong += memmove(to + 9, to + 3, n) != to + 9 || memcmp(to, want, sizeof(to)) != 0;
		for (uint32_t i = 0; i < n; i++) {
			want[i] = want[i + 17];
		}
		wrong += memmove(to, to + 17, n) != to || memcmp(to, want, sizeof(to)) != 0;
		for (uint32_t i = 0; i < n; i++) {
			want[i + 5] = 0xa5;
		}
		wrong += memset(to + 5, 0xa5, n) != to + 5 || memcmp(to, want, sizeof(to)) != 0;
		want[n]++;
		wrong += (memcmp(to, want, sizeof(to)) < 0) != (to[n] < want[n]);
	}
	return wrong;
}

static inline void kit_text(void)
{
	ivc_bare_print("%s|%5s|%c|%3c|%d|%i|%5d|%05d|%u|%x|%08x|%%\n", "text", "abc", 'x', 'y', -1, INT32_MIN, -42, -42,
		       UINT32_MAX, 0xbeefu, 0xbeefu);
	ivc_bare_print("%lu|%lld|%zu|%lx|%016lx|%p\n", UINT64_MAX, (long long)INT64_MIN, sizeof(int), UINT64_C(1) << 40,
		       UINT64_C(0xabc), (void *)(uintptr_t)0x1000);
	ivc_bare_print("%600d\n", 1); /* cut: the line has no end of its own */
	ivc_bare_print("\n");
}

/* An interrupt, as a bell of this VM's would be, on the vCPU that calls. */
static inline void kit_interrupt(void)
{
	*(volatile uint32_t *)(uintptr_t)(IVC_MACHINE_APIC + KIT_COMMAND) = KIT_SELF | KIT_VECTOR;
}

static inline void kit_spin(uint64_t ns)
{
	const uint64_t begin = ivc_bare_now_ns();

	while (ivc_bare_now_ns() - begin < ns) {
		ivc_cpu_relax();
	}
}

/* Time that a sleep of at most @ns took, in ms. */
static inline uint64_t kit_park(uint64_t ns)
{
	const struct ivc_env *const env = ivc_bare_env();
	const uint64_t begin = ivc_bare_now_ns();

	(void)env->park(env->os, begin + ns);
	return (ivc_bare_now_ns() - begin) / KIT_MS;
}

static inline void kit_interrupts(const struct ivc_machine *m)
{
	uint64_t seen = 0;

	if ((m->flags & IVC_MACHINE_INTERRUPTS) == 0) {
		ivc_bare_interrupts(kit_handler); /* no effect */
		ivc_bare_print("parks %u\n", ivc_bare_env()->park != NULL);
		return;
	}
	ivc_bare_interrupts(kit_handler);
	ivc_bare_print("parks %u\n", ivc_bare_env()->park != NULL);
	kit_interrupt();
	while ((seen = ivc_bare_interrupts_seen()) == 0) {
		ivc_cpu_relax();
	}
	ivc_bare_print("seen %lu handled %u\n", seen, ivc_load_acquire_u32(&kit_handled));
	if (ivc_bare_env()->park == NULL) {
		return;
	}
	ivc_bare_print("missed none %u\n", kit_park(20000 * KIT_MS) < 10000); /* one came since: no sleep */
	ivc_bare_print("by time %u\n", kit_park(30 * KIT_MS) >= 20);
	ivc_store_release_u32(&kit_parks, 1);
	while (m->vcpus > 1 && ivc_load_acquire_u32(&kit_parks) != 2) {
		ivc_cpu_relax();
	}
	kit_spin(20 * KIT_MS);
	kit_interrupt();
}

static inline void kit_second(const struct ivc_machine *m)
{
	if ((m->flags & IVC_MACHINE_INTERRUPTS) != 0 && (m->flags & IVC_MACHINE_RING0) != 0) {
		while (ivc_load_acquire_u32(&kit_parks) != 1) {
			ivc_cpu_relax();
		}
		(void)kit_park(30 * KIT_MS); /* takes what came until now */
		ivc_store_release_u32(&kit_parks, 2);
		ivc_bare_print("second woken %u\n", kit_park(20000 * KIT_MS) < 10000);
	}
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	static uint64_t box = 40;
	const uint64_t begin = ivc_bare_now_ns();

	if (vcpu != 0) {
		if (vcpu == 1) {
			kit_second(m);
		}
		ivc_bare_print("vcpu %u\n", vcpu);
		(void)ivc_fetch_add_u32(&kit_done, 1);
		return 1; /* is not the VM's */
	}
	kit_text();
	ivc_bare_print("memory %u\n", kit_memory((m->flags & IVC_MACHINE_RING0) != 0 ? 61 : 1));
	ivc_bare_print("clock %u\n", begin != 0 && ivc_bare_now_ns() > begin);
	ivc_bare_print("args %lu %lu %lu %lu\n", ivc_bare_arg(m, "a", 9), ivc_bare_arg(m, "ab", 9),
		       ivc_bare_arg(m, "hex", 9), ivc_bare_arg(m, "b", 9));
	ivc_bare_print("service %ld", ivc_bare_service(KIT_SERVICE, &box, sizeof(box)));
	ivc_bare_print(" box %lu\n", box);
	kit_interrupts(m);
	while (ivc_load_acquire_u32(&kit_done) != m->vcpus - 1) {
		ivc_cpu_relax();
	}
	return KIT_EXIT;
}

#endif
