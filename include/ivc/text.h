/* SPDX-License-Identifier: MIT */
/*
 * Words for people: status codes as sentences, call numbers as names. Freestanding, no state, no allocation; any thread
 * may call anything at any time. It decides nothing: which numbers mean what is in ivc/abi.h.
 */
#ifndef IVC_TEXT_H
#define IVC_TEXT_H

#include <ivc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * ivc_strerror - one plain sentence, without a full stop, for IVC_OK or an IVC_E_*.
 * Return: a constant string, never NULL; "unknown status" for every other number.
 */
IVC_API const char *ivc_strerror(int err);

/**
 * ivc_status_name - the name of a status code as in ivc/abi.h without its prefix: "NOENT"; "OK" for 0.
 * Return: a constant string; NULL for every other number.
 */
IVC_API const char *ivc_status_name(int err);

/**
 * ivc_call_code - the code of a call number: 0-7 for themselves and for IVC_HC_ALIAS + 0-7, the number itself for the
 * calls from IVC_HC_FEATURES on. All 64 bits count: 0x1_0000_0003 is no call.
 * Return: false: nobody knows this number; *@code is written on success only.
 */
IVC_API bool ivc_call_code(uint64_t nr, uint64_t *code);

/**
 * ivc_call_name - the name of a call number, also of an alias. 0-7 are called as in axhvc 0.4.4 and its later releases.
 * Return: a constant string; NULL for a number that nobody knows.
 */
IVC_API const char *ivc_call_name(uint64_t nr);

/**
 * ivc_call_format - writes "(HIVCPublishChannel 0x3)" or "invalid hypercall code: 0x2a", as axhvc prints them.
 * An alias shows its code. The text is cut to @room bytes with its terminating zero; with @room 0 nothing is written and
 * @buf may be NULL.
 * Return: length of the whole text without the zero: not below @room means that it was cut.
 * Source: axhvc 0.4.4
 */
IVC_API size_t ivc_call_format(char *buf, size_t room, uint64_t nr);

#ifdef __cplusplus
}
#endif
#endif
