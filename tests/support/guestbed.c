/* SPDX-License-Identifier: MIT */
/*
 * The small hypervisor of guestbed.h: one lock, memfds, fixed mappings. It knows the calls and nothing of rings.
 */
#include "guestbed.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HANDLE_OF(host, chan) ((uint64_t)1 << IVC_HANDLE_INDEX_BITS | (uint64_t)((chan) - (host)->channel + 1))

static uint64_t now_ns(void *os)
{
	struct timespec now;

	(void)os;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/*
 * The plain system call: ThreadSanitizer takes the library's mmap for a store to the range, and cannot see what
 * orders it, since that goes through another mapping of the same memory.
 */
static void *map_raw(void *at, uint64_t bytes, int rights, int flags, int fd)
{
	const long got = syscall(SYS_mmap, at, bytes, (long)rights, (long)flags, (long)fd, 0L);

	return got == -1 ? NULL : (void *)(uintptr_t)got;
}

static void *memory(int fd, void *at, uint64_t bytes, int rights)
{
	return map_raw(at, bytes, rights, at != NULL ? MAP_SHARED | MAP_FIXED : MAP_SHARED, fd);
}

/* The hypervisor's own view of new, zeroed memory. */
static void *memory_new(uint64_t bytes, int *fd)
{
	*fd = memfd_create("ivc-guestbed", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, (off_t)bytes) != 0) {
		return NULL;
	}
	return memory(*fd, NULL, bytes, PROT_READ | PROT_WRITE);
}

