/* SPDX-License-Identifier: MIT */
/*
 * Questions to a hypervisor process that do not make anyone a VM. It decides nothing.
 */
#include "state.h"
#include <unistd.h>

static int ask(const char *where, enum ivc_wire_what what, uint32_t from, enum ivc_wire_type type, struct ivc_wire *m)
{
	int fd, err;

	err = port_socket(where, &fd);
	if (err) {
		return err;
	}
	ivc_wire_start(m, IVC_WIRE_ASK, 1);
	m->u.ask.what = (uint32_t)what;
	m->u.ask.from = from;
	(void)ivc_wire_send(fd, m, -1, 0);
	err = port_handshake_recv(fd, m);
	if (!err && m->type != type) {
		err = IVC_E_PROTO;
	}
	close(fd);
	return err;
}

int ivc_port_read_levels(const char *where, struct ivc_port_levels *out)
{
	struct ivc_wire m;
	const int err = ask(where, IVC_WIRE_ASK_LEVELS, 0, IVC_WIRE_LEVELS, &m);

	if (err) {
		return err;
	}
	*out = (struct ivc_port_levels){
		.hv = m.u.levels.hv,
		.instance = m.u.levels.instance,
		.pid = m.u.levels.pid,
		.descriptors = m.u.levels.descriptors,
		.memfds = m.u.levels.memfds,
		.threads = m.u.levels.threads,
		.vms = m.u.levels.vms,
		.vcpus = m.u.levels.vcpus,
		.refused = m.u.levels.refused,
		.ended = m.u.levels.ended,
	};
	return 0;
}

int ivc_port_read_vm(const char *where, ivc_vmid_t from, struct ivc_port_vm_info *out)
{
	struct ivc_wire m;
	const int err = ask(where, IVC_WIRE_ASK_VM, from.v, IVC_WIRE_VM, &m);

	if (err || m.u.vm.status) {
		return err ? err : m.u.vm.status;
	}
	*out = (struct ivc_port_vm_info){
		.id = ivc_vmid(m.u.vm.id),
		.pid = m.u.vm.pid,
		.views = m.u.vm.views,
		.vcpus = m.u.vm.vcpus,
		.window = ivc_gpa(m.u.vm.window),
		.window_bytes = m.u.vm.window_bytes,
		.dying = m.u.vm.dying,
		.stats = m.u.vm.stats,
	};
	return 0;
}
