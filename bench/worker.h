/* SPDX-License-Identifier: MIT */
/*
 * What the files of the benches' guest program share: the guest, the memory that it has in common with a peer VM, and its
 * channels. It decides nothing and measures nothing.
 */
#ifndef IVC_BENCH_WORKER_H
#define IVC_BENCH_WORKER_H

#include "ring_queue.h"
#include "vm_job.h"

#include <ivc/bare.h>

#define WORKER_PAIRS       2u
#define WORKER_LANES       3u
#define WORKER_LANE_THERE  0u
#define WORKER_LANE_BACK   1u /* the subscriber of the flat channel writes it */
#define WORKER_LANE_STREAM 2u

#define WORKER_TRIP_PAYLOAD   (64u << 10)
#define WORKER_STREAM_PAYLOAD (256u << 10)

/* A word that is polled has a line, and the one that is fetched along with it, to itself. */
struct worker_word {
	_Alignas(128) uint64_t at;
};

/* What is beside a ring: the reader's mark, and where it begins. */
struct worker_lane {
	_Alignas(4096) uint8_t mark[4096];
	struct ivc_ring_start start;
	struct worker_word ready;
};

/* The flat channel of a pair. */
struct worker_flat {
	struct ivc_flat_head head;
	struct worker_word go;    /* publisher: the subscriber shall begin */
	struct worker_word stop;  /* publisher: and end */
	struct worker_word ready; /* subscriber: is about to sleep */
	struct worker_word reply; /* subscriber: has woken up */
	struct worker_word done;  /* subscriber */
	struct worker_lane lane[WORKER_LANES];
	_Alignas(4096) uint8_t there[96u << 10];
	_Alignas(4096) uint8_t back[96u << 10];
	_Alignas(4096) uint8_t stream[320u << 10];
};

struct worker_pair {
	uint32_t side;
	ivc_vmid_t publisher;
	struct worker_flat *flat;
	ivc_handle_t bell; /* of a sectioned channel with one seat */
};

struct worker_channel {
	uint64_t timeout;
	struct ivc_pub pub;
	struct ivc_seat seat;
	struct ivc_sub sub;
};

extern struct worker {
	struct ivc_guest guest;
	volatile uint32_t *doorbell; /* NULL: none */
	struct worker_pair pair[WORKER_PAIRS];
	struct worker_channel channel[VM_CHANNELS];
	struct ours lane[WORKER_LANES];
	struct loops_data data;
	struct vm_job job;
} worker;

/** worker_must - ends the VM where something that cannot go wrong did. */
void worker_must(int64_t result, const char *what);

/** worker_quiet - keeps this CPU awake for @ticks. */
void worker_quiet(uint64_t ticks);

/** worker_open - VM_OPEN; worker_loop - VM_TRIP, VM_SILENT and VM_STREAM. worker_loops.c. */
void worker_open(void);
void worker_loop(void);

static inline void worker_await(const struct worker_word *word, uint64_t value)
{
	while (ivc_load_acquire_u64(&word->at) != value) {
		ivc_cpu_relax();
	}
}

static inline void worker_tell(struct worker_word *word, uint64_t value)
{
	ivc_store_release_u64(&word->at, value);
}

/* One measured piece. */
static inline void worker_tick(uint64_t before)
{
	const uint64_t ticks = bench_now() - before;

	if (worker.job.ticks < VM_TICKS) {
		worker.job.tick[worker.job.ticks++] = ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX;
	}
}

#endif
