/* SPDX-License-Identifier: MIT */
/*
 * A vCPU that is a thread of this process and sleeps where it is. It decides how one sleeps; it knows neither registry
 * nor port, only the entry.
 */
#include <ivc/atomic.h>
#include <ivc/port.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WOKEN 1u
#define STOP  2u

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Until the word is not zero or @deadline_ns has passed; may return early. */
static void futex_wait(uint32_t *word, uint64_t deadline_ns)
{
	struct timespec until, *at = NULL;

	if (deadline_ns != IVC_FOREVER) {
		until.tv_sec = (time_t)(deadline_ns / 1000000000u);
		until.tv_nsec = (long)(deadline_ns % 1000000000u);
		at = &until;
	}
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, 0, at, NULL, FUTEX_BITSET_MATCH_ANY);
}

static bool passed(uint64_t deadline_ns)
{
	struct timespec t;

	if (deadline_ns == IVC_FOREVER) {
		return false;
	}
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec >= deadline_ns;
}

enum ivc_verdict ivc_hv_call_sleep(struct ivc_vm *vm, struct ivc_sleeper *vcpu, struct ivc_call *call)
{
	enum ivc_verdict verdict;
	uint32_t word;

	ivc_fetch_and_u32(&vcpu->word, ~WOKEN);
	verdict = ivc_hv_hypercall(vm, vcpu, call);
	while (verdict == IVC_PARKED) {
		/* [SLEEP-WAKE] acquire: WOKEN, then call->result. Partner: ivc_sleeper_wake(). */
		word = ivc_load_acquire_u32(&vcpu->word);
		if (word & WOKEN) {
			verdict = IVC_DONE;
		} else if (word & STOP) {
			ivc_fetch_and_u32(&vcpu->word, ~STOP);
			ivc_hv_park_end(vm, vcpu, call, IVC_E_INTR);
			verdict = IVC_DONE;
		} else if (passed(call->deadline_ns)) {
			ivc_hv_park_end(vm, vcpu, call, IVC_E_TIMEDOUT);
			verdict = IVC_DONE;
		} else {
			futex_wait(&vcpu->word, call->deadline_ns);
		}
	}
	return verdict;
}

void ivc_sleeper_wake(struct ivc_sleeper *vcpu)
{
	/* [SLEEP-WAKE] release: call->result, then WOKEN. Partner: ivc_hv_call_sleep(). */
	ivc_fetch_or_u32(&vcpu->word, WOKEN);
	futex_wake(&vcpu->word);
}

void ivc_sleeper_stop(struct ivc_sleeper *vcpu)
{
	ivc_fetch_or_u32(&vcpu->word, STOP);
	futex_wake(&vcpu->word);
}
