#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares two outputs of engine_run: compare.py EXPECTED GOT. The C tier must agree bit for bit, with float tables and with
integers, since it is compiled without contraction and the network has no function of the C library. The exact scores of other
tiers agree to 2e-5 of the largest. Their integer scores differ more, because some tiers take activations of 8 bits and some of
7; that each integer kernel gives the C tier's bits is the kernel tester's business."""

import struct
import sys

TOLERANCE = {"exact": 2e-5, "integer": 4e-2}


def lines(path):
    with open(path, encoding="ascii") as file:
        return {words[0]: words[1:] for words in (line.split() for line in file)}


def floats(words):
    return [struct.unpack(">f", bytes.fromhex(word))[0] for word in words]


expected, got = lines(sys.argv[1]), lines(sys.argv[2])
for run, words in got.items():
    tier, kind = run.split("/")
    reference, values = floats(expected[f"c/{kind}"]), floats(words)
    largest = max(abs(value) for value in reference)
    worst = max(abs(a - b) for a, b in zip(values, reference)) / largest
    print(f"  {run}: within {worst:.1e} of the C tier's largest score")
    allowed = 0 if tier == "c" else TOLERANCE[kind]
    if len(values) != len(reference) or not worst <= allowed:
        sys.exit(f"compare: {run} is too far from the C tier: {allowed} is allowed")
