/* SPDX-License-Identifier: MIT */
/*
 * Read sections, grace periods and what a thread must be to use them. The only file that includes liburcu's core; it
 * decides the flavour (memb) and tells ThreadSanitizer of the order that liburcu gives. It knows no record.
 */
#ifndef IVC_HV_RCU_H
#define IVC_HV_RCU_H

#include <ivc/abi.h>

#include <stdint.h>

/* What the core knows of the running thread. One per thread, given by the hosted part or by the embedder's CPU block. */
struct ivc_thread {
	uint32_t registered; /* nesting of ivc_hv_thread_enter */
	uint32_t inside;     /* the thread is in the core: an op that enters it again is refused */
};

struct ivc_thread *ivc_thread_self(void);

/**
 * ivc_core_enter - every entry that may wait, lock or read begins with this and ends with ivc_core_leave().
 * Return: 0; IVC_E_PERM: the thread is not registered; IVC_E_DEADLK: it is inside already, an op has entered again.
 */
static inline int ivc_core_enter(struct ivc_thread *self)
{
	if (self->registered == 0) {
		return IVC_E_PERM;
	}
	if (self->inside != 0) {
		return IVC_E_DEADLK;
	}
	self->inside = 1;
	return 0;
}

static inline void ivc_core_leave(struct ivc_thread *self)
{
	self->inside = 0;
}

#if __STDC_HOSTED__

#include <urcu/urcu-memb.h>

#if defined(__SANITIZE_THREAD__)
#define IVC_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define IVC_TSAN 1
#endif
#endif

#ifdef IVC_TSAN
/* liburcu's own code is not instrumented: the edges that it gives are told here (grace period, publish, observe). */
void __tsan_acquire(void *at);
void __tsan_release(void *at);
#define IVC_RCU_TOLD_(op, at) __tsan_##op(at)
#else
#define IVC_RCU_TOLD_(op, at) ((void)(at))
#endif

extern char ivc_rcu_period_; /* an address that stands for "all read sections so far" */

static inline void ivc_rcu_read_lock(void)
{
	urcu_memb_read_lock();
}

static inline void ivc_rcu_read_unlock(void)
{
	IVC_RCU_TOLD_(release, &ivc_rcu_period_);
	urcu_memb_read_unlock();
}

/* [REC-REUSE] waits until every read section that runs now has ended. No lock held, not in a read section. */
static inline void ivc_rcu_synchronize(void)
{
	urcu_memb_synchronize_rcu();
	IVC_RCU_TOLD_(acquire, &ivc_rcu_period_);
}

static inline void ivc_rcu_register(void)
{
	urcu_memb_register_thread();
}

static inline void ivc_rcu_unregister(void)
{
	urcu_memb_unregister_thread();
}

/* A record is about to be put where readers find it, and: a reader has found it. */
static inline void ivc_rcu_publish(void *record)
{
	IVC_RCU_TOLD_(release, record);
}

static inline void ivc_rcu_observe(void *record)
{
	IVC_RCU_TOLD_(acquire, record);
}

#else

/* A freestanding embedder brings its own grace periods. */
void ivc_rcu_read_lock(void);
void ivc_rcu_read_unlock(void);
void ivc_rcu_synchronize(void);
void ivc_rcu_register(void);
void ivc_rcu_unregister(void);

#endif
#endif
