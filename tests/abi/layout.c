/* SPDX-License-Identifier: MIT */
/*
 * The frozen tables against ivc/abi.h, by the compiler alone: so they hold on every architecture that this file is
 * compiled for. It has no code and is not run.
 */
#include <ivc/abi.h>

#define STRUCT(name, bytes, section) _Static_assert(sizeof(struct name) == (bytes), "size of " #name);
#define FIELD(name, field, offset, bytes, type)                                                                        \
	_Static_assert(offsetof(struct name, field) == (offset), "offset of " #name "." #field);                       \
	_Static_assert(sizeof(((struct name *)0)->field) == (bytes), "size of " #name "." #field);
#include "layout.golden"

#define CALL(name, number)   _Static_assert(IVC_HC_##name == (number), "number of IVC_HC_" #name);
#define STATUS(name, number) _Static_assert(IVC_E_##name == (number), "number of IVC_E_" #name);
#define NUMBER(name, number) _Static_assert((name) == (number), "value of " #name);
#include "numbers.golden"

_Static_assert(sizeof(IVC_X86_SIGNATURE) == 13, "three registers of four bytes");
