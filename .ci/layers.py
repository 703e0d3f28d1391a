#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One way down: who may include whom. The table LAYERS is the architecture, from the bottom to the top.

A module is a .h, a .c, or both of one name; where the two stand at different heights they are listed apart. It may
include the modules to its left in its own group, and every header of the groups that it sees. A file that is not in the
table is an error, so is an include that cannot be found in it.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# group, directory, modules from the lowest to the highest, groups whose headers it sees
LAYERS = [
    ("wire",        "include/ivc", "abi types atomic text", ""),
    ("ring",        "include/ivc", "ring", "wire"),
    ("guest-api",   "include/ivc", "guest", "wire ring"),
    ("connect-api", "include/ivc", "connect", "wire guest-api"),
    ("hv-api",      "include/ivc", "platform hv", "wire"),
    ("port-api",    "include/ivc", "port", "wire hv-api"),
    ("kvm-api",     "include/ivc", "kvm", "wire hv-api port-api"),
    ("machine",     "include/ivc", "machine", "wire"),
    ("bare-api",    "include/ivc", "bare", "wire ring guest-api machine"),

    ("text",        "src/text",    "text", "wire"),
    ("guest",       "src/guest",   "regs_*.h trap_*.h trap.h section wait seats *.c", "wire ring guest-api"),

    ("entry",       "src/hv",      "entry", "wire hv-api"),
    ("core",        "src/hv",      "rcu.h lock.h hash.h hosted.h gpa registry hub region vm.h chan.h bell.h window "
                                   "control.h dispatch.h *.c", "wire hv-api entry"),
    ("fake",        "src/hv/fake", "fake.h state.h *.c", "wire hv-api"),
    ("backing",     "src/port",    "backing room", "wire"),
    ("proc-wire",   "src/port",    "wire.h", "wire hv-api"),
    ("proc-api",    "src/hv/proc", "proc.h", "wire hv-api"),
    ("proc",        "src/hv/proc", "state.h *.c", "wire hv-api proc-api proc-wire backing"),
    ("port",        "src/port",    "state.h *.c", "wire hv-api port-api entry proc-wire backing"),
    ("connect",     "src/connect", "state.h *.c", "wire hv-api port-api ring guest-api connect-api"),
    ("kvm",         "src/hv/kvm",  "state.h *.c", "wire hv-api port-api kvm-api backing"),
    ("vmm-api",     "src/vmm",     "vmm.h", "wire hv-api port-api kvm-api machine"),
    ("vmm",         "src/vmm",     "state.h *.c", "wire hv-api port-api kvm-api machine vmm-api"),
    ("bare",        "src/bare",    "state.h *.c", "wire ring guest-api machine bare-api"),
    ("tool",        "src/tools",   "tool.h say.h text.h json.h opt.h stop.h session.h hv_serve.h vm_show.h "
                                   "demo_order.h demo.h demo_show.h demo_story.h demo_json.h *.c",
                    "wire ring guest-api connect-api hv-api port-api proc-api kvm-api machine vmm-api bare-api"),
    ("tool-guest",  "src/tools/guests", "*.h *.c", "wire ring guest-api machine bare-api tool"),
]

# Headers of no file of ours. Freestanding is all that the core and the guest half may use, but for these files.
FREESTANDING = {"limits.h", "stdalign.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h"}
HOSTED_GROUPS = {"fake", "backing", "proc-wire", "proc", "port", "connect", "kvm", "vmm", "tool"}
HOSTED_FILES = {
    "include/ivc/ring.h": {"string.h"},  # where no compiler builtin stands for memcpy
    "src/hv/hosted.c": None,
    "src/hv/registry.c": {"stdlib.h", "urcu/rculfhash.h"},
    "src/hv/rcu.h": {"urcu/urcu-memb.h"},
}

