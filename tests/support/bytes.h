/* SPDX-License-Identifier: MIT */
/*
 * A string of bytes as a history of the hypervisor half: calls with any registers, faults of the host, late answers,
 * maps that change, VMs that die and come back. Used by the fuzzer and by the test that runs its corpus.
 */
#ifndef IVC_TESTS_BYTES_H
#define IVC_TESTS_BYTES_H

#include <stddef.h>
#include <stdint.h>

/** bytes_run - Return: NULL, or what went wrong. Context: thread not registered. Any input is allowed. */
const char *bytes_run(const uint8_t *data, size_t size);

#endif
