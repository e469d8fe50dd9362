#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what the emulated library says of photographs against the C tier on this machine: compare.py EXPECTED.json FOUND KERNELS,
where KERNELS names the tier emulated. The likeliest class must be the same and probabilities differ little."""

import json
import sys

# The first two classes may change places where they are this close; probabilities may differ by this much.
CLOSE, DIFFERENCE = 0.01, 0.03
# `neon` has the C tier's prices, hence its methods, and its integers to the bit, so that its classes must be the same and nearly all
# probabilities too: not all, as its LRN fuses multiply-adds of floats, whose last bit may move a number to the next byte. `neondot` has
# other prices and runs other layers by tables.
same_methods = sys.argv[3] == "neon"
ALIKE, SHARE = 1e-4, 0.75

with open(sys.argv[1], encoding="utf-8") as file:
    expected = json.load(file)["images"]
with open(sys.argv[2], encoding="ascii") as file:
    rows = [line.split() for line in file]
assert len(rows) == len(expected) > 0, (len(rows), len(expected))
same, differences = 0, []
for row, image in zip(rows, expected):
    found = {int(row[i]): float(row[i + 1]) for i in range(0, len(row), 2)}
    wanted = {top["class"]: top["probability"] for top in image["top"]}
    first, second = sorted(wanted.values(), reverse=True)[:2]
    equal = int(row[0]) == image["top"][0]["class"]
    same += equal
    assert equal or (first - second < CLOSE and not same_methods), (image["file"], found, wanted)
    shared = set(found) & set(wanted)
    assert len(shared) >= 3, (image["file"], found, wanted)
    differences.append(max(abs(found[c] - wanted[c]) for c in shared))
worst, alike = max(differences), sum(difference < ALIKE for difference in differences)
assert worst < DIFFERENCE and (alike >= SHARE * len(rows) or not same_methods), differences
print(f"  {same} of {len(rows)} photographs: the likeliest class is that of this machine's C tier; probabilities within {worst:.1e}, of {alike} "
      f"within {ALIKE:.0e}")
