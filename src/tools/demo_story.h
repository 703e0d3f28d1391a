/* SPDX-License-Identifier: MIT */
/*
 * The story of the demo: what happens in which order on any host, and what must hold. It knows no option and no layout.
 */
#ifndef IVC_TOOLS_DEMO_STORY_H
#define IVC_TOOLS_DEMO_STORY_H

#include "demo.h"

struct demo_report;

/**
 * demo_story - from the hypervisor's start to its end on r->host, shown as it goes on; nothing is left behind in any
 * case.
 * Return: everything held; else r->error and r->exit_code tell.
 */
bool demo_story(struct demo_report *r, const struct demo_setup *s);

#endif
