/* SPDX-License-Identifier: MIT */
/*
 * The demo for programs: everything in one JSON object (docs/tool.md). It decides no outcome.
 */
#ifndef IVC_TOOLS_DEMO_JSON_H
#define IVC_TOOLS_DEMO_JSON_H

#include <stdio.h>

struct demo_report;

/** demo_json_write - one object and a line end. */
void demo_json_write(const struct demo_report *r, FILE *to);

#endif
