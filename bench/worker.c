/* SPDX-License-Identifier: MIT */
/*
 * The guest program of the benches: takes jobs from the VMM, does them, times them with the time stamp counter, one clock
 * for each figure. Calls, bells and the making of channels are here; rings are in worker_loops.c. It knows no host.
 */
#include "worker.h"

#define KEY_FLAT    UINT64_C(0x100)
#define KEY_BELL    UINT64_C(0x200)
#define KEY_PUBLISH UINT64_C(0x300)
#define NAP_NS      UINT64_C(100000000)
#define REST_US     UINT64_C(600)
#define LATE_NS     UINT64_C(10000000000)
#define LAYOUT      (IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT)
#define FIRST_BYTES 64u

struct worker worker;

/* The arguments are not shown: there is no printf() with a list of arguments here. */
void bench_fail(const char *format, ...)
{
	ivc_bare_print("worker: %s\n", format);
	ivc_bare_exit(2);
}

void worker_must(int64_t result, const char *what)
{
	if (result < 0) {
		ivc_bare_print("worker: %s: %ld\n", what, (long)result);
		ivc_bare_exit(2);
	}
}

void worker_quiet(uint64_t ticks)
{
	const uint64_t begin = bench_now();

	while (bench_now() - begin < ticks) {
		ivc_cpu_relax();
	}
}

/* ------------------------------------------------------------------------------------------------------- two VMs meet */

static void meet_as_publisher(struct worker_pair *pair, uint32_t number)
{
	struct ivc_guest *const g = &worker.guest;
	struct ivc_call_region region;
	const struct ivc_hv_page *page;

	worker_must(ivc_call_publish(g, 0, ivc_key(KEY_FLAT + number), sizeof(struct worker_flat), 0, &region), "flat");
	pair->flat = (struct worker_flat *)(uintptr_t)region.base.v;
	worker_must(ivc_call_publish(g, 0, ivc_key(KEY_BELL + number), 4096, LAYOUT | IVC_LAYOUT_SLEEPS, &region),
		    "bell channel");
	page = (const struct ivc_hv_page *)(uintptr_t)region.base.v;
	pair->bell.v = ivc_load_acquire_u64(&page->handle);
	worker_tell(&pair->flat->go, 0);
}

static void meet_as_subscriber(struct worker_pair *pair, uint32_t number)
{
	struct ivc_guest *const g = &worker.guest;
	struct ivc_call_region region;
	const struct ivc_hv_page *page;

	worker_must(ivc_call_subscribe(g, 0, pair->publisher, ivc_key(KEY_FLAT + number), false, 0, &region), "flat");
	pair->flat = (struct worker_flat *)(uintptr_t)region.base.v;
	worker_must(ivc_call_subscribe(g, 0, pair->publisher, ivc_key(KEY_BELL + number), true, IVC_SUBSCRIBE_SLEEPS,
				       &region),
		    "bell channel");
	page = (const struct ivc_hv_page *)(uintptr_t)region.base.v;
	pair->bell.v = ivc_load_acquire_u64(&page->handle);
}

static void meet(void)
{
	const struct vm_job *const job = &worker.job;
	struct worker_pair *const pair = &worker.pair[job->pair % WORKER_PAIRS];
	struct ivc_guest_facts facts;

	ivc_guest_info(&worker.guest, &facts);
	pair->side = job->side;
	if (job->side == 0) {
		pair->publisher = facts.vm;
		meet_as_publisher(pair, job->pair);
	} else {
		pair->publisher = ivc_vmid(job->peer);
		meet_as_subscriber(pair, job->pair);
	}
}

/* -------------------------------------------------------------------------------------------------------------- calls */

static void calls(void)
{
	struct vm_job *const job = &worker.job;
	uint32_t i;
	uint32_t k;

	for (i = 0; i < job->count; i++) {
		const uint64_t before = bench_now();

		for (k = 0; k < job->per; k++) {
			worker_must(ivc_call_vm_id(&worker.guest), "VM_ID");
		}
		worker_tick(before);
	}
}

static void publish(void)
{
	struct vm_job *const job = &worker.job;
	struct ivc_call_region region;
	uint32_t i;

	for (i = 0; i < job->count; i++) {
		const uint64_t before = bench_now();

		worker_must(ivc_call_publish(&worker.guest, 0, ivc_key(KEY_PUBLISH), 4096, LAYOUT, &region), "PUBLISH");
		worker_must(ivc_call_unpublish(&worker.guest, ivc_key(KEY_PUBLISH), IVC_UNPUBLISH_DRAIN), "UNPUBLISH");
		worker_tick(before);
	}
}

