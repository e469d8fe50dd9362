#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes pictures of Debian's Fashion-MNIST test set as grey PNG files, named by number and true class.

    fashion_pictures.py FOLDER 0 3 12

needs nothing but Python's standard library and the package dataset-fashion-mnist.
"""
import gzip
import os
import struct
import sys
import zlib

DATA = "/usr/share/datasets/fashion-mnist"
SIDE = 28


def read(name):
    for path, opener in ((os.path.join(DATA, name), open), (os.path.join(DATA, name + ".gz"), gzip.open)):
        if os.path.exists(path):
            with opener(path, "rb") as file:
                return file.read()
    sys.exit(f"{DATA}/{name} is absent: apt-get install dataset-fashion-mnist")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels):
    rows = b"".join(b"\0" + pixels[y * SIDE:(y + 1) * SIDE] for y in range(SIDE))  # filter 0 before each row
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, numbers = sys.argv[1], [int(number) for number in sys.argv[2:]]
    images, labels = read("t10k-images-idx3-ubyte"), read("t10k-labels-idx1-ubyte")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../models/fashion_mnist.classes.txt")) as file:
        classes = file.read().split("\n")
    os.makedirs(folder, exist_ok=True)
    for number in numbers:
        name = classes[labels[8 + number]].replace("/", "-").replace(" ", "_")
        start = 16 + number * SIDE * SIDE
        with open(os.path.join(folder, f"{number:05d}_{name}.png"), "wb") as file:
            file.write(png(images[start:start + SIDE * SIDE]))


if __name__ == "__main__":
    main()
