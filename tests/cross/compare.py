#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares two outputs of engine_run: compare.py EXPECTED GOT. The C tier must agree bit for bit, since it is compiled
without contraction and the network has no function of the C library; other tiers agree to 2e-5 of the largest score."""

import struct
import sys

TOLERANCE = 2e-5


def lines(path):
    with open(path, encoding="ascii") as file:
        return {words[0]: words[1:] for words in (line.split() for line in file)}


def floats(words):
    return [struct.unpack(">f", bytes.fromhex(word))[0] for word in words]


expected, got = lines(sys.argv[1]), lines(sys.argv[2])
reference = floats(expected["c"])
largest = max(abs(value) for value in reference)
if got["c"] != expected["c"]:
    worst = max(abs(a - b) for a, b in zip(floats(got["c"]), reference)) / largest
    sys.exit(f"compare: the C tiers differ by up to {worst:.2e} of the largest score")
for tier, words in got.items():
    values = floats(words)
    worst = max(abs(a - b) for a, b in zip(values, reference)) / largest
    print(f"  scores of tier {tier}: within {worst:.1e} of the C tier")
    if len(values) != len(reference) or not worst <= TOLERANCE:
        sys.exit(f"compare: tier {tier} is too far from the C tier")