/* -------------------------------------------------------------------------------------------------------------- bells */

static void ring_peer(const struct worker_pair *pair, uint32_t number)
{
	uint64_t word = 0;

	switch (worker.job.how) {
	case VM_HOW_BELL:
		worker_must(ivc_call_bell(&worker.guest, pair->bell, 0, IVC_ALL, 0), "BELL");
		break;
	case VM_HOW_NOTIFY:
		worker_must(ivc_call_notify(&worker.guest, pair->publisher, ivc_key(KEY_BELL + number), IVC_ALL, 0),
			    "NOTIFY");
		break;
	case VM_HOW_DOORBELL:
		if (worker.doorbell == NULL) {
			bench_fail("no doorbell page");
		}
		/* Seat 0. */
		ivc_store_release_u32(worker.doorbell, (uint32_t)pair->bell.v << IVC_DOORBELL_INDEX_SHIFT);
		break;
	default:
		worker_must(ivc_bare_service(VM_SEND, &word, sizeof(word)), "send");
		break;
	}
}

static void ring(void)
{
	struct vm_job *const job = &worker.job;
	const struct worker_pair *const pair = &worker.pair[job->pair % WORKER_PAIRS];
	uint32_t i;
	uint32_t k;

	if (job->side == 1) {
		worker_tell(&pair->flat->ready, job->key);
		worker_await(&pair->flat->stop, job->key);
		return;
	}
	worker_await(&pair->flat->ready, job->key);
	for (i = 0; i < job->count; i++) {
		const uint64_t before = bench_now();

		for (k = 0; k < job->per; k++) {
			ring_peer(pair, job->pair);
		}
		worker_tick(before);
	}
	worker_tell(&pair->flat->stop, job->key);
}

/*
 * A thread that has slept is preferred when it wants to run: on a busy machine, what is measured next is not how long its CPU
 * was somebody else's. The peer rests less, so that it is there first.
 */
static void rest(uint32_t side)
{
	worker_must(ivc_bare_service(VM_REST, NULL, side == 0 ? REST_US : REST_US / 2), "rest");
}

/* Takes what rang before, so that the next bell is news. */
static void nap_begin(const struct worker_pair *pair)
{
	ivc_handle_t rang;

	if (worker.job.nap == VM_NAP_WAIT) {
		(void)ivc_call_wait(&worker.guest, pair->bell, 0, &rang);
	} else if (worker.job.nap != VM_NAP_SOCKET) {
		(void)ivc_guest_interrupt(&worker.guest);
	}
}

static void nap(const struct worker_pair *pair, uint64_t seen)
{
	const struct ivc_env *const env = ivc_bare_env();
	const uint64_t late = ivc_bare_now_ns() + LATE_NS;
	ivc_handle_t rang;
	uint64_t word;
	int err;

	switch (worker.job.nap) {
	case VM_NAP_WAIT:
		do {
			err = ivc_call_wait(&worker.guest, pair->bell, NAP_NS, &rang);
		} while (err == IVC_E_TIMEDOUT);
		worker_must(err, "WAIT");
		break;
	case VM_NAP_SPIN:
		while (ivc_bare_interrupts_seen() == seen) {
			ivc_cpu_relax();
			if (ivc_bare_now_ns() > late) {
				bench_fail("no interrupt came");
			}
		}
		break;
	case VM_NAP_HALT:
		while (ivc_bare_interrupts_seen() == seen) {
			worker_must(env->park(env->os, ivc_bare_now_ns() + NAP_NS), "park");
			if (ivc_bare_now_ns() > late) {
				bench_fail("no interrupt came");
			}
		}
		break;
	default:
		worker_must(ivc_bare_service(VM_RECV, &word, sizeof(word)), "recv");
		break;
	}
}

static void wake(void)
{
	struct vm_job *const job = &worker.job;
	const struct worker_pair *const pair = &worker.pair[job->pair % WORKER_PAIRS];
	uint64_t i;

	for (i = job->key + 1; i <= job->key + job->count; i++) {
		uint64_t before;

		rest(job->side);
		if (job->side == 1) {
			uint64_t seen;

			nap_begin(pair);
			seen = ivc_bare_interrupts_seen();
			worker_tell(&pair->flat->ready, i);
			nap(pair, seen);
			worker_tell(&pair->flat->reply, i);
			continue;
		}
		worker_await(&pair->flat->ready, i);
		worker_quiet(job->quiet);
		before = bench_now();
		ring_peer(pair, job->pair);
		worker_await(&pair->flat->reply, i);
		worker_tick(before);
	}
}

