#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what the emulated library says of photographs against the command on this machine: compare.py EXPECTED.json FOUND. The
likeliest class must be the same, unless the first two are so close that rounding may turn them round; probabilities differ little."""

import json
import sys

CLOSE, DIFFERENCE = 0.01, 0.03

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)["images"]
with open(sys.argv[2], encoding="ascii") as file:
    rows = [line.split() for line in file]
assert len(rows) == len(expected) > 0, (len(rows), len(expected))
same = worst = 0
for row, image in zip(rows, expected):
    found = {int(row[i]): float(row[i + 1]) for i in range(0, len(row), 2)}
    wanted = {top["class"]: top["probability"] for top in image["top"]}
    first, second = sorted(wanted.values(), reverse=True)[:2]
    equal = int(row[0]) == image["top"][0]["class"]
    same += equal
    assert equal or first - second < CLOSE, (image["file"], found, wanted)
    shared = set(found) & set(wanted)
    assert len(shared) >= 3, (image["file"], found, wanted)
    worst = max([worst] + [abs(found[c] - wanted[c]) for c in shared])
assert worst < DIFFERENCE, worst
print(f"  {same} of {len(rows)} photographs: the likeliest class is that of this machine's C tier; probabilities within {worst:.4f}")
