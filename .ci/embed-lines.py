#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What it takes to link the registry into a VMM: the lines of examples/vmm-embed that are about IVC.

They stand between "ivc: begin" and "ivc: end"; blank lines, comments and lone braces do not count. A line outside of them that names
something of ours is an error, so that nothing is left out.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST = 60
PROGRAMS = ("inproc.c", "onport.c")
OURS = re.compile(r"\b(ivc|IVC)_|<ivc/")
MARKER = re.compile(r"/\* ivc: (begin|end) \*/")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def count(path):
    """Lines about IVC, all lines of code, complaints."""
    text = MARKER.sub(lambda m: f"@{m.group(1)}", path.read_text())
    text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    inside, ours, everything, errors = False, 0, 0, []
    for number, line in enumerate(text.splitlines(), 1):
        marker = line.strip()
        if marker in ("@begin", "@end"):
            if inside == (marker == "@begin"):
                errors.append(f"{path.name}:{number}: a marker too many")
            inside = marker == "@begin"
        elif marker.strip("{};"):
            everything += 1
            ours += inside
            if not inside and OURS.search(line):
                errors.append(f"{path.name}:{number}: is about IVC and not counted")
    if inside:
        errors.append(f"{path.name}: the last marker is a begin")
    return ours, everything, errors


def main():
    failed = False
    directory = ROOT / "examples" / "vmm-embed"
    for name in PROGRAMS:
        ours, everything, errors = count(directory / name)
        if ours > MOST:
            errors.append(f"{name}: {ours} lines are about IVC, at most {MOST} may be")
        if ours == 0:
            errors.append(f"{name}: no line is about IVC")
        print("\n".join([f"{name}: {ours} of {everything} lines are about IVC", *errors]))
        failed = failed or bool(errors)
    for path in sorted(directory.glob("*.[ch]")):
        if path.name not in PROGRAMS and OURS.search(COMMENT.sub("", path.read_text())):
            print(f"{path.name}: is about IVC and not counted")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