/* --------------------------------------------------------------------------------------------- from nothing to one byte */

static void first_publish(struct worker_flat *flat, uint64_t key)
{
	const bool polls = worker.job.queue == VM_QUEUE_POLLS;
	const struct ivc_pub_options options = {.bytes = 4096, .polls = polls};
	uint8_t message[FIRST_BYTES] = {(uint8_t)key};
	uint64_t before = bench_now();
	static struct ivc_pub pub;
	static struct ivc_seat seat;

	if (worker.job.queue == VM_QUEUE_SOCKET) {
		worker_tell(&flat->go, key);
		worker_must(ivc_bare_service(VM_DIAL, message, sizeof(message)), "dial");
		worker_await(&flat->reply, key);
		worker_tick(before);
		worker_await(&flat->done, key);
		worker_must(ivc_bare_service(VM_HANG_UP, NULL, 0), "hang up");
		return;
	}
	worker_must(ivc_pub_open(&pub, &worker.guest, ivc_key(key), &options, &seat), "ivc_pub_open");
	worker_tell(&flat->go, key);
	worker_must(ivc_pub_await(&pub, 1, IVC_FOREVER), "ivc_pub_await");
	worker_must(ivc_pub_send(&pub, message, sizeof(message), IVC_FOREVER), "ivc_pub_send");
	worker_await(&flat->reply, key);
	worker_tick(before);
	worker_await(&flat->done, key);
	worker_must(ivc_pub_close(&pub, IVC_DRAIN), "ivc_pub_close");
}

static void first_subscribe(struct worker_flat *flat, ivc_vmid_t publisher, uint64_t key)
{
	const struct ivc_sub_options options = {.polls = worker.job.queue == VM_QUEUE_POLLS};
	uint8_t message[FIRST_BYTES] = {0};
	static struct ivc_sub sub;

	worker_await(&flat->go, key);
	if (worker.job.queue == VM_QUEUE_SOCKET) {
		worker_must(ivc_bare_service(VM_ACCEPT, message, sizeof(message)), "accept");
	} else {
		worker_must(ivc_sub_open(&sub, &worker.guest, publisher, ivc_key(key), &options), "ivc_sub_open");
		worker_must(ivc_sub_recv(&sub, message, sizeof(message), IVC_FOREVER), "ivc_sub_recv");
	}
	worker_tell(&flat->reply, key);
	if (message[0] != (uint8_t)key) {
		bench_fail("another message");
	}
	if (worker.job.queue == VM_QUEUE_SOCKET) {
		worker_must(ivc_bare_service(VM_HANG_UP, NULL, 0), "hang up");
	} else {
		worker_must(ivc_sub_close(&sub), "ivc_sub_close");
	}
	worker_tell(&flat->done, key);
}

static void first(void)
{
	const struct vm_job *const job = &worker.job;
	const struct worker_pair *const pair = &worker.pair[0];
	uint64_t key;

	for (key = job->key; key < job->key + job->count; key++) {
		rest(job->side);
		if (job->side == 0) {
			first_publish(pair->flat, key);
		} else {
			first_subscribe(pair->flat, pair->publisher, key);
		}
	}
}

/* --------------------------------------------------------------------------------------------------------------- jobs */

static void work(void)
{
	worker.job.ticks = 0;
	worker.job.sum = 0;
	switch (worker.job.task) {
	case VM_MEET:
		meet();
		break;
	case VM_OPEN:
		worker_open();
		break;
	case VM_CALLS:
		calls();
		break;
	case VM_TRIP:
	case VM_SILENT:
	case VM_STREAM:
		worker_loop();
		break;
	case VM_FIRST:
		first();
		break;
	case VM_PUBLISH:
		publish();
		break;
	case VM_RING:
		ring();
		break;
	case VM_WAKE:
		wake();
		break;
	default:
		bench_fail("unknown task");
	}
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	struct ivc_guest_facts facts;

	(void)m;
	(void)vcpu;
	worker_must(ivc_guest_init(&worker.guest, ivc_bare_env()), "ivc_guest_init");
	ivc_guest_info(&worker.guest, &facts);
	worker.doorbell = (volatile uint32_t *)(uintptr_t)facts.doorbell.v;
	ivc_bare_interrupts(NULL);
	loops_data_fill(&worker.data);
	for (;;) {
		worker_must(ivc_bare_service(VM_NEXT, &worker.job, sizeof(worker.job)), "next");
		if (worker.job.task == VM_END) {
			return 0;
		}
		work();
	}
}
