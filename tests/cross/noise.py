#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a data set of 32 images of noise, 28x28 in one channel: noise-images-idx3-ubyte and its labels in the given folder."""

import pathlib
import random
import struct
import sys

folder = pathlib.Path(sys.argv[1])
noise = random.Random(1)
images = bytes(noise.randrange(256) for _ in range(32 * 28 * 28))
(folder / "noise-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 32, 28, 28) + images)
(folder / "noise-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 32) + bytes(32))
