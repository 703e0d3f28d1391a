/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's socket file: 0600 from its first moment, taken over from a dead hypervisor, never from a living one.
 * It decides whose path it is; it does not know what is said there.
 */
#include "state.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int status_of(int e)
{
	switch (e) {
	case ENOENT:
	case ENOTDIR:
		return IVC_E_NOENT;
	case EACCES:
	case EPERM:
	case EROFS:
		return IVC_E_PERM;
	case EADDRINUSE:
	case EEXIST:
		return IVC_E_EXIST;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
	case ENOSPC:
		return IVC_E_NOMEM;
	default:
		return IVC_E_IO;
	}
}

/* The directory of @path, locked: of two that start at once, only one looks, unlinks and binds. Return: -1, errno. */
static int directory_lock(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path) + 2];
	int fd, err;

	if (!slash) {
		snprintf(dir, sizeof(dir), ".");
	} else {
		snprintf(dir, sizeof(dir), "%.*s/", (int)(slash - path), path);
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return -1;
	}
	do {
		err = flock(fd, LOCK_EX);
	} while (err && errno == EINTR);
	return fd;
}

/* Somebody else's file is at the path. Return: true: it was a dead hypervisor's socket and is gone now. */
static bool take_over(const struct ivc_proc *proc)
{
	struct stat st;
	bool dead;
	int fd;

	if (lstat(proc->where.sun_path, &st) || !S_ISSOCK(st.st_mode)) {
		return false;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return false;
	}
	dead = connect(fd, (const struct sockaddr *)&proc->where, proc->where_bytes) && errno == ECONNREFUSED;
	close(fd);
	return dead && !unlink(proc->where.sun_path);
}

static int bind_here(struct ivc_proc *proc)
{
	const struct sockaddr *where = (const struct sockaddr *)&proc->where;
	struct stat st;

	/* The socket's own mode is what bind() gives the file: there is no moment at which others may connect. */
	if (fchmod(proc->listen, 0600)) {
		return IVC_E_IO;
	}
	if (bind(proc->listen, where, proc->where_bytes)) {
		if (errno != EADDRINUSE) {
			return status_of(errno);
		}
		if (!take_over(proc)) {
			return IVC_E_EXIST;
		}
		if (bind(proc->listen, where, proc->where_bytes)) {
			return status_of(errno);
		}
	}
	if (lstat(proc->where.sun_path, &st) || (st.st_mode & 0777) != 0600 || listen(proc->listen, SOMAXCONN)) {
		unlink(proc->where.sun_path);
		return IVC_E_IO;
	}
	proc->path_dev = (uint64_t)st.st_dev;
	proc->path_ino = (uint64_t)st.st_ino;
	return 0;
}

/* proc_socket_open - proc->listen listens at @path. Return: as ivc_proc_start(). */
int proc_socket_open(struct ivc_proc *proc, const char *path)
{
	int dir, err;
	size_t n;

	if (path && strncmp(path, "unix:", 5) == 0) {
		path += 5;
	}
	n = path ? strlen(path) : 0;
	if (n == 0 || n >= sizeof(proc->where.sun_path)) {
		return IVC_E_INVAL;
	}
	proc->where.sun_family = AF_UNIX;
	memcpy(proc->where.sun_path, path, n + 1);
	proc->where_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	proc->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (proc->listen < 0) {
		return status_of(errno);
	}
	dir = directory_lock(path);
	if (dir < 0) {
		err = status_of(errno);
		goto fail;
	}
	err = bind_here(proc);
	close(dir);
	if (!err) {
		return 0;
	}
fail:
	close(proc->listen);
	proc->listen = -1;
	return err;
}

/* proc_socket_close - removes the file, if it is still ours. */
void proc_socket_close(struct ivc_proc *proc)
{
	const int dir = directory_lock(proc->where.sun_path);
	struct stat st;

	if (!lstat(proc->where.sun_path, &st) && (uint64_t)st.st_dev == proc->path_dev &&
	    (uint64_t)st.st_ino == proc->path_ino) {
		unlink(proc->where.sun_path);
	}
	if (dir >= 0) {
		close(dir);
	}
	close(proc->listen);
	proc->listen = -1;
}
