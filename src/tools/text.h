/* SPDX-License-Identifier: MIT */
/*
 * Numbers, sizes and keys as people write and read them. It decides what a key text means (docs/tool.md) and knows no
 * option and no command.
 */
#ifndef IVC_TOOLS_TEXT_H
#define IVC_TOOLS_TEXT_H

#include <ivc/types.h>

#define TEXT_SIZE_BYTES 24 /* room for text_size() */
#define TEXT_KEY_BYTES  48 /* room for text_key() */

/** text_to_number - decimal or 0x hexadecimal, the whole of @text. Return: false: it is none, or above 64 bits. */
bool text_to_number(const char *text, uint64_t *out);

/** text_to_size - a number with k, m, g, KiB, MiB or GiB behind it. */
bool text_to_size(const char *text, uint64_t *out);

/**
 * text_to_key - a number, or 1 to 8 printable characters that do not begin with a digit: their bytes, the first one
 * lowest.
 */
bool text_to_key(const char *text, ivc_key_t *out);

/** text_size - "256 KiB", "8.0 MiB", "17 bytes". Return: @buf. */
const char *text_size(char buf[TEXT_SIZE_BYTES], uint64_t bytes);

/** text_key - 0x6f6d6564 "demo"; the text only where it is one. Return: @buf. */
const char *text_key(char buf[TEXT_KEY_BYTES], ivc_key_t key);

/** text_key_words - only the words of a key: up to 8 characters and a zero; empty where it is none of 2 or more. */
const char *text_key_words(char buf[9], ivc_key_t key);

/** text_plural - "s" unless @n is 1. */
const char *text_plural(uint64_t n);

#endif
