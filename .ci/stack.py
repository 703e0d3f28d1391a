#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""stack.py <limit> <file.ci>...: the deepest stack of any call chain, from gcc's -fcallgraph-info=su.

Fails above the limit, on recursion, and on a frame whose size is not known when it is compiled. Functions from outside
(memcpy, memset) and indirect calls count as nothing: the first are leaves, the second are the embedder's.
"""
import re
import sys

NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]+)"')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
FRAME = re.compile(r"(\d+) bytes \(([\w,]+)[^)]*\)")


def read(paths):
    frames, calls, dynamic = {}, {}, []
    for path in paths:
        text = open(path).read()
        for title, label in NODE.findall(text):
            frame = FRAME.search(label)
            if frame:
                frames[title] = int(frame.group(1))
                if frame.group(2) not in ("static", "dynamic,bounded"):
                    dynamic.append(title)
        for source, target in EDGE.findall(text):
            calls.setdefault(source, set()).add(target)
    return frames, calls, dynamic


def deepest(name, frames, calls, chain, known):
    """(bytes, chain) of the worst path from this function down."""
    if name in chain:
        raise SystemExit("recursion: " + " -> ".join(chain[chain.index(name):] + [name]))
    if name not in known:
        below = [deepest(n, frames, calls, chain + [name], known) for n in sorted(calls.get(name, ()))]
        size, path = max(below, default=(0, []))
        known[name] = (frames.get(name, 0) + size, [name] + path)
    return known[name]


def main():
    limit = int(sys.argv[1])
    frames, calls, dynamic = read(sys.argv[2:])
    if not frames:
        raise SystemExit("no call graph was read")
    known = {}
    size, path = max(deepest(name, frames, calls, [], known) for name in frames)
    chain = " -> ".join(f"{name.split(':')[-1]} {frames.get(name, 0)}" for name in path)
    print(f"{size} bytes of {limit}: {chain}")
    if dynamic:
        print("frames of unknown size: " + " ".join(dynamic))
    return 1 if size > limit or dynamic else 0


if __name__ == "__main__":
    sys.exit(main())
