/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's socket file: 0600 from its first moment, taken over from a dead hypervisor, never from a living one.
 * It decides whose path it is; it does not know what is said there.
 */
#include "state.h"
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_MS       1000 /* for another that is starting at this path */
#define LOCK_RETRY_MS 5

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
	case ELOOP:
	case EISDIR:
	case ENXIO:
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

/*
 * The lock file of @path, ours: of two that start at once, only one looks, unlinks and binds. The file is 0600, and not
 * the directory itself, which whoever may read it could lock and keep.
 * Return: descriptor; IVC_E_BUSY: somebody keeps it; or as ivc_proc_start().
 */
static int lock_take(const char *lock)
{
	const uint64_t until = proc_now_ns() + (uint64_t)LOCK_MS * 1000000;
	struct stat mine, there;
	int fd;

	do {
		fd = open(lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0) {
			return status_of(errno);
		}
		if (fstat(fd, &mine) || !S_ISREG(mine.st_mode) || mine.st_uid != geteuid()) {
			close(fd);
			return IVC_E_EXIST;
		}
		/* Whoever had it before has removed the file: a lock on that one keeps nobody out any more. */
		if (!flock(fd, LOCK_EX | LOCK_NB) && !lstat(lock, &there) && there.st_ino == mine.st_ino &&
		    there.st_dev == mine.st_dev) {
			return fd;
		}
		close(fd);
		poll(NULL, 0, LOCK_RETRY_MS);
	} while (proc_now_ns() < until);
	return IVC_E_BUSY;
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
	char lock[sizeof(proc->where.sun_path) + sizeof(".lock")];
	int fd, err;
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
	(void)snprintf(lock, sizeof(lock), "%s.lock", path);
	fd = lock_take(lock);
	if (fd < 0) {
		err = fd;
		goto fail;
	}
	err = bind_here(proc);
	unlink(lock); /* before the lock goes: the file that is there is ours */
	close(fd);
	if (!err) {
		return 0;
	}
fail:
	close(proc->listen);
	proc->listen = -1;
	return err;
}

/*
 * proc_socket_close - removes the file, if it is still ours. It needs no lock: nobody takes over the path of a socket
 * that listens, and it listens until the file is gone.
 */
void proc_socket_close(struct ivc_proc *proc)
{
	struct stat st;

	if (!lstat(proc->where.sun_path, &st) && (uint64_t)st.st_dev == proc->path_dev &&
	    (uint64_t)st.st_ino == proc->path_ino) {
		unlink(proc->where.sun_path);
	}
	close(proc->listen);
	proc->listen = -1;
}
