/* SPDX-License-Identifier: MIT */
/*
 * The interpreter of orders as a guest: each vCPU asks whoever runs the VM for the next order, and brings the last answer
 * along. It knows no host and decides nothing.
 */
#include "puppet.h"

#include <ivc/atomic.h>
#include <ivc/bare.h>

#define VCPUS 4u

static struct ivc_guest guest;
static uint32_t ready; /* atomic: 1: guest may be used, 2: it cannot be */
static struct puppet puppets[VCPUS];
static struct puppet_box boxes[VCPUS];

static void *at(void *os, uint64_t gpa)
{
	(void)os;
	return (void *)(uintptr_t)gpa;
}

static uint64_t now_ns(void *os)
{
	(void)os;
	return ivc_bare_now_ns();
}

static void nap(void *os)
{
	(void)os;
	(void)ivc_bare_service(PUPPET_SERVICE_NAP, NULL, 0);
}

static void copy(void *to, const void *from, uint64_t bytes)
{
	(void)memcpy(to, from, bytes);
}

/* 32 bytes in one access: what is revoked below it must stay backed for such a reader too. */
static void copy_avx(void *to, const void *from, uint64_t bytes)
{
	uint64_t done = 0;

	for (; done + 32 <= bytes; done += 32) {
		__asm__ __volatile__("vmovdqu (%0), %%ymm0\n\tvmovdqu %%ymm0, (%1)\n\tvzeroupper"
				     :
				     : "r"((const char *)from + done), "r"((char *)to + done)
				     : "memory");
	}
	copy((char *)to + done, (const char *)from + done, bytes - done);
}

static bool has_avx(void)
{
	uint32_t a = 1, b, c = 0, d, low, high;

	__asm__ __volatile__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if ((c >> 27 & 3) != 3) {
		return false;
	}
	__asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & 6) == 6;
}

static void obey(struct puppet *p, struct puppet_box *box)
{
	switch (box->order.op) {
	case PUPPET_DIE:
		__asm__ __volatile__("ud2");
		break;
	case PUPPET_LEAVE:
		puppet_close_all(p);
		ivc_bare_exit(0);
	case PUPPET_EXIT:
		ivc_bare_exit((uint32_t)box->order.arg[0]);
	default:
		(void)puppet_do(p, &box->order, &box->answer);
		break;
	}
	box->answered = 1;
}

static void start(void)
{
	struct ivc_env env = *ivc_bare_env();
	const int err = ivc_guest_init(&guest, &env);

	if (err) {
		ivc_bare_print("ivc_guest_init: %d\n", err);
	}
	ivc_store_release_u32(&ready, err ? 2 : 1);
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	struct puppet *p = &puppets[vcpu % VCPUS];
	struct puppet_box *box = &boxes[vcpu % VCPUS];

	(void)m;
	if (vcpu == 0) {
		start();
	}
	while (ivc_load_acquire_u32(&ready) == 0) {
		nap(NULL);
	}
	if (ivc_load_acquire_u32(&ready) == 2) {
		return 60;
	}
	p->g = &guest;
	p->vcpu = vcpu;
	p->os.at = at;
	p->os.now_ns = now_ns;
	p->os.nap = nap;
	p->os.copy = has_avx() ? copy_avx : copy;
	for (;;) {
		const int64_t err = ivc_bare_service(PUPPET_SERVICE_NEXT, box, sizeof(*box));

		if (err == IVC_E_AGAIN) {
			box->answered = 0; /* another vCPU is about to end this VM */
		} else if (err) {
			return 61;
		} else {
			obey(p, box);
		}
	}
}
