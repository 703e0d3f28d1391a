/* SPDX-License-Identifier: MIT */
/*
 * Ctrl-C and SIGTERM: the first one is remembered and ends every sleep in the hypervisor, so that a command can clean up;
 * the second one ends the process as usual. SIGPIPE is ignored: a broken pipe is an error of write().
 */
#ifndef IVC_TOOLS_STOP_H
#define IVC_TOOLS_STOP_H

#include <stdbool.h>

struct ivc_guest;

/** stop_catch - from now on. */
void stop_catch(void);

/** stop_hold, stop_release - SIGINT, SIGTERM and SIGHUP wait meanwhile; threads that are made then never get them. */
void stop_hold(void);
void stop_release(void);

/** stop_guest - the guest whose sleeps a signal ends; NULL: none. */
void stop_guest(struct ivc_guest *g);

/** stop_signal - the signal that came, 0: none. */
int stop_signal(void);

/** stop_name - "SIGINT" and so on. */
const char *stop_name(int signal);

#endif
