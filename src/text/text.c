/* SPDX-License-Identifier: MIT */
/*
 * Names of calls and sentences for status codes. It is part of the hypervisor, port and guest libraries, so it uses no
 * libc; it knows the numbers of ivc/abi.h and nothing of what a call does.
 */
#include <ivc/abi.h>
#include <ivc/text.h>

struct status_text {
	int err;
	const char *name;
	const char *sentence;
};

/* Sentences say what a caller can do with them; docs/abi.md 4 has the full meaning. */
static const struct status_text status_texts[] = {
	{IVC_OK, "OK", "success"},
	{IVC_E_PERM, "PERM", "not allowed"},
	{IVC_E_NOENT, "NOENT", "no such channel"},
	{IVC_E_INTR, "INTR", "the wait was ended from outside"},
	{IVC_E_IO, "IO", "the caller's own window could not be changed"},
	{IVC_E_AGAIN, "AGAIN", "not now, try again"},
	{IVC_E_NOMEM, "NOMEM", "the host has no memory for it"},
	{IVC_E_FAULT, "FAULT", "a slot is not the caller's plain writable RAM"},
	{IVC_E_BUSY, "BUSY", "every seat is taken, or the state forbids it"},
	{IVC_E_EXIST, "EXIST", "this VM has it already"},
	{IVC_E_NODEV, "NODEV", "no hypervisor answers"},
	{IVC_E_INVAL, "INVAL", "a value is outside its definition"},
	{IVC_E_NOSPC, "NOSPC", "no room in the caller's window"},
	{IVC_E_PIPE, "PIPE", "the peer is gone"},
	{IVC_E_DEADLK, "DEADLK", "the hypervisor was entered from inside one of its operations"},
	{IVC_E_NOSYS, "NOSYS", "no such call"},
	{IVC_E_PROTO, "PROTO", "the channel speaks a format that this side does not know"},
	{IVC_E_BADMSG, "BADMSG", "the peer broke the ring, it is closed for good"},
	{IVC_E_MSGSIZE, "MSGSIZE", "the message does not fit"},
	{IVC_E_OPNOTSUPP, "OPNOTSUPP", "not offered here"},
	{IVC_E_SHUTDOWN, "SHUTDOWN", "the VM or the hypervisor is going down"},
	{IVC_E_TIMEDOUT, "TIMEDOUT", "the time is over"},
	{IVC_E_STALE, "STALE", "the handle names a channel that the caller is not in"},
	{IVC_E_DQUOT, "DQUOT", "over the caller's quota"},
};

struct call_text {
	uint64_t code;
	const char *name;
};

/* Spelling of 0-7: axhvc 0.4.4 and later, letter by letter. */
static const struct call_text call_texts[] = {
	{IVC_HC_HYPERVISOR_DISABLE, "HypervisorDisable"},
	{IVC_HC_HYPERVISOR_PREPARE_DISABLE, "HyperVisorPrepareDisable"},
	{IVC_HC_HYPERVISOR_DEBUG, "HyperVisorDebug"},
	{IVC_HC_PUBLISH, "HIVCPublishChannel"},
	{IVC_HC_SUBSCRIBE, "HIVCSubscribChannel"},
	{IVC_HC_UNPUBLISH, "HIVCUnPublishChannel"},
	{IVC_HC_UNSUBSCRIBE, "HIVCUnSubscribChannel"},
	{IVC_HC_NOTIFY, "HIVCNotify"},
	{IVC_HC_FEATURES, "IVCFeatures"},
	{IVC_HC_VM_ID, "IVCVmId"},
	{IVC_HC_WAIT, "IVCWait"},
	{IVC_HC_BELL, "IVCBell"},
	{IVC_HC_VM_INFO, "IVCVmInfo"},
	{IVC_HC_RESET, "IVCReset"},
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct status_text *status_text_find(int err)
{
	for (size_t i = 0; i < COUNT_OF(status_texts); i++) {
		if (status_texts[i].err == err) {
			return &status_texts[i];
		}
	}
	return NULL;
}

static const struct call_text *call_text_find(uint64_t nr)
{
	const uint64_t code = nr - IVC_HC_ALIAS <= IVC_HC_SMALL_LAST ? nr - IVC_HC_ALIAS : nr;

	for (size_t i = 0; i < COUNT_OF(call_texts); i++) {
		if (call_texts[i].code == code) {
			return &call_texts[i];
		}
	}
	return NULL;
}

const char *ivc_strerror(int err)
{
	const struct status_text *text = status_text_find(err);

	return text != NULL ? text->sentence : "unknown status";
}

const char *ivc_status_name(int err)
{
	const struct status_text *text = status_text_find(err);

	return text != NULL ? text->name : NULL;
}

bool ivc_call_code(uint64_t nr, uint64_t *code)
{
	const struct call_text *text = call_text_find(nr);

	if (text == NULL) {
		return false;
	}
	*code = text->code;
	return true;
}

const char *ivc_call_name(uint64_t nr)
{
	const struct call_text *text = call_text_find(nr);

	return text != NULL ? text->name : NULL;
}

/* A text that grows in a buffer which may be too small: `length` counts on, what does not fit is dropped. */
struct sink {
	char *buf;
	size_t room;
	size_t length;
};

static void sink_char(struct sink *sink, char c)
{
	/* The last byte is kept for the terminating zero. */
	if (sink->length + 1 < sink->room) {
		sink->buf[sink->length] = c;
	}
	sink->length++;
}

static void sink_text(struct sink *sink, const char *text)
{
	while (*text != '\0') {
		sink_char(sink, *text++);
	}
}

static void sink_hex(struct sink *sink, uint64_t v)
{
	unsigned int shift = 60;

	sink_text(sink, "0x");
	while (shift > 0 && v >> shift == 0) {
		shift -= 4;
	}
	for (;;) {
		sink_char(sink, "0123456789abcdef"[(v >> shift) & 0xf]);
		if (shift == 0) {
			return;
		}
		shift -= 4;
	}
}

size_t ivc_call_format(char *buf, size_t room, uint64_t nr)
{
	const struct call_text *text = call_text_find(nr);
	struct sink sink = {buf, room, 0};

	if (text != NULL) {
		sink_char(&sink, '(');
		sink_text(&sink, text->name);
		sink_char(&sink, ' ');
		sink_hex(&sink, text->code);
		sink_char(&sink, ')');
	} else {
		sink_text(&sink, "invalid hypercall code: ");
		sink_hex(&sink, nr);
	}
	if (room > 0) {
		buf[sink.length < room ? sink.length : room - 1] = '\0';
	}
	return sink.length;
}
