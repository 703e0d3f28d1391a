/* SPDX-License-Identifier: MIT */
/* The tool `ivc`: finds the command and hands it its arguments. It knows no option of any of them. */
#include "opt.h"
#include "say.h"
#include "tool.h"

#include <fcntl.h>
#include <ivc/hv.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef IVC_TOOL_KVM
#define VM cmd_vm
#else
#define VM vm_absent
static int vm_absent(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	say("VMs on /dev/kvm are for x86_64 Linux; this tool was built without them");
	return TOOL_ERROR;
}
#endif

static const struct {
	const char *word;
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"demo", "ivc demo", cmd_demo}, {"hv", "ivc hv", cmd_hv}, {"pub", "ivc pub", cmd_pub},
	{"sub", "ivc sub", cmd_sub},    {"vm", "ivc vm", VM},
};

static const char help[] =
	"usage: ivc <command> [options]\n"
	"\n"
	"  ivc demo                                    two isolated VMs exchange a file; shows how, and checks it\n"
	"  ivc hv  --socket PATH                       the hypervisor: VMs are processes that connect to PATH\n"
	"  ivc pub --socket PATH --vm N --key K        be VM N, publish channel K, send what comes on stdin\n"
	"  ivc sub --socket PATH --vm N --from P --key K\n"
	"                                              be VM N, subscribe to channel K of VM P, write it to stdout\n"
	"  ivc vm run GUEST.elf [+ GUEST.elf ...]      virtual machines on /dev/kvm, with channels between them\n"
	"\n"
	"  ivc <command> --help                        all options of one command\n"
	"  ivc --version\n"
	"\n"
	"IVC_SOCKET in the environment stands for --socket PATH.\n"
	"Exit: 0 all is well; 1 wrong usage, or it could not begin; 2 the other side ended too early; 3 no reader is left;\n"
	"130 after Ctrl-C, 143 after SIGTERM.\n";

/*
 * streams_hold - a descriptor of 0 to 2 that is closed would go to the next file of our own, and text would be written
 * there. /dev/null, opened the other way round, keeps the place, and every use of it fails as that of a closed one does.
 */
static bool streams_hold(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";

	if (!streams_hold()) {
		say("stdin, stdout or stderr is closed, and /dev/null cannot be opened in its place");
		return TOOL_ERROR;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
		return fputs(help, stdout) == EOF || fflush(stdout) ? TOOL_ERROR : TOOL_OK;
	}
	if (strcmp(word, "--version") == 0) {
		const uint32_t v = ivc_version();

		return printf("ivc %u.%u.%u\n", v >> 16, v >> 8 & 0xff, v & 0xff) < 0 || fflush(stdout) ? TOOL_ERROR
													: TOOL_OK;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(word, commands[i].word) == 0) {
			say_as(commands[i].name);
			return commands[i].run(argc - 1, argv + 1);
		}
	}
	if (!word[0]) {
		return say_usage("a command is missing: demo, hv, pub, sub or vm");
	}
	return say_usage("there is no command '%.100s'; there are demo, hv, pub, sub and vm", word);
}
