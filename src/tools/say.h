/* SPDX-License-Identifier: MIT */
/*
 * Lines on stderr, each with the name of the command before it and written at once, so that lines of several processes do
 * not mix. It decides no exit code.
 */
#ifndef IVC_TOOLS_SAY_H
#define IVC_TOOLS_SAY_H

/** say_as - the name before every line: "ivc pub". @name: a constant string. */
void say_as(const char *name);

/** say_name - what say_as() was given last. */
const char *say_name(void);

/** say - one line; a line end is added. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** say_usage - the same with the way to the help after it. Return: the exit code for it. */
int say_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
