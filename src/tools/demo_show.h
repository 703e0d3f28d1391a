/* SPDX-License-Identifier: MIT */
/*
 * What the demo found out, and how it is shown: line by line while it goes on, or as one JSON object at the end. It
 * decides no outcome: everything here was measured or answered.
 */
#ifndef IVC_TOOLS_DEMO_SHOW_H
#define IVC_TOOLS_DEMO_SHOW_H

#include "demo.h"

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
	STEP_UNSUBSCRIBE,
	STEP_UNPUBLISH,
	STEP_OTHER, /* all of which nothing is shown */
	STEP_COUNT
};

struct demo_report {
	bool quiet, json, progress;
	const struct demo_host *host;
	char reason[320]; /* for this host */
	ivc_vmid_t vm[DEMO_VMS];
	ivc_key_t key;
	char data_name[256];
	uint64_t data_bytes;
	uint32_t cpus;
	uint32_t pinned; /* both VMs had a CPU of their own while they measured */
	struct demo_facts facts;
	pid_t pid[DEMO_VMS], again_pid;
	struct demo_answer step[STEP_COUNT];
	struct demo_levels first, during, closed, last;
	uint64_t told_ns; /* from the last death of VM 2 to the word of VM 1 */
	uint32_t kills;   /* above 1: the machine was too busy before */
	struct demo_end end;
	bool ok;
	int exit_code;
	char error[600];
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
