/* SPDX-License-Identifier: MIT */
/*
 * A ring between two processes and a file: no hypervisor, no channel, only ivc/ring.h. One process writes what it reads
 * from its standard input into the ring, the other one writes what it finds there to its standard output.
 *
 *   ring-only recv FILE > copy &
 *   ring-only send FILE < original
 *
 * The file is two parts, each written by one side and read-only for the other; all zero is an empty ring, so it does
 * not matter who comes first. A message of no bytes is the end. Nobody tells a process here that the other one died:
 * that is what a channel is for.
 */
#include <ivc/ring.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define MARK_AT    0u         /* the reader's page: its cursor */
#define RING_AT    PAGE_BYTES /* the writer's pages: counters, runs, payload */
#define RING_BYTES 65536u
#define FILE_BYTES (RING_AT + RING_BYTES)
#define CHUNK      4000u

/* Both sides poll; a millisecond is enough for a demonstration. */
static void pause_short(void)
{
	const struct timespec short_time = {0, 1000000};

	(void)nanosleep(&short_time, NULL);
}

static int complain(const char *what)
{
	(void)fprintf(stderr, "ring-only: %s: %s\n", what, strerror(errno));
	return 1;
}

/* One part of the file, writable for its one writer. */
static void *map_part(int fd, off_t at, size_t bytes, bool write)
{
	void *const part = mmap(NULL, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, at);

	return part != MAP_FAILED ? part : NULL;
}

static int send_message(struct ivc_ring_writer *w, const void *message, size_t bytes)
{
	int err;

	for (;;) {
		err = ivc_ring_send(w, message, bytes);
		if (err != IVC_E_AGAIN) {
			return err;
		}
		pause_short();
	}
}

static int send_all(int fd)
{
	struct ivc_ring_writer w;
	struct ivc_ring_cursor reader;
	struct ivc_ring_start start;
	void *const ring = map_part(fd, RING_AT, RING_BYTES, true);
	const void *const mark = map_part(fd, MARK_AT, PAGE_BYTES, false);
	char chunk[CHUNK];
	ssize_t bytes;

	if (ring == NULL || mark == NULL) {
		return complain("mmap");
	}
	if (ivc_ring_writer_init(&w, ring, RING_BYTES, 0, 0) != 0) {
		return 1;
	}
	/* The one reader begins at the very first message, which is what zeroed memory says. */
	ivc_ring_admit(&w, &reader, mark, 0, &start);
	do {
		bytes = read(STDIN_FILENO, chunk, sizeof(chunk));
		if (bytes < 0) {
			return complain("read");
		}
		if (send_message(&w, chunk, (size_t)bytes) != 0) {
			(void)fprintf(stderr, "ring-only: the reader broke the ring\n");
			return 2;
		}
	} while (bytes != 0);
	while (!ivc_ring_drained(&w)) {
		pause_short();
	}
	return ivc_ring_lied(&reader) ? 2 : 0;
}

static int write_all(const char *from, size_t bytes)
{
	while (bytes != 0) {
		const ssize_t done = write(STDOUT_FILENO, from, bytes);

		if (done < 0) {
			return complain("write");
		}
		from += done;
		bytes -= (size_t)done;
	}
	return 0;
}

static int receive_all(int fd)
{
	const struct ivc_ring_start start = {0, 0};
	struct ivc_ring_reader r;
	const void *const ring = map_part(fd, RING_AT, RING_BYTES, false);
	void *const mark = map_part(fd, MARK_AT, PAGE_BYTES, true);
	char chunk[CHUNK];

	if (ring == NULL || mark == NULL) {
		return complain("mmap");
	}
	if (ivc_ring_reader_init(&r, ring, RING_BYTES, mark, &start, 0) != 0) {
		return 1;
	}
	for (;;) {
		const int64_t bytes = ivc_ring_recv(&r, chunk, sizeof(chunk));

		if (bytes == IVC_E_AGAIN) {
			pause_short();
		} else if (bytes < 0) {
			(void)fprintf(stderr, "ring-only: the writer broke the ring\n");
			return 2;
		} else if (bytes == 0) {
			ivc_ring_flush(&r);
			return 0;
		} else if (write_all(chunk, (size_t)bytes) != 0) {
			return 1;
		}
	}
}

/* The sender makes the file; the receiver waits until it is there in full. */
static int open_made(const char *path)
{
	struct stat about;
	int fd;

	for (;;) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &about) == 0 && about.st_size == (off_t)FILE_BYTES) {
			return fd;
		}
		if (fd >= 0) {
			(void)close(fd);
		} else if (errno != ENOENT) {
			return -1;
		}
		pause_short();
	}
}

int main(int argc, char **argv)
{
	int fd;
	int result;

	if (argc != 3 || (strcmp(argv[1], "send") != 0 && strcmp(argv[1], "recv") != 0)) {
		(void)fprintf(stderr, "usage: ring-only send|recv FILE\n");
		return 1;
	}
	if (strcmp(argv[1], "recv") == 0) {
		fd = open_made(argv[2]);
		return fd < 0 ? complain(argv[2]) : receive_all(fd);
	}
	fd = open(argv[2], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		return complain(argv[2]);
	}
	result = ftruncate(fd, (off_t)FILE_BYTES) == 0 ? send_all(fd) : complain("ftruncate");
	(void)unlink(argv[2]);
	return result;
}