/* Memory of nobody else's over a range that stays backed. */
static void private_over(void *at, uint64_t bytes, int rights)
{
	(void)map_raw(at, bytes, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
}

static uint64_t seats_of(const struct bed_channel *chan)
{
	return chan->page->seats;
}

static uint8_t *seat_at(const struct bed_channel *chan, const struct bed_member *member, uint64_t seat)
{
	return member->base + chan->page->seat_offset + seat * chan->page->seat_bytes;
}

static void state_set(struct bed_channel *chan, uint32_t state)
{
	uint32_t i;

	ivc_store_release_u32(&chan->page->state, state);
	chan->pub.pending = true;
	for (i = 0; i < BED_SEATS; i++) {
		chan->sub[i].pending = true;
	}
}

static void seat_set(struct bed_channel *chan, uint64_t seat, uint32_t vm, uint8_t state, uint8_t flags, uint64_t epoch)
{
	struct ivc_hv_page *const page = chan->page;

	ivc_store_relaxed_u32(&page->sequence, page->sequence + 1);
	ivc_store_release_u32(&page->seat[seat].vm, vm);
	ivc_store_release_u8(&page->seat[seat].flags, flags);
	ivc_store_release_u64(&page->seat[seat].epoch, epoch);
	ivc_store_release_u8(&page->seat[seat].state, state);
	ivc_store_release_u32(&page->sequence, page->sequence + 1);
	chan->pub.pending = true;
}

static void window_drop(struct bed_channel *chan, struct bed_member *member)
{
	if (member->base != NULL) {
		(void)syscall(SYS_munmap, member->base, chan->bytes);
	}
	*member = (struct bed_member){.base = NULL};
}

static void section_drop(uint8_t **at, uint64_t bytes, int *fd)
{
	if (*at != NULL) {
		(void)syscall(SYS_munmap, *at, bytes);
		(void)close(*fd);
	}
	*at = NULL;
}

/* Frees the record when nobody is in it any more. */
static void channel_reap(struct bed_channel *chan)
{
	uint32_t i;

	if (chan->pub.base != NULL) {
		return;
	}
	for (i = 0; i < BED_SEATS; i++) {
		if (chan->sub[i].base != NULL) {
			return;
		}
	}
	for (i = 0; i < BED_SEATS; i++) {
		section_drop(&chan->seat[i], chan->page->seat_bytes, &chan->seat_fd[i]);
	}
	section_drop(&chan->publisher, chan->page->publisher_bytes, &chan->publisher_fd);
	(void)syscall(SYS_munmap, chan->page, BED_GRANULE);
	(void)close(chan->page_fd);
	memset(chan, 0, sizeof(*chan));
}

static int64_t publish(struct bed_vm *vm, const struct ivc_regs *regs)
{
	struct bed_host *const host = vm->host;
	uint64_t *const base = (uint64_t *)(uintptr_t)regs->arg[1];
	uint64_t *const size = (uint64_t *)(uintptr_t)regs->arg[2];
	const uint64_t seats = regs->arg[3] >> IVC_LAYOUT_SEATS_SHIFT & 0xffff;
	const uint64_t seat_bytes = BED_GRANULE << (regs->arg[3] >> IVC_LAYOUT_SEAT_LOG_SHIFT & 0xff);
	const uint64_t bytes = (*size + BED_GRANULE - 1) & ~(BED_GRANULE - 1);
	struct bed_channel *chan = NULL;
	uint32_t i;

	if (bed_channel(host, vm->id, regs->arg[0]) != NULL) {
		return IVC_E_EXIST;
	}
	if ((regs->arg[3] & IVC_LAYOUT_KIND_MASK) != IVC_LAYOUT_SECTIONED || seats == 0 || seats > BED_SEATS) {
		return IVC_E_INVAL;
	}
	for (i = 0; i < BED_CHANNELS && chan == NULL; i++) {
		chan = host->channel[i].page == NULL ? &host->channel[i] : NULL;
	}
	if (chan == NULL) {
		return IVC_E_DQUOT;
	}
	chan->page = memory_new(BED_GRANULE, &chan->page_fd);
	chan->publisher = memory_new(bytes, &chan->publisher_fd);
	chan->bytes = BED_GRANULE + bytes + seats * seat_bytes;
	*chan->page = (struct ivc_hv_page){
		.publisher = vm->id,
		.key = regs->arg[0],
		.magic = IVC_HV_PAGE_MAGIC,
		.version = IVC_HV_PAGE_VERSION,
		.header_bytes = IVC_HV_PAGE_HEADER,
		.granule_log2 = 12,
		.layout = regs->arg[3],
		.epoch = host->epoch++,
		.handle = HANDLE_OF(host, chan),
		.publisher_offset = BED_GRANULE,
		.publisher_bytes = bytes,
		.seat_offset = BED_GRANULE + bytes,
		.seat_bytes = seat_bytes,
		.seats = (uint32_t)seats,
		.state = IVC_CHANNEL_LIVE,
	};
	chan->pub.vm = vm->id;
	chan->pub.base = map_raw(NULL, chan->bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	(void)memory(chan->page_fd, chan->pub.base, BED_GRANULE, PROT_READ);
	(void)memory(chan->publisher_fd, chan->pub.base + BED_GRANULE, bytes, PROT_READ | PROT_WRITE);
	*base = (uint64_t)(uintptr_t)chan->pub.base;
	*size = chan->bytes;
	return 0;
}

static int64_t subscribe(struct bed_vm *vm, const struct ivc_regs *regs)
{
	struct bed_host *const host = vm->host;
	struct bed_channel *const chan = bed_channel(host, (uint32_t)regs->arg[0], regs->arg[1]);
	struct bed_member *member;
	uint64_t seat;
	uint32_t i;

	if (chan == NULL || chan->page->state != IVC_CHANNEL_LIVE) {
		return IVC_E_NOENT;
	}
	for (i = 0; i < BED_SEATS; i++) {
		if (chan->sub[i].base != NULL && chan->sub[i].vm == vm->id) {
			return IVC_E_EXIST;
		}
	}
	for (seat = 0; seat < seats_of(chan) && chan->sub[seat].base != NULL; seat++) {
	}
	if (seat == seats_of(chan)) {
		return IVC_E_BUSY;
	}
	member = &chan->sub[seat];
	section_drop(&chan->seat[seat], chan->page->seat_bytes, &chan->seat_fd[seat]);
	chan->seat[seat] = memory_new(chan->page->seat_bytes, &chan->seat_fd[seat]);
	member->vm = vm->id;
	member->base = map_raw(NULL, chan->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	(void)memory(chan->page_fd, member->base, BED_GRANULE, PROT_READ);
	(void)memory(chan->publisher_fd, member->base + BED_GRANULE, chan->page->publisher_bytes, PROT_READ);
	(void)memory(chan->seat_fd[seat], seat_at(chan, member, seat), chan->page->seat_bytes, PROT_READ | PROT_WRITE);
	(void)memory(chan->seat_fd[seat], seat_at(chan, &chan->pub, seat), chan->page->seat_bytes, PROT_READ);
	seat_set(chan, seat, vm->id, host->joining ? IVC_SEAT_JOINING : IVC_SEAT_ACTIVE, (uint8_t)regs->arg[5],
		 host->epoch++);
	*(uint64_t *)(uintptr_t)regs->arg[2] = (uint64_t)(uintptr_t)member->base;
	*(uint64_t *)(uintptr_t)regs->arg[3] = chan->bytes;
	*(uint64_t *)(uintptr_t)regs->arg[4] = seat;
	return 0;
}

/* The state first, then the memory. */
static void channel_end(struct bed_channel *chan, uint32_t state)
{
	uint32_t i;

	state_set(chan, state);
	for (i = 0; state == IVC_CHANNEL_REVOKED && i < BED_SEATS; i++) {
		if (chan->sub[i].base != NULL) {
			private_over(chan->sub[i].base + BED_GRANULE, chan->page->publisher_bytes, PROT_READ);
			private_over(seat_at(chan, &chan->sub[i], i), chan->page->seat_bytes, PROT_READ | PROT_WRITE);
		}
	}
	window_drop(chan, &chan->pub);
	channel_reap(chan);
}

static int64_t unpublish(struct bed_vm *vm, const struct ivc_regs *regs)
{
	struct bed_channel *const chan = bed_channel(vm->host, vm->id, regs->arg[0]);

	if (chan == NULL) {
		return IVC_E_NOENT;
	}
	channel_end(chan, regs->arg[1] == IVC_UNPUBLISH_REVOKE ? IVC_CHANNEL_REVOKED : IVC_CHANNEL_DRAIN);
	return 0;
}

static void seat_end(struct bed_channel *chan, uint32_t seat, uint8_t state)
{
	const struct ivc_hv_seat now = chan->page->seat[seat];

	seat_set(chan, seat, now.vm, state, now.flags, now.epoch);
	if (chan->pub.base != NULL) {
		private_over(seat_at(chan, &chan->pub, seat), chan->page->seat_bytes, PROT_READ);
	}
	window_drop(chan, &chan->sub[seat]);
	channel_reap(chan);
}

static int64_t unsubscribe(struct bed_vm *vm, const struct ivc_regs *regs)
{
	uint32_t c;
	uint32_t i;

	for (c = 0; c < BED_CHANNELS; c++) {
		struct bed_channel *const chan = &vm->host->channel[c];

		for (i = 0; chan->page != NULL && i < BED_SEATS; i++) {
			if (chan->page->publisher == regs->arg[0] && chan->page->key == regs->arg[1] &&
			    chan->sub[i].base != NULL && chan->sub[i].vm == vm->id) {
				seat_end(chan, i, IVC_SEAT_LEFT);
				return 0;
			}
		}
	}
	return IVC_E_NOENT;
}

static struct bed_channel *by_handle(struct bed_host *host, uint64_t handle)
{
	uint32_t c;

	for (c = 0; c < BED_CHANNELS; c++) {
		if (host->channel[c].page != NULL && HANDLE_OF(host, &host->channel[c]) == handle) {
			return &host->channel[c];
		}
	}
	return NULL;
}

static int64_t ring_bell(struct bed_vm *vm, const struct ivc_regs *regs)
{
	struct bed_channel *const chan = by_handle(vm->host, regs->arg[0]);

	if (chan == NULL) {
		return IVC_E_STALE;
	}
	if (regs->arg[2] == IVC_ALL) {
		if (chan->pub.vm != vm->id || regs->arg[1] >= BED_SEATS) {
			return IVC_E_INVAL;
		}
		chan->sub[regs->arg[1]].pending = true;
		return 0;
	}
	if (regs->arg[2] >= BED_SEATS || chan->sub[regs->arg[2]].vm != vm->id || regs->arg[1] != IVC_ALL) {
		return IVC_E_INVAL;
	}
	chan->pub.pending = true;
	return 0;
}

static bool take(struct bed_channel *chan, uint32_t vm, bool *member)
{
	uint32_t i;

	if (chan->page == NULL) {
		return false;
	}
	if (chan->pub.base != NULL && chan->pub.vm == vm) {
		*member = true;
		if (chan->pub.pending) {
			chan->pub.pending = false;
			return true;
		}
	}
	for (i = 0; i < BED_SEATS; i++) {
		if (chan->sub[i].base != NULL && chan->sub[i].vm == vm) {
			*member = true;
			if (chan->sub[i].pending) {
				chan->sub[i].pending = false;
				return true;
			}
		}
	}
	return false;
}

static int64_t wait_bell(struct bed_vm *vm, const struct ivc_regs *regs)
{
	struct bed_host *const host = vm->host;
	const uint64_t begin = now_ns(NULL);
	const uint64_t left = regs->arg[1] < UINT64_MAX - begin ? begin + regs->arg[1] : UINT64_MAX;

	for (;;) {
		bool member = false;
		struct timespec until;
		uint32_t c;

		if (host->dead) {
			return IVC_E_SHUTDOWN;
		}
		for (c = 0; c < BED_CHANNELS; c++) {
			if ((regs->arg[0] == 0 || HANDLE_OF(host, &host->channel[c]) == regs->arg[0]) &&
			    take(&host->channel[c], vm->id, &member)) {
				return (int64_t)HANDLE_OF(host, &host->channel[c]);
			}
		}
		if (regs->arg[0] != 0 && !member) {
			return IVC_E_STALE;
		}
		if (now_ns(NULL) >= left) {
			return IVC_E_TIMEDOUT;
		}
		until.tv_sec = (time_t)(left / UINT64_C(1000000000));
		until.tv_nsec = (long)(left % UINT64_C(1000000000));
		(void)pthread_cond_timedwait(&host->changed, &host->lock, &until);
	}
}

static int64_t vm_info(struct bed_vm *vm, const struct ivc_regs *regs)
{
	struct ivc_vm_info *const out = (struct ivc_vm_info *)(uintptr_t)regs->arg[0];

	*out = (struct ivc_vm_info){
		.bytes = sizeof(*out),
		.version = IVC_VM_INFO_VERSION,
		.vm = vm->id,
		.window_bytes = UINT64_C(1) << 47,
		.vector = 33,
		.granule_log2 = 12,
		.counter_hz = 1000000000,
	};
	return 0;
}

static int64_t serve(struct bed_vm *vm, const struct ivc_regs *regs, uint64_t nr)
{
	switch (nr) {
	case IVC_HC_PUBLISH:
		return publish(vm, regs);
	case IVC_HC_SUBSCRIBE:
		return subscribe(vm, regs);
	case IVC_HC_UNPUBLISH:
		return unpublish(vm, regs);
	case IVC_HC_UNSUBSCRIBE:
		return unsubscribe(vm, regs);
	case IVC_HC_WAIT:
		return wait_bell(vm, regs);
	case IVC_HC_BELL:
		return ring_bell(vm, regs);
	case IVC_HC_VM_INFO:
		return vm_info(vm, regs);
	case IVC_HC_VM_ID:
		return vm->id;
	case IVC_HC_FEATURES:
		return (int64_t)vm->host->features;
	case IVC_HC_RESET:
	case IVC_HC_NOTIFY:
		return 0;
	default:
		return IVC_E_NOSYS;
	}
}

static int64_t trap(void *os, const struct ivc_regs *regs)
{
	struct bed_vm *const vm = os;
	struct bed_host *const host = vm->host;
	uint64_t nr = regs->nr;
	int64_t result;

	if (nr >= IVC_HC_ALIAS && nr <= IVC_HC_ALIAS + IVC_HC_SMALL_LAST) {
		nr -= IVC_HC_ALIAS;
	}
	(void)pthread_mutex_lock(&host->lock);
	if (nr <= IVC_HC_SMALL_LAST) {
		vm->calls[nr]++;
	} else if (nr - IVC_HC_FEATURES < 8) {
		vm->calls[8 + nr - IVC_HC_FEATURES]++;
	}
	result = host->dead ? IVC_E_SHUTDOWN : serve(vm, regs, nr);
	if (host->twist != NULL) {
		host->twist(host->twist_arg, vm, regs, &result);
	}
	if (nr != IVC_HC_WAIT) {
		(void)pthread_cond_broadcast(&host->changed);
	}
	(void)pthread_mutex_unlock(&host->lock);
	return result;
}

const char *bed_open(struct bed_host *host)
{
	pthread_condattr_t clock;
	uint32_t i;

	memset(host, 0, sizeof(*host));
	if (pthread_mutex_init(&host->lock, NULL) != 0 || pthread_condattr_init(&clock) != 0 ||
	    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC) != 0 || pthread_cond_init(&host->changed, &clock) != 0) {
		return "lock";
	}
	host->epoch = 1000;
	host->features = IVC_FEATURE_IVC | (uint64_t)IVC_ABI_MAJOR << IVC_FEATURE_MAJOR_SHIFT |
			 UINT64_C(12) << IVC_FEATURE_GRANULE_SHIFT | IVC_FEATURE_SECTIONED | IVC_FEATURE_REVOKE |
			 IVC_FEATURE_BELL | IVC_FEATURE_WAIT | IVC_FEATURE_VM_INFO;
	for (i = 0; i < BED_VMS; i++) {
		struct bed_vm *const vm = &host->vm[i];

		vm->host = host;
		vm->id = i + 1;
		vm->env = (struct ivc_env){
			.slots = vm->slots,
			.slots_gpa = ivc_gpa((uint64_t)(uintptr_t)vm->slots),
			.slots_count = BED_SLOTS,
			.now_ns = now_ns,
			.trap = trap,
			.os = vm,
		};
	}
	return NULL;
}

uint32_t bed_close(struct bed_host *host)
{
	uint32_t left = 0;
	uint32_t c;

	for (c = 0; c < BED_CHANNELS; c++) {
		if (host->channel[c].page != NULL) {
			left++;
		}
	}
	(void)pthread_cond_destroy(&host->changed);
	(void)pthread_mutex_destroy(&host->lock);
	return left;
}

struct bed_vm *bed_vm(struct bed_host *host, uint32_t id)
{
	struct bed_vm *const vm = &host->vm[id - 1];

	return ivc_guest_init(&vm->guest, &vm->env) == 0 ? vm : NULL;
}

struct bed_channel *bed_channel(struct bed_host *host, uint32_t vm, uint64_t key)
{
	uint32_t c;

	for (c = 0; c < BED_CHANNELS; c++) {
		struct bed_channel *const chan = &host->channel[c];

		if (chan->page != NULL && chan->pub.base != NULL && chan->page->publisher == vm &&
		    chan->page->key == key) {
			return chan;
		}
	}
	return NULL;
}

void bed_activate(struct bed_host *host)
{
	uint32_t c;
	uint32_t i;

	(void)pthread_mutex_lock(&host->lock);
	for (c = 0; c < BED_CHANNELS; c++) {
		struct bed_channel *const chan = &host->channel[c];

		for (i = 0; chan->page != NULL && i < BED_SEATS; i++) {
			const struct ivc_hv_seat now = chan->page->seat[i];

			if (now.state == IVC_SEAT_JOINING) {
				seat_set(chan, i, now.vm, IVC_SEAT_ACTIVE, now.flags, now.epoch);
			}
		}
	}
	(void)pthread_cond_broadcast(&host->changed);
	(void)pthread_mutex_unlock(&host->lock);
}

void bed_kill(struct bed_host *host, uint32_t vm)
{
	uint32_t c;
	uint32_t i;

	(void)pthread_mutex_lock(&host->lock);
	for (c = 0; c < BED_CHANNELS; c++) {
		struct bed_channel *const chan = &host->channel[c];

		for (i = 0; chan->page != NULL && i < BED_SEATS; i++) {
			if (chan->sub[i].base != NULL && chan->sub[i].vm == vm) {
				seat_end(chan, i, IVC_SEAT_DEAD);
			}
		}
		if (chan->page != NULL && chan->pub.base != NULL && chan->pub.vm == vm) {
			channel_end(chan, (chan->page->layout & IVC_LAYOUT_DEATH_REVOKE) != 0 ? IVC_CHANNEL_REVOKED
											      : IVC_CHANNEL_DEAD);
		}
	}
	(void)pthread_cond_broadcast(&host->changed);
	(void)pthread_mutex_unlock(&host->lock);
}

void bed_gone(struct bed_host *host)
{
	uint32_t c;

	(void)pthread_mutex_lock(&host->lock);
	host->dead = true;
	for (c = 0; c < BED_CHANNELS; c++) {
		if (host->channel[c].page != NULL) {
			state_set(&host->channel[c], IVC_CHANNEL_REVOKED);
		}
	}
	(void)pthread_cond_broadcast(&host->changed);
	(void)pthread_mutex_unlock(&host->lock);
}
