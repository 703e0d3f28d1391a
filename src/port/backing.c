/* SPDX-License-Identifier: MIT */
/*
 * Memory of sections: filled before anyone has it, sealed so that nobody can take a page away. It decides how such
 * memory is made and how a mapping of it lies; it does not know who maps it, or what for.
 */
#include "backing.h"
#include <errno.h>
#include <fcntl.h>
#include <ivc/abi.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Numbers are given lowest first: one so high means that hardly any are left. */
static bool last_ones(int fd, uint32_t kept)
{
	struct rlimit most;

	return kept && getrlimit(RLIMIT_NOFILE, &most) == 0 && (rlim_t)fd + kept >= most.rlim_cur;
}

int ivc_backing_new(uint64_t bytes, uint32_t kept)
{
	int fd = bytes <= INT64_MAX ? memfd_create("ivc-section", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)
				    : -1;
	int err;

	if (fd < 0 && bytes <= INT64_MAX && errno == EINVAL) {
		fd = memfd_create("ivc-section", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	}
	if (fd < 0) {
		return -1;
	}
	if (last_ones(fd, kept) || ftruncate(fd, (off_t)bytes)) {
		goto fail;
	}
	/* Lack of memory shows here and now: later it would be a SIGBUS in whoever touches the page. */
	do {
		err = fallocate(fd, 0, 0, (off_t)bytes);
	} while (err && errno == EINTR);
	if (err || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return -1;
}

void *ivc_backing_reserve(uint64_t bytes)
{
	const uint64_t extra = bytes >= IVC_HUGE_BYTES ? IVC_HUGE_BYTES : 0;
	uintptr_t at, good;

	if (bytes > UINTPTR_MAX - extra) {
		return NULL;
	}
	at = (uintptr_t)mmap(NULL, bytes + extra, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == (uintptr_t)MAP_FAILED) {
		return NULL;
	}
	if (!extra) {
		return (void *)at;
	}
	good = (at + IVC_HUGE_BYTES - 1) & ~(uintptr_t)(IVC_HUGE_BYTES - 1);
	if (good != at) {
		munmap((void *)at, good - at);
	}
	if (at + extra != good) {
		munmap((void *)(good + bytes), at + extra - good);
	}
	return (void *)good;
}