# Words that belong to a few files only: pattern, where it may stand, what to say.
HOSTS = r"src/(hv/(proc|fake|kvm)/.*|vmm/.*|hv/hosted\.c|port/.*|connect/.*|tools/.*)"
WORDS = [
    (r"\b(__atomic_\w+|__sync_\w+|_Atomic|atomic_\w+_explicit)\b", r"include/ivc/atomic\.h",
     "only ivc/atomic.h names the compiler's atomics"),
    (r"\b(__asm__|asm)\b", r"include/ivc/atomic\.h|src/guest/trap_\w+\.[ch]|src/bare/.*",
     "assembly belongs to the trap files"),
    (r"\b(urcu_(?!memb_flavor)\w+|rcu_\w+_lock|synchronize_rcu)\b", r"src/hv/rcu\.h", "only rcu.h names liburcu's core"),
    (r"\bcds_lfht\w*", r"src/hv/registry\.c", "only registry.c names the hash table"),
    (r"\b(errno|ioctl)\b", HOSTS, "errno and ioctl stop in the hosts"),
    (r"\b__tsan_\w+", r"src/hv/rcu\.h", "only rcu.h speaks to ThreadSanitizer"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s+(<([^>]+)>|"([^"]+)")', re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)

errors = []


def complain(path, text, at, message):
    errors.append(f"{path}:{text.count(chr(10), 0, at) + 1}: {message}")


def strip_comments(text):
    return COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def table():
    """{path: (group, rank)} of every source. *.c stands for the sources above all headers of their group."""
    known = {}
    for wanted in (False, True):
        for group, directory, modules, _ in LAYERS:
            for rank, module in enumerate(modules.split()):
                pattern = module if module.endswith((".c", ".h")) else f"{module}.[ch]"
                if module.startswith("*") == wanted:
                    for path in sorted((ROOT / directory).glob(pattern)):
                        known.setdefault(str(path.relative_to(ROOT)), (group, rank))
    return known


def resolve(path, name, quoted):
    """The file of ours that an include names, or None."""
    places = [ROOT / "include", ROOT / "src"]
    if quoted:
        places.insert(0, (ROOT / path).parent)
    for place in places:
        if (place / name).is_file():
            return str((place / name).resolve().relative_to(ROOT))
    return None


def may_see(known, sees, path, target):
    if Path(path).with_suffix(".h") == Path(target):
        return True
    group, rank = known[path]
    group_of_target, rank_of_target = known[target]
    if group_of_target == group:
        return rank_of_target < rank or (rank_of_target == rank and path.endswith(".c"))
    return group_of_target in sees[group]


def check(known, sees, path):
    whole = (ROOT / path).read_text()
    text = strip_comments(whole)
    for match in INCLUDE.finditer(text):
        name, quoted = match.group(2) or match.group(3), match.group(3) is not None
        target = resolve(path, name, quoted)
        if target is None:
            group = known[path][0]
            allowed = HOSTED_FILES.get(path, FREESTANDING)
            if group in HOSTED_GROUPS or allowed is None or name in allowed or name in FREESTANDING:
                continue
            complain(path, text, match.start(), f"<{name}> is not for {group}")
        elif target not in known:
            complain(path, text, match.start(), f"{target} is not in the table of .ci/layers.py")
        elif not may_see(known, sees, path, target):
            complain(path, text, match.start(), f"includes {target}, which is not below it")
    for pattern, where, message in WORDS:
        if not re.fullmatch(where, path):
            for match in re.finditer(pattern, text):
                complain(path, text, match.start(), f"'{match.group()}': {message}")


def check_examples():
    """Examples use what is installed and nothing else."""
    for file in sorted((ROOT / "examples").glob("*/*.[ch]")):
        path = str(file.relative_to(ROOT))
        text = strip_comments(file.read_text())
        for match in INCLUDE.finditer(text):
            target = resolve(path, match.group(2) or match.group(3), match.group(3) is not None)
            if target and not target.startswith("include/") and Path(target).parent != Path(path).parent:
                complain(path, text, match.start(), f"an example includes the private header {target}")


def main():
    known = table()
    sees = {group: set(names.split()) for group, _, _, names in LAYERS}
    for top in ("include", "src"):
        for file in sorted((ROOT / top).rglob("*.[ch]")):
            path = str(file.relative_to(ROOT))
            if path in known:
                check(known, sees, path)
            else:
                errors.append(f"{path}: is not in the table of .ci/layers.py")
    check_examples()
    print("\n".join(errors) if errors else f"{len(known)} files, every include points down")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
