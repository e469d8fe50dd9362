# SPDX-License-Identifier: Apache-2.0
"""Tiny ONNX networks, images and arrays for the command's tests, written with nothing but the standard library."""

import array
import random
import struct
import zlib


# ---- protobuf: a message is a list of (field, value); ints are varints, floats 32 bits, bytes and str length-delimited

def varint(n):
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def message(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


# ---- ONNX (field numbers of onnx.proto)

def tensor(name, dims, values):
    raw = array.array("f", values).tobytes()
    return message(*[(1, d) for d in dims], (2, 1), (8, name), (9, raw))


def port(name, dims):
    shape = message(*[(1, message((1, d))) for d in dims])
    return message((1, name), (2, message((1, message((1, 1), (2, shape))))))


def ints(name, values):
    return message((1, name), (20, 7), *[(8, v) for v in values])


def integer(name, value):
    return message((1, name), (20, 2), (3, value))


def node(op, name, inputs, output, *attributes):
    return message(*[(1, i) for i in inputs], (2, output), (3, name), (4, op), *[(5, a) for a in attributes])


def model(nodes, tensors, inputs, outputs):
    graph = message(*[(1, n) for n in nodes], (2, "test"), *[(5, t) for t in tensors], *[(11, i) for i in inputs],
                    *[(12, o) for o in outputs])
    return message((1, 8), (8, message((2, 13))), (7, graph))


def colours(conv_name="conv1"):
    """1x3x8x8 RGB in 0..1 to scores of red, green and blue: four times the mean of each channel."""
    identity = [float(i == j) for i in range(3) for j in range(3)]
    nodes = [
        node("Conv", conv_name, ["x", "w1", "b1"], "c", ints("kernel_shape", [1, 1])),
        node("GlobalAveragePool", "pool", ["c"], "p"),
        node("Flatten", "flatten", ["p"], "f"),
        node("Gemm", "fc", ["f", "w2", "b2"], "y", integer("transB", 1)),
    ]
    tensors = [tensor("w1", [3, 3, 1, 1], identity), tensor("b1", [3], [0.0] * 3),
               tensor("w2", [3, 3], [4 * v for v in identity]), tensor("b2", [3], [0.0] * 3)]
    return model(nodes, tensors, [port("x", [1, 3, 8, 8])], [port("y", [1, 3])])


def small_net(seed=1, side=8, hidden=32):
    """Two convolutions and two fully-connected layers with random weights: 1x3x8x8 to 5 probabilities."""
    rng = random.Random(seed)
    normal = lambda n: [rng.gauss(0, 0.2) for _ in range(n)]
    flat = 16 * (side // 2) ** 2
    nodes = [
        node("Conv", "conv1", ["x", "w1", "b1"], "c1", ints("kernel_shape", [3, 3]), ints("pads", [1, 1, 1, 1])),
        node("Relu", "relu1", ["c1"], "r1"),
        node("MaxPool", "pool1", ["r1"], "p1", ints("kernel_shape", [2, 2]), ints("strides", [2, 2])),
        node("Conv", "conv2", ["p1", "w2", "b2"], "c2", ints("kernel_shape", [3, 3]), ints("pads", [1, 1, 1, 1])),
        node("Relu", "relu2", ["c2"], "r2"),
        node("Flatten", "flatten", ["r2"], "f"),
        node("Gemm", "fc1", ["f", "w3", "b3"], "h", integer("transB", 1)),
        node("Relu", "relu3", ["h"], "r3"),
        node("Gemm", "fc2", ["r3", "w4", "b4"], "s", integer("transB", 1)),
        node("Softmax", "prob", ["s"], "y", integer("axis", 1)),
    ]
    tensors = [tensor("w1", [8, 3, 3, 3], normal(216)), tensor("b1", [8], normal(8)),
               tensor("w2", [16, 8, 3, 3], normal(1152)), tensor("b2", [16], normal(16)),
               tensor("w3", [hidden, flat], normal(hidden * flat)), tensor("b3", [hidden], normal(hidden)),
               tensor("w4", [5, hidden], normal(5 * hidden)), tensor("b4", [5], normal(5))]
    return model(nodes, tensors, [port("x", [1, 3, side, side])], [port("y", [1, 5])])


def slow_net(n=2048):
    """One fully-connected layer that takes seconds to quantize."""
    rng = random.Random(2)
    pattern = array.array("f", [rng.gauss(0, 1) for _ in range(65537)])
    weights = (pattern * (n * n // len(pattern) + 1))[:n * n]
    return model([node("Gemm", "fc", ["x", "w"], "y", integer("transB", 1))], [tensor("w", [n, n], weights)],
                 [port("x", [1, n])], [port("y", [1, n])])


# ---- images and arrays

def png(width, height, colour):
    row = b"\0" + bytes(colour) * width
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b""))


def npy(dims, values):
    shape = "(" + "".join(f"{d}, " for d in dims) + ")"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + array.array("f", values).tobytes()


def read_npy(data):
    """Gives (header text, floats)."""
    n = struct.unpack("<H", data[8:10])[0]
    return data[10:10 + n].decode(), array.array("f", data[10 + n:]).tolist()
