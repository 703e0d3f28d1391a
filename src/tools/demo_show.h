/* SPDX-License-Identifier: MIT */
/*
 * What the demo found out, and how it is shown: line by line while it goes on, or as one JSON object at the end. It decides
 * no outcome: everything here was measured or answered.
 */
#ifndef IVC_TOOLS_DEMO_SHOW_H
#define IVC_TOOLS_DEMO_SHOW_H

#include <ivc/connect.h>
#include <ivc/port.h>
#include <sys/types.h>

struct demo_answer;

/* Answers of the VMs, by number. */
enum demo_step {
	STEP_CONNECT_1,
	STEP_CONNECT_2,
	STEP_PUBLISH,
	STEP_SUBSCRIBE,
	STEP_LOOK_1,
	STEP_LOOK_2,
	STEP_SEND,
	STEP_RECEIVE,
	STEP_TRIPS,
	STEP_FORBIDDEN,
	STEP_COMPARE,
	STEP_WATCH,
	STEP_AGAIN,
	STEP_GREET,
	STEP_UNSUBSCRIBE,
	STEP_UNPUBLISH,
	STEP_COUNT
};

struct demo_report {
	bool quiet, json, progress;
	const char *socket;
	ivc_vmid_t vm1, vm2;
	ivc_key_t key;
	char data_name[256];
	uint64_t data_bytes;
	uint32_t cpus;
	uint32_t pinned; /* both VMs had a CPU of their own while they measured */
	pid_t hv_pid, vm1_pid, vm2_pid, again_pid;
	uint32_t room_vms, room_channels;
	struct demo_answer *step; /* STEP_COUNT of them */
	struct ivc_port_levels first, during, last;
	uint64_t told_ns; /* from the last kill -9 to the word of VM 1 */
	uint32_t kills;   /* above 1: the machine was too busy before */
	int hv_exit;
	bool socket_gone;
	bool ok;
	int exit_code;
	char error[512];
};

void demo_show_host(const struct demo_report *r);
void demo_show_vms(const struct demo_report *r);
void demo_show_channel(const struct demo_report *r);
void demo_show_sending(const struct demo_report *r);
/** demo_show_progress - a bar on stderr; @whole: the last one, it is wiped out. */
void demo_show_progress(const struct demo_report *r, uint64_t messages, bool whole);
void demo_show_transfer(const struct demo_report *r);
void demo_show_trips(const struct demo_report *r);
void demo_show_forbidden(const struct demo_report *r);
void demo_show_killed(const struct demo_report *r);
void demo_show_closed(const struct demo_report *r);
void demo_show_left(const struct demo_report *r);

/** demo_gib_per_s - 0 when no time was measured. */
double demo_gib_per_s(uint64_t bytes, uint64_t ns);

/** demo_show_end - the last line, or the JSON object. Return: false: stdout does not take it. */
bool demo_show_end(const struct demo_report *r);

#endif
