/* SPDX-License-Identifier: MIT */
/* Lines of VMs on stdout and stderr. It decides their form, and that a stuck reader cannot keep a VM from its end. */
#include "vm_show.h"
#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <ivc/atomic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LINE_BYTES 512

int vm_out_open(struct vm_out *out, int fd, int wake_fd)
{
	out->fd = fd;
	out->wake_fd = wake_fd;
	out->failed = 0;
	out->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (out->stop_fd < 0) {
		return -1;
	}
	(void)pthread_mutex_init(&out->lock, NULL);
	(void)pthread_mutex_init(&out->end_lock, NULL);
	return 0;
}

void vm_out_close(struct vm_out *out)
{
	(void)pthread_mutex_destroy(&out->end_lock);
	(void)pthread_mutex_destroy(&out->lock);
	(void)close(out->stop_fd);
}

static void event_raise(int fd)
{
	const uint64_t one = 1;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0) {
		return; /* raised already */
	}
}

static void out_fail(struct vm_out *out, int error)
{
	/* Relaxed: a number that is looked at after the event. */
	ivc_store_relaxed_u32(&out->failed, (uint32_t)error);
	event_raise(out->wake_fd);
}

/* Until a line can be written. Return: false: the end has come first. */
static bool out_ready(const struct vm_out *out)
{
	struct pollfd p[2] = {{.fd = out->fd, .events = POLLOUT}, {.fd = out->stop_fd, .events = POLLIN}};

	for (;;) {
		const int n = poll(p, 2, -1);

		if (n > 0 && p[0].revents) {
			return true; /* an error too: write tells it */
		}
		if (n > 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
			return false;
		}
	}
}

void vm_out_line(struct vm_out *out, uint32_t id, const char *text)
{
	char line[LINE_BYTES];
	int n = snprintf(line, sizeof(line) - 1, "vm%" PRIu32 "| %s", id, text);
	size_t bytes = n < 0 ? 0 : (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
	size_t at = 0;

	line[bytes++] = '\n';
	(void)pthread_mutex_lock(&out->lock);
	while (at < bytes && !vm_out_failed(out) && out_ready(out)) {
		const ssize_t done = write(out->fd, line + at, bytes - at);

		if (done > 0) {
			at += (size_t)done;
		} else if (done < 0 && errno != EINTR && errno != EAGAIN) {
			out_fail(out, errno);
		}
	}
	(void)pthread_mutex_unlock(&out->lock);
}

void vm_out_stop(const struct vm_out *out)
{
	event_raise(out->stop_fd);
}

int vm_out_failed(const struct vm_out *out)
{
	return (int)ivc_load_relaxed_u32(&out->failed);
}

static const char *kind_name(enum vmm_end_kind kind)
{
	switch (kind) {
	case VMM_EXITED:
		return "exited";
	case VMM_CRASHED:
		return "crashed";
	case VMM_STOPPED:
		return "stopped";
	case VMM_FAILED:
		return "failed";
	case VMM_RUNNING:
		break;
	}
	return "never ran";
}

/* The text has lines; the first one goes on where the sentence ends, the others stand below it. */
static void say_text(uint32_t id, const char *what, const char *text)
{
	size_t length = strcspn(text, "\n");

	say("vm%" PRIu32 " %s: %.*s", id, what, (int)length, text);
	for (text += length; text[0] == '\n' && text[1]; text += length) {
		text++;
		length = strcspn(text, "\n");
		say("vm%" PRIu32 "   %.*s", id, (int)length, text);
	}
}

void vm_show_end(struct vm_out *out, struct vm_show *show, const struct vmm_end *end, bool quiet)
{
	(void)pthread_mutex_lock(&out->end_lock);
	show->end = *end;
	show->over = true;
	if (end->kind == VMM_EXITED) {
		if (end->code || !quiet) {
			say("vm%" PRIu32 " exited with %" PRIu32, show->id, end->code);
		}
	} else if (end->text[0]) {
		say_text(show->id, kind_name(end->kind), end->text);
	} else {
		say("vm%" PRIu32 " %s", show->id, kind_name(end->kind));
	}
	(void)pthread_mutex_unlock(&out->end_lock);
}

bool vm_show_over(struct vm_out *out, const struct vm_show *show)
{
	bool over;

	(void)pthread_mutex_lock(&out->end_lock);
	over = show->over;
	(void)pthread_mutex_unlock(&out->end_lock);
	return over;
}

void vm_show_json(struct json *j, const struct vm_show *show)
{
	json_number(j, "id", show->id);
	json_text(j, "end", kind_name(show->end.kind));
	if (show->end.kind == VMM_EXITED) {
		json_number(j, "code", show->end.code);
	}
	if (show->end.text[0]) {
		json_number(j, "vcpu", show->end.vcpu);
		json_text(j, "text", show->end.text);
	}
}
