/* SPDX-License-Identifier: MIT */
/*
 * The name table on liburcu's lock-free hash table: fixed size, no automatic resize (0.13 aborts where an allocation of
 * a resize fails), keyed hash so that a guest cannot choose keys that collide. The only file that includes it.
 */
#include "registry.h"

#include "hash.h"
#include "rcu.h"

#include <ivc/abi.h>

#include <stdlib.h>
#include <urcu/rculfhash.h>

struct ivc_registry {
	struct cds_lfht *table;
	uint64_t seed[2];
};

_Static_assert(sizeof(struct cds_lfht_node) <= sizeof(((struct ivc_name *)0)->node_), "room for liburcu's node");
_Static_assert(_Alignof(struct cds_lfht_node) <= _Alignof(uint64_t), "alignment of liburcu's node");

static struct cds_lfht_node *node_of(struct ivc_name *name)
{
	return (struct cds_lfht_node *)(void *)name->node_;
}

static struct ivc_name *name_of(struct cds_lfht_node *node)
{
	return (struct ivc_name *)(void *)((char *)node - offsetof(struct ivc_name, node_));
}

static unsigned long name_hash(const struct ivc_registry *r, uint32_t publisher, uint64_t key)
{
	return (unsigned long)ivc_hash(r->seed, publisher, key);
}

struct probe {
	uint32_t publisher;
	uint64_t key;
};

static int name_match(struct cds_lfht_node *node, const void *arg)
{
	const struct probe *probe = (const struct probe *)arg;
	struct ivc_name *name = name_of(node);

	ivc_rcu_observe(name);
	return name->publisher == probe->publisher && name->key == probe->key;
}

int ivc_registry_create(struct ivc_registry **out, uint32_t names, const uint64_t seed[2])
{
	struct ivc_registry *r = (struct ivc_registry *)malloc(sizeof(*r));
	unsigned long buckets = 1;

	if (r == NULL) {
		return IVC_E_NOMEM;
	}
	while (buckets < names) {
		buckets *= 2;
	}
	r->seed[0] = seed[0];
	r->seed[1] = seed[1];
	r->table = cds_lfht_new_flavor(buckets, buckets, buckets, 0, &urcu_memb_flavor, NULL);
	if (r->table == NULL) {
		free(r);
		return IVC_E_NOMEM;
	}
	*out = r;
	return 0;
}

void ivc_registry_destroy(struct ivc_registry *r)
{
	cds_lfht_destroy(r->table, NULL);
	free(r);
}

void ivc_registry_add(struct ivc_registry *r, struct ivc_name *name)
{
	cds_lfht_node_init(node_of(name));
	/* [REG-INS] release: the whole record, then its name. Partner: ivc_registry_find(). */
	ivc_rcu_publish(name);
	ivc_rcu_read_lock();
	cds_lfht_add(r->table, name_hash(r, name->publisher, name->key), node_of(name));
	ivc_rcu_read_unlock();
}

void ivc_registry_del(struct ivc_registry *r, struct ivc_name *name)
{
	ivc_rcu_read_lock();
	/* [REG-DEL] unlink, then (after a grace period) reuse. Partner: ivc_registry_find() in a read section. */
	(void)cds_lfht_del(r->table, node_of(name));
	ivc_rcu_read_unlock();
}

struct ivc_name *ivc_registry_find(struct ivc_registry *r, ivc_vmid_t publisher, ivc_key_t key)
{
	const struct probe probe = {publisher.v, key.v};
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	cds_lfht_lookup(r->table, name_hash(r, publisher.v, key.v), name_match, &probe, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (node == NULL) {
		return NULL;
	}
	/* [REG-INS] acquire: the name, then the record. Partner: ivc_registry_add(). */
	ivc_rcu_observe(name_of(node));
	return name_of(node);
}
