/* SPDX-License-Identifier: MIT */
/*
 * The commands of the tool and the exit codes that scripts may rely on (docs/tool.md). It decides nothing else.
 */
#ifndef IVC_TOOLS_TOOL_H
#define IVC_TOOLS_TOOL_H

enum tool_exit {
	TOOL_OK = 0,
	TOOL_ERROR = 1, /* usage, or the command could not begin */
	TOOL_ENDED =
		2, /* the channel, the publisher or the hypervisor ended before the end; demo: a claim did not hold */
	TOOL_NO_READER = 3, /* pub: the last reader left before the end */
	TOOL_SIGNAL = 128   /* + number of the signal: SIGINT 130, SIGTERM 143 */
};

/* Each gets the arguments from its own name on and returns the exit code. */
int cmd_hv(int argc, char **argv);
int cmd_pub(int argc, char **argv);
int cmd_sub(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_vm(int argc, char **argv);

#endif
