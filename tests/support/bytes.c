/* SPDX-License-Identifier: MIT */
/*
 * Reads one step after the other, does it, looks at the invariants. A step that makes no sense is skipped, so that any
 * bytes are a history. It keeps no expectation of single results, only of what may never be.
 */
#include "bytes.h"

#include "world.h"

#include <stdio.h>
#include <string.h>

#define STEPS_MOST 200u
#define VCPUS      2u

struct input {
	const uint8_t *at;
	size_t left;
};

struct history {
	struct world w;
	struct input in;
	struct ivc_call parked[WORLD_VMS][VCPUS];
	bool is_parked[WORLD_VMS][VCPUS];
	uint32_t unparks[WORLD_VMS][VCPUS];
	bool faults; /* ops have been made to fail: EIO is possible */
	const char *wrong;
};

static uint8_t take(struct input *in)
{
	if (in->left == 0) {
		return 0;
	}
	in->left--;
	return *in->at++;
}

static uint64_t take_word(struct input *in)
{
	uint64_t word = 0;

	for (uint32_t i = 0; i < 8; i++) {
		word |= (uint64_t)take(in) << 8 * i;
	}
	return word;
}

struct nth_handle {
	uint32_t left;
	uint64_t handle;
};

static bool nth(void *arg, const struct ivc_channel_info *info)
{
	struct nth_handle *n = arg;

	n->handle = info->handle.v;
	return n->left-- != 0; /* the last one, if there are fewer */
}

/* One register: mostly values that mean something, now and then any. */
static uint64_t take_register(struct history *h)
{
	static const uint64_t places[] = {
		0x1000,
		0x1008,
		0x1010,
		0x2000,
		0,
		WORLD_RAM_BYTES - 8,
		WORLD_RAM_SMALL,
		WORLD_RAM_TOP + 4088,
		WORLD_READ_ONLY,
		WORLD_HOLE,
	};
	const uint8_t b = take(&h->in);
	struct nth_handle n = {.left = b & 7};

	switch (b >> 4) {
	case 0:
	case 1:
	case 2:
		return b & 31;
	case 3:
	case 4:
	case 5:
		return places[(b & 15) % (sizeof(places) / sizeof(places[0]))];
	case 6:
		return WORLD_SEATS(b & 15);
	case 7:
		return WORLD_SEATS(1 + (b & 3)) | IVC_LAYOUT_DEATH_REVOKE | IVC_LAYOUT_SLEEPS;
	case 8:
	case 9:
	case 10:
		(void)ivc_hv_each(h->w.hv, nth, &n);
		return n.handle;
	case 11:
		return IVC_ALL - (b & 3);
	case 12:
		return UINT64_C(1) << take(&h->in) % 64;
	case 13:
		return (UINT64_C(1) << take(&h->in) % 64) - 1;
	case 14:
		return world_window(b & 3) + 4096 * (uint64_t)(take(&h->in) & 7);
	default:
		return take_word(&h->in);
	}
}

/* Registers that a call succeeds with, chosen by one byte, so that a history gets somewhere. */
static void usual_registers(struct history *h, uint64_t nr, uint64_t arg[6])
{
	static const uint64_t layouts[] = {0, WORLD_SECTIONED, WORLD_SEATS(3),
					   WORLD_SEATS(2) | IVC_LAYOUT_DEATH_REVOKE | IVC_LAYOUT_SLEEPS};
	const uint8_t b = take(&h->in);
	const uint64_t key = b & 3;
	const uint64_t publisher = 1 + (b >> 2 & 3);
	struct nth_handle n = {.left = b & 7};

	memset(arg, 0, 6 * sizeof(arg[0]));
	switch (nr) {
	case IVC_HC_PUBLISH:
		arg[0] = key;
		arg[1] = 0x1000;
		arg[2] = b & 0x80 ? 0x1008 : 0x2000;
		arg[3] = layouts[b >> 2 & 3];
		break;
	case IVC_HC_SUBSCRIBE:
		arg[0] = publisher;
		arg[1] = key;
		arg[2] = 0x1000;
		arg[3] = 0x1010;
		arg[4] = b & 0x80 ? 0x1018 : 0;
		arg[5] = b >> 6 & 1;
		break;
	case IVC_HC_UNPUBLISH:
		arg[0] = key;
		arg[1] = b >> 7;
		break;
	case IVC_HC_UNSUBSCRIBE:
		arg[0] = publisher;
		arg[1] = key;
		break;
	case IVC_HC_NOTIFY:
		arg[0] = publisher;
		arg[1] = key;
		arg[2] = b & 0x80 ? IVC_ALL : UINT64_C(1) + (b >> 4 & 3);
		break;
	case IVC_HC_BELL:
	case IVC_HC_WAIT:
		(void)ivc_hv_each(h->w.hv, nth, &n);
		arg[0] = nr == IVC_HC_WAIT && b & 0x40 ? 0 : n.handle;
		arg[1] = nr == IVC_HC_WAIT ? (b & 0x80 ? IVC_FOREVER : 0) : IVC_ALL;
		arg[2] = nr == IVC_HC_WAIT ? 0 : b & 0x80 ? IVC_ALL : (uint64_t)(b >> 4 & 3);
		break;
	default:
		break;
	}
}

