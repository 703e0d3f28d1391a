/* SPDX-License-Identifier: MIT */
/*
 * What is left of a ceiling, and how much memory this process may still use before the system kills somebody for it. It
 * decides nothing about who gets it; it does not know what a section is.
 */
#include "room.h"
#include <ivc/atomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_BYTES 1024
#define NO_LIMIT       UINT64_MAX

/* What the two versions of control groups call their files, and the file pages that they can take back. */
struct group_files {
	const char *root;
	const char *most;
	const char *used;
	const char *inactive;
	const char *active;
};

static const struct group_files group_v2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file ",
					    "active_file "};
static const struct group_files group_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
					    "total_inactive_file ", "total_active_file "};

/* The number behind @name at the head of a line; @name empty: the first line. Return: false: none. */
static bool number_in(const char *path, const char *name, uint64_t *out)
{
	FILE *f = fopen(path, "re");
	char line[256];
	bool found = false;

	if (!f) {
		return false;
	}
	while (!found && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, strlen(name)) == 0) {
			const char *digits = line + strlen(name);
			char *end;

			*out = strtoull(digits, &end, 10);
			found = end != digits;
			if (!found) {
				break; /* "max" */
			}
		}
	}
	fclose(f);
	return found;
}

static bool group_number(const char *group, const char *file, const char *name, uint64_t *out)
{
	char path[PATH_MAX_BYTES + 64];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return number_in(path, name, out);
}

/* Of one control group and of all above it: the least. */
static uint64_t group_room(const struct group_files *files, const char *below)
{
	uint64_t least = NO_LIMIT;
	char group[PATH_MAX_BYTES];
	char *slash;

	snprintf(group, sizeof(group), "%s%s", files->root, below);
	do {
		uint64_t most, used = 0, inactive = 0, active = 0, room;

		if (group_number(group, files->most, "", &most) && group_number(group, files->used, "", &used)) {
			(void)group_number(group, "memory.stat", files->inactive, &inactive);
			(void)group_number(group, "memory.stat", files->active, &active);
			used -= used < inactive + active ? used : inactive + active;
			room = most > used ? most - used : 0;
			least = room < least ? room : least;
		}
		slash = strrchr(group, '/');
		if (slash) {
			*slash = 0;
		}
	} while (slash && strlen(group) >= strlen(files->root));
	return least;
}

static uint64_t groups_room(void)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	uint64_t least = NO_LIMIT, room = NO_LIMIT;
	char line[PATH_MAX_BYTES];

	if (!f) {
		return least;
	}
	while (fgets(line, sizeof(line), f)) {
		char *first = strchr(line, ':');
		char *second = first ? strchr(first + 1, ':') : NULL;

		if (!second) {
			continue;
		}
		line[strcspn(line, "\n")] = 0;
		if (second == first + 1) {
			room = group_room(&group_v2, second + 1);
		} else if (strncmp(first, ":memory:", 8) == 0) {
			room = group_room(&group_v1, second + 1);
		}
		least = room < least ? room : least;
	}
	fclose(f);
	return least;
}

uint64_t ivc_room_bytes(uint64_t planned)
{
	uint64_t room = groups_room(), kib;

	if (number_in("/proc/meminfo", "MemAvailable:", &kib) && kib < NO_LIMIT / 1024 && kib * 1024 < room) {
		room = kib * 1024;
	}
	room -= room < planned ? room : planned;
	return room - room / 4;
}

bool ivc_room_take(volatile uint64_t *used, uint64_t limit, uint64_t n)
{
	uint64_t now = ivc_load_relaxed_u64(used);

	do {
		if (n > limit || now > limit - n) {
			return false;
		}
	} while (!ivc_compare_exchange_u64(used, &now, now + n));
	return true;
}
