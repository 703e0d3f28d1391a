/* SPDX-License-Identifier: MIT */
/*
 * What the demo sends. Without a file it gathers the sources of the project it was built from, and where there are
 * none it takes the program itself; either is repeated until it is a few MiB.
 */
#include "demo.h"
#include "say.h"
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAST_BYTES (8u << 20)
#define MOST_BYTES  (64u << 20)
#define PATH_BYTES  4096
#define DEPTH_MAX   8

/* append - the file @path behind what @to holds already. Return: false: it cannot be read, or there is no room. */
static bool append(int to, const char *path, uint64_t *bytes)
{
	static uint8_t buffer[65536];
	const int from = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (from < 0) {
		return false;
	}
	while (*bytes < MOST_BYTES && (n = read(from, buffer, sizeof(buffer))) > 0) {
		if (write(to, buffer, (size_t)n) != n) {
			n = -1;
			break;
		}
		*bytes += (uint64_t)n;
	}
	(void)close(from);
	return n == 0;
}

static void append_tree(int to, const char *root, const char *name, int depth, uint64_t *bytes)
{
	char path[PATH_BYTES];
	struct dirent **list;
	struct stat st;
	int n;

	if (snprintf(path, sizeof(path), "%s/%s", root, name) >= (int)sizeof(path) || lstat(path, &st) != 0) {
		return;
	}
	if (S_ISREG(st.st_mode)) {
		(void)append(to, path, bytes);
		return;
	}
	if (!S_ISDIR(st.st_mode) || depth == DEPTH_MAX) {
		return;
	}
	n = scandir(path, &list, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (list[i]->d_name[0] != '.') {
			append_tree(to, path, list[i]->d_name, depth + 1, bytes);
		}
		free(list[i]);
	}
	if (n >= 0) {
		free(list);
	}
}

static bool is_tree(const char *root)
{
	char path[PATH_BYTES];

	return snprintf(path, sizeof(path), "%s/include/ivc/abi.h", root) < (int)sizeof(path) &&
	       access(path, R_OK) == 0 && snprintf(path, sizeof(path), "%s/src/hv", root) < (int)sizeof(path) &&
	       access(path, R_OK) == 0;
}

/* tree_find - the directory of the sources: this one, or one above the program. */
static bool tree_find(char root[PATH_BYTES])
{
	ssize_t n;

	if (getcwd(root, PATH_BYTES) && is_tree(root)) {
		return true;
	}
	n = readlink("/proc/self/exe", root, PATH_BYTES - 1);
	if (n <= 0) {
		return false;
	}
	root[n] = 0;
	for (char *slash = strrchr(root, '/'); slash && slash != root; slash = strrchr(root, '/')) {
		*slash = 0;
		if (is_tree(root)) {
			return true;
		}
	}
	return false;
}

/* repeat - until @to holds at least LEAST_BYTES. */
static bool repeat(int to, uint64_t *bytes)
{
	static uint8_t buffer[65536];
	const uint64_t once = *bytes;

	for (uint64_t at = 0; *bytes < LEAST_BYTES;) {
		const uint64_t here = once - at % once, wanted = LEAST_BYTES - *bytes;
		const uint64_t left = here < wanted ? here : wanted;
		const size_t want = left < sizeof(buffer) ? (size_t)left : sizeof(buffer);
		const ssize_t n = pread(to, buffer, want, (off_t)(at % once));

		if (n <= 0 || write(to, buffer, (size_t)n) != n) {
			return false;
		}
		at += (uint64_t)n;
		*bytes += (uint64_t)n;
	}
	return true;
}

static int own_data(char *name, size_t room, uint64_t *bytes)
{
	static const char *const parts[] = {"README.md", "include", "src", "tests", "bench", "examples", "docs"};
	char root[PATH_BYTES];
	const int to = memfd_create("ivc-demo-data", MFD_CLOEXEC);

	*bytes = 0;
	if (to < 0) {
		say("no memory for the data: %s", strerror(errno));
		return -1;
	}
	if (tree_find(root)) {
		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			append_tree(to, root, parts[i], 0, bytes);
		}
		(void)snprintf(name, room, "the sources of this project, over and over");
	}
	if (*bytes == 0) {
		(void)append(to, "/proc/self/exe", bytes);
		(void)snprintf(name, room, "this program itself, over and over");
	}
	if (*bytes == 0 || !repeat(to, bytes)) {
		say("cannot gather any data; give it some: --file F");
		(void)close(to);
		return -1;
	}
	return to;
}

int demo_data_open(const char *file, char *name, size_t room, uint64_t *bytes)
{
	struct stat st;
	int fd;

	if (!file) {
		return own_data(name, room, bytes);
	}
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) != 0) {
		say("cannot open %s: %s", file, strerror(errno));
		if (fd >= 0) {
			(void)close(fd);
		}
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		say("%s is not a regular file; for anything else there are ivc pub and ivc sub", file);
		(void)close(fd);
		return -1;
	}
	*bytes = (uint64_t)st.st_size;
	(void)snprintf(name, room, "%s", file);
	return fd;
}

int64_t demo_data_read(int fd, uint64_t at, void *to, uint64_t room)
{
	uint64_t have = 0;

	while (have < room) {
		const ssize_t n = pread(fd, (uint8_t *)to + have, (size_t)(room - have), (off_t)(at + have));

		if (n < 0) {
			return IVC_E_IO;
		}
		if (n == 0) {
			break;
		}
		have += (uint64_t)n;
	}
	return (int64_t)have;
}
