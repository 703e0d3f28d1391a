/* SPDX-License-Identifier: MIT */
/*
 * A hypervisor process from start to stop: the process host (proc.h) with the signals of a tool around it. It decides
 * which sentence stands for which error and knows no option.
 */
#ifndef IVC_TOOLS_HV_SERVE_H
#define IVC_TOOLS_HV_SERVE_H

#include "hv/proc/proc.h"

/**
 * hv_serve - serves until SIGINT, SIGTERM or SIGHUP. Everything that fails is told on stderr.
 * @ready: called once the socket is there; optional.
 * Return: exit code: 0 after SIGTERM and SIGHUP, which are the usual end of a service; 130 after SIGINT.
 * Context: the main thread, before any other; it keeps the signals blocked.
 */
int hv_serve(const struct ivc_proc_config *cfg, void (*ready)(void *arg, const struct ivc_proc_limits *limits),
	     void *arg);

#endif