static void wrong(struct history *h, const char *what)
{
	if (!h->wrong) {
		h->wrong = what;
	}
}

/* What no guest may ever be told, whatever it does. */
static void judge(struct history *h, uint64_t nr, int64_t result)
{
	switch (result) {
	case IVC_E_NODEV:
	case IVC_E_PROTO:
	case IVC_E_BADMSG:
	case IVC_E_MSGSIZE:
	case IVC_E_DEADLK:
	case INT64_MIN:
		wrong(h, "a result that no call has");
		break;
	case IVC_E_PIPE:
		if (nr != IVC_HC_BELL) {
			wrong(h, "EPIPE from a call that is not BELL");
		}
		break;
	case IVC_E_IO:
		if (!h->faults) {
			wrong(h, "EIO without a fault");
		}
		break;
	default:
		if (result > 0 && nr != IVC_HC_FEATURES && nr != IVC_HC_VM_ID && nr != IVC_HC_WAIT) {
			wrong(h, "a call that answers a value and should not");
		}
		break;
	}
}

/* Whoever ends a channel of its own waits until its host has answered; there is no other thread that could. */
static void answer_all(struct history *h)
{
	for (uint32_t more = 1; more != 0;) {
		more = 0;
		for (uint32_t i = 0; i < WORLD_VMS; i++) {
			more += view_finish(&h->w.vm[i], 0);
		}
	}
}

static bool may_wait(uint64_t nr)
{
	return nr != IVC_HC_PUBLISH && nr != IVC_HC_SUBSCRIBE && nr != IVC_HC_UNSUBSCRIBE && nr != IVC_HC_NOTIFY &&
	       nr != IVC_HC_WAIT && nr != IVC_HC_BELL;
}

static void step_call(struct history *h)
{
	static const uint64_t numbers[] = {3, 4, 5, 6, 7, IVC_HC_WAIT, IVC_HC_BELL, IVC_HC_RESET,
					   3, 4, 4, 5, 6, 0,           1,           2};
	const uint8_t who = take(&h->in);
	const uint8_t what = take(&h->in);
	struct world_vm *vm = &h->w.vm[who % WORLD_VMS];
	const uint32_t vcpu = who / WORLD_VMS % VCPUS;
	void *cpu = ivc_fake_vcpu(vm->host, vcpu);
	struct ivc_call *c = &h->parked[who % WORLD_VMS][vcpu];
	uint64_t nr = numbers[what % 16];

	if (what >= 0xf0) {
		nr = take_word(&h->in);
	} else if (what >= 0xe0) {
		nr = IVC_HC_FEATURES + what % 32;
	}
	if (!vm->vm || h->is_parked[who % WORLD_VMS][vcpu]) {
		return;
	}
	*c = (struct ivc_call){.nr = nr, .result = INT64_MIN};
	usual_registers(h, nr, c->arg);
	if (what & 0x10) {
		c->arg[take(&h->in) % 6] = take_register(h);
	}
	if (may_wait(nr)) {
		answer_all(h);
	}
	switch (ivc_hv_hypercall(vm->vm, cpu, c)) {
	case IVC_PARKED:
		if (nr != IVC_HC_WAIT) {
			wrong(h, "a call that is not WAIT parks");
		}
		h->is_parked[who % WORLD_VMS][vcpu] = true;
		break;
	case IVC_DONE:
		judge(h, nr, c->result);
		break;
	default:
		wrong(h, "a foreign number");
		break;
	}
}

/* Calls whose unpark came are over; the host ends one of the others. */
static void step_park(struct history *h, uint8_t which)
{
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		for (uint32_t k = 0; k < VCPUS; k++) {
			struct ivc_fake_vcpu *cpu = ivc_fake_vcpu(h->w.vm[i].host, k);

			if (!h->is_parked[i][k]) {
				continue;
			}
			if (cpu->unparks != h->unparks[i][k]) {
				h->is_parked[i][k] = false;
			} else if (which == i + WORLD_VMS * k && h->w.vm[i].vm) {
				ivc_hv_park_end(h->w.vm[i].vm, cpu, &h->parked[i][k], IVC_E_TIMEDOUT);
				h->is_parked[i][k] = false;
				if (cpu->unparks != h->unparks[i][k]) {
					wrong(h, "an unpark in park_end");
				}
			}
			if (!h->is_parked[i][k]) {
				if (cpu->unparks > h->unparks[i][k] + 1) {
					wrong(h, "two unparks of one call");
				}
				if (h->parked[i][k].result == INT64_MIN) {
					wrong(h, "a parked call without a result");
				}
				h->unparks[i][k] = cpu->unparks;
			}
		}
	}
}

