#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ordering labels: every [LABEL] in a comment has two ends in the code and a row in docs/memory-model.md.

Fails on a label that stands at one place only, on a label without a row, on a row without a label, and on a function in
the publisher or observer column that no source defines.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "memory-model.md"

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
LABEL = re.compile(r"\[([A-Z][A-Z0-9]+(?:-[A-Z0-9]+)*)\]")
FUNCTION = re.compile(r"`(\w+)\(\)`")


def labels_in_code(files):
    """{label: [place, ...]}"""
    found = {}
    for file, text in files.items():
        for comment in COMMENT.finditer(text):
            for match in LABEL.finditer(comment.group()):
                line = text.count("\n", 0, comment.start() + match.start()) + 1
                found.setdefault(match.group(1), []).append(f"{file.relative_to(ROOT)}:{line}")
    return found


def rows(text):
    """{label: (line, functions of publisher and observer)} of the table whose first column is the label."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        label = re.fullmatch(r"`?\[?([A-Z][A-Z0-9]+(?:-[A-Z0-9]+)*)\]?`?", cells[0])
        if line.startswith("|") and label and len(cells) >= 3:
            found[label.group(1)] = (number, FUNCTION.findall(cells[1] + " " + cells[2]), cells)
    return found


def main():
    files = {f: f.read_text() for top in ("include", "src") for f in sorted((ROOT / top).rglob("*.[ch]"))}
    code = labels_in_code(files)
    documented = rows(TABLE.read_text())
    everything = "\n".join(COMMENT.sub(" ", text) for text in files.values())
    errors = []
    for label, places in sorted(code.items()):
        if len(places) < 2:
            errors.append(f"{places[0]}: [{label}] has one end only")
        if label not in documented:
            errors.append(f"{places[0]}: [{label}] has no row in docs/memory-model.md")
    for label, (number, functions, cells) in sorted(documented.items()):
        where = f"docs/memory-model.md:{number}"
        if label not in code:
            errors.append(f"{where}: [{label}] stands nowhere in the code")
        if not FUNCTION.search(cells[1]) or not FUNCTION.search(cells[2]):
            errors.append(f"{where}: [{label}] names no function() as publisher or as observer")
        for function in functions:
            if not re.search(rf"\b{function}\(", everything):
                errors.append(f"{where}: [{label}] names {function}(), which does not exist")
    print("\n".join(errors) if errors else f"{len(code)} labels, each with two ends and a row")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
