/* SPDX-License-Identifier: MIT */
/*
 * The name table: (publisher, key) -> record. A name is in it exactly while its channel is LIVE. It knows nothing of the
 * record but the struct ivc_name inside.
 */
#ifndef IVC_HV_REGISTRY_H
#define IVC_HV_REGISTRY_H

#include <ivc/types.h>

struct ivc_registry;

struct ivc_name {
	uint64_t key;
	uint32_t publisher;
	uint32_t reserved;
	uint64_t node_[2]; /* the table's own */
};

/** ivc_registry_create - a table of fixed size for @names names, hashed with @seed. Return: 0; IVC_E_NOMEM. */
IVC_MUST_CHECK int ivc_registry_create(struct ivc_registry **out, uint32_t names, const uint64_t seed[2]);

/** ivc_registry_destroy - the table is empty; no read section may be looking. */
void ivc_registry_destroy(struct ivc_registry *r);

/**
 * ivc_registry_add - [REG-INS] the finished record, then its name. Allocates nothing, cannot fail: the caller holds the
 * publisher's control lock and has looked the name up. Context: registered thread.
 */
void ivc_registry_add(struct ivc_registry *r, struct ivc_name *name);

/** ivc_registry_del - [REG-DEL] the name goes; readers may still hold the record until a grace period has passed. */
void ivc_registry_del(struct ivc_registry *r, struct ivc_name *name);

/** ivc_registry_find - the record's name, or NULL. Context: read section; the answer is valid until it ends. */
struct ivc_name *ivc_registry_find(struct ivc_registry *r, ivc_vmid_t publisher, ivc_key_t key);

#endif
