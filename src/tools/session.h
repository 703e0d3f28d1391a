/* SPDX-License-Identifier: MIT */
/*
 * What pub and sub have in common: being a VM, and what to say when that ends. It decides which end of a channel is which
 * exit code and knows no data.
 */
#ifndef IVC_TOOLS_SESSION_H
#define IVC_TOOLS_SESSION_H

#include <ivc/connect.h>

/**
 * session_begin - signals are caught, this process is the VM @vm.
 * Return: 0; else the exit code, told. session_end() in any case.
 */
int session_begin(struct ivc_guest *g, const char *where, ivc_vmid_t vm);

/** session_end - every channel of the VM is ended, the hypervisor forgets it. */
void session_end(struct ivc_guest *g);

/** session_gone - the hypervisor has gone. */
bool session_gone(struct ivc_guest *g);

/** session_failed - a call ended with @err: tells why. Return: exit code, that of the signal if one came. */
int session_failed(struct ivc_guest *g, int64_t err);

/** session_stopped - tells which signal came. Return: exit code for it. */
int session_stopped(void);

#endif
