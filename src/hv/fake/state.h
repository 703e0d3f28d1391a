/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of the fake host share: the ops (ops.c) and the side that tests see (fake.c). It decides nothing.
 *
 * Locks: one per VM for its views, one for memory; the VM's first. Events (bell, unpark, failed) take none.
 */
#ifndef IVC_HV_FAKE_STATE_H
#define IVC_HV_FAKE_STATE_H

#include "fake.h"

#include <pthread.h>

#define FAKE_CANARY      0xc5
#define FAKE_GRAVES      64u /* freed memory that is kept to see who still writes to it */
#define FAKE_LOG_ENTRIES 4096u
#define FAKE_VMS         1024u
#define FAKE_LATERS      64u

struct fake_mem {
	struct fake_mem *next; /* memory lock, as the rest */
	struct fake_mem *prev;
	uint64_t serial;
	void *addr;
	uint64_t bytes;
	enum ivc_mem_kind kind;
	uint32_t shown; /* views, and maps under way */
	bool mapped;    /* ever */
	bool freed;
};

struct fake_view {
	uint64_t at;
	uint64_t bytes;
	struct fake_mem *mem; /* NULL: closed */
	uint8_t *own;         /* closed and writable: what it shows */
	enum ivc_access access;
	enum ivc_mem_kind kind;
	bool unknown; /* a close or unmap of it failed: the core cannot know what it shows */
};

struct fake_later {
	struct fake_view view;
	void *token;
	bool closes;
	bool overtaken;
};

/* A direct bell: a store of @value by its VM raises the interrupt of @to. */
struct fake_direct {
	struct ivc_fake_vm *to;
	uint32_t value;
};

struct fake_ram {
	struct ivc_fake_ram at; /* as it was given */
	uint32_t read_only;     /* atomic */
	uint8_t *bytes;
};

struct ivc_fake_vm {
	struct ivc_fake *fake;
	uint32_t id;
	uint32_t rams;
	uint64_t window;
	uint64_t window_bytes;
	struct fake_ram *ram;
	struct ivc_fake_vcpu vcpu[IVC_FAKE_VCPUS];

	uint32_t dead;    /* atomic */
	uint32_t retired; /* atomic */
	uint32_t bells;   /* atomic */
	uint32_t failed;  /* atomic */

	pthread_mutex_t lock; /* of the rest */
	struct fake_view *view;
	uint32_t views;
	uint32_t views_room;
	struct fake_later later[FAKE_LATERS];
	uint32_t laters;
	bool answers_later;
	struct fake_direct *direct; /* VM lock, as the rest */
	uint32_t directs;
	uint32_t directs_room;
};

struct ivc_fake {
	uint64_t granule;
	uint32_t flags;
	uint32_t vms;
	struct ivc_fake_vm *vm[FAKE_VMS];
	ivc_fake_hook_fn *hook;
	void *hook_arg;
	int control;

	uint64_t clock; /* atomic, as the rest up to the lock */
	uint64_t count[IVC_FAKE_OPS];
	uint32_t pins;
	uint32_t directs; /* direct bells that are on */
	uint32_t violations;
	char first_violation[160];

	uint32_t fail_op; /* set while no op runs */
	int fail_code;
	const struct ivc_fake_vm *fail_vm;
	uint64_t fail_nth;
	uint64_t fail_times;
	uint64_t fail_seen; /* atomic */
	uint64_t fail_hits; /* atomic */

	uint64_t log_count; /* atomic */
	struct ivc_fake_entry log[FAKE_LOG_ENTRIES];

	pthread_mutex_t lock; /* memory */
	struct fake_mem live;
	struct fake_mem *grave[FAKE_GRAVES];
	uint64_t serial;
	uint32_t buried;
	uint32_t mems;
	uint64_t mem_bytes;
};

/* Every op begins so. Return: the code that it shall fail with, or 0. */
int ivc_fake_op_begin_(struct ivc_fake *fake, enum ivc_fake_op op, struct ivc_fake_vm *vm);
/* ... and ends so. */
void ivc_fake_op_end_(struct ivc_fake *fake, const struct ivc_fake_entry *entry);
/* The core broke the contract. */
void ivc_fake_violation_(struct ivc_fake *fake, const char *what, uint64_t at);
/* Op doorbell. */
int ivc_fake_op_doorbell_(void *from, uint32_t value, void *to, bool on);

/* The RAM piece that holds all of [at, at + bytes), or NULL. RAM never moves. */
struct fake_ram *ivc_fake_ram_at_(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes);
/* The view that meets [at, at + bytes), or NULL. VM lock held. */
struct fake_view *ivc_fake_view_at_(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes);
/* Puts @view in, also over a closed one; its memory is counted as shown already. VM lock held. */
int ivc_fake_view_put_(struct ivc_fake_vm *vm, const struct fake_view *view);
/* Closes @view. VM lock held. */
int ivc_fake_view_close_(struct ivc_fake_vm *vm, struct fake_view *view);
/* One window less shows @mem. */
void ivc_fake_shown_drop_(struct ivc_fake *fake, struct fake_mem *mem);
/* Frees memory that was freed by the core long ago, or that it kept. */
void ivc_fake_mem_end_(struct ivc_fake *fake, struct fake_mem *mem);

#endif