static void step_fail(struct history *h)
{
	static const enum ivc_fake_op ops[] = {IVC_FAKE_ANY,   IVC_FAKE_MEM_NEW,  IVC_FAKE_MAP,     IVC_FAKE_CLOSE,
					       IVC_FAKE_UNMAP, IVC_FAKE_SLOT_GET, IVC_FAKE_CONTROL, IVC_FAKE_DOORBELL};
	static const int codes[] = {IVC_E_IO, IVC_E_NOMEM, IVC_E_SHUTDOWN, -4711};
	const uint8_t b = take(&h->in);
	const uint8_t n = take(&h->in);

	h->faults = true;
	ivc_fake_fail(h->w.fake, ops[b % 8], 1 + n % 8, n & 0x80 ? 1000 : 1 + n / 16 % 4, codes[b / 8 % 4]);
}

static void step_life(struct history *h)
{
	const uint8_t b = take(&h->in);
	const uint32_t i = b % WORLD_VMS;
	struct world_vm *vm = &h->w.vm[i];
	int err;

	if (!vm->vm) {
		err = world_attach(&h->w, i, b & 0x20 ? 1 + i : 10 + i);
		memset(h->unparks[i], 0, sizeof(h->unparks[i]));
		if (err != 0 && err != IVC_E_SHUTDOWN) {
			wrong(h, "attach");
		}
		return;
	}
	answer_all(h);
	switch (b / WORLD_VMS % 4) {
	case 0:
		world_kill(&h->w, i);
		break;
	case 1:
		err = ivc_hv_vm_reset(vm->vm);
		if (err != 0 && err != IVC_E_AGAIN && err != IVC_E_SHUTDOWN) {
			wrong(h, "reset");
		}
		break;
	case 2:
		err = ivc_hv_vm_detach(vm->vm);
		if (err == 0) {
			ivc_fake_vm_retire(vm->host);
			vm->vm = NULL;
		} else if (err != IVC_E_AGAIN) {
			wrong(h, "detach");
		}
		break;
	default:
		if (world_detach(&h->w, i) != 0) {
			wrong(h, "detach does not end");
		}
		break;
	}
}

static void step_access(struct history *h)
{
	const uint8_t b = take(&h->in);
	struct world_vm *vm = &h->w.vm[b % WORLD_VMS];
	uint8_t data[64];
	const uint64_t at = take_register(h);

	if (vm->vm) {
		(void)ivc_hv_window_access(vm->vm, ivc_gpa(at), b & 0x80, data, 1 + b / 4 % 16);
	}
	(void)ivc_fake_store(vm->host, at & ~UINT64_C(7), 8, at);
}

/* A register as it is, or a handle as the page wants it. */
static void step_doorbell(struct history *h, struct world_vm *vm)
{
	const uint8_t low = take(&h->in);
	const uint64_t value = take_register(h);

	if (vm->vm) {
		(void)store_doorbell(vm, low & 0x80 ? (uint32_t)value
						    : (uint32_t)(value << 8) | (low & 4 ? 0xff : low & 3));
	}
}

static void step(struct history *h)
{
	const uint8_t b = take(&h->in);
	struct world_vm *vm = &h->w.vm[b / 16 % WORLD_VMS];

	switch (b % 16) {
	case 9:
		ivc_fake_later(vm->host, b & 0x80);
		break;
	case 10:
		(void)view_finish(vm, b & 0x80 ? IVC_E_IO : 0);
		break;
	case 11:
		step_fail(h);
		break;
	case 12:
		step_life(h);
		break;
	case 13:
		step_access(h);
		break;
	case 14:
		ivc_fake_ram_protect(vm->host, 0, b & 0x80);
		break;
	case 15:
		if (b & 0x40) {
			step_doorbell(h, vm);
		} else {
			(void)ivc_fake_store(vm->host, 0x1008, 8, take_register(h));
		}
		break;
	default:
		step_call(h);
		break;
	}
	step_park(h, b % 16 == 8 ? b / 16 : 0xff);
}

const char *bytes_run(const uint8_t *data, size_t size)
{
	static struct history h; /* too large for a stack */
	const char *left_over;

	memset(&h, 0, sizeof(h));
	h.in = (struct input){.at = data, .left = size};
	world_defaults(&h.w);
	h.w.config.channels = 8;
	h.w.config.memberships = 8;
	h.w.config.vm_channels = 4;
	h.w.config.vm_memberships = 4;
	h.w.config.region_bytes = UINT64_C(1) << 16;
	h.w.vm_config.vector = 1;
	h.w.vm_config.doorbell = WORLD_DOORBELL;
	h.w.vm_config.flags = size && data[0] & 1 ? IVC_VM_PRIVILEGED : 0;
	h.w.vm_config.window_bytes = UINT64_C(1) << 20;
	if (world_open(&h.w) != 0) {
		return "world_open";
	}
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		(void)ivc_fake_store(h.w.vm[i].host, 0x1008, 8, 4096);
		(void)ivc_fake_store(h.w.vm[i].host, 0x2000, 8, 5000);
	}
	for (uint32_t n = 0; n < STEPS_MOST && h.in.left && !h.wrong; n++) {
		step(&h);
		if (!h.wrong) {
			h.wrong = world_check(&h.w);
		}
	}
	left_over = world_close(&h.w);
	return h.wrong ? h.wrong : left_over;
}
