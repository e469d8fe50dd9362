#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AlexNet with its channels in another order, the same function: bench/ablation/permute.py IN.onnx OUT.onnx

Subspaces are neighbouring channels. Here the channels that conv4, conv5 and fc7 read are dealt out so that all subspaces of a group get
about the same energy, the squared weights that read them: the strongest one to each, then the next to each in reverse order, and so
on. The layer before writes them in that order, within its groups. What conv2 and conv3 read passes a normalization over neighbouring
channels and stays, fc6's subspaces lie inside a map of 6 x 6 positions, and fc8's have one input. Only the bytes of the weights change places, so that no library is needed.
"""
import array
import struct
import sys

# who writes, who reads, groups that channels must stay in, channels of a subspace
PAIRS = [("conv3", "conv4", 2, 8), ("conv4", "conv5", 2, 8), ("fc6", "fc7", 1, 4)]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data, begin, end):
    """Of a protobuf message: number and value, which is a number or the place (begin, end) of bytes."""
    while begin < end:
        key, begin = varint(data, begin)
        if key & 7 == 0:
            value, begin = varint(data, begin)
        elif key & 7 == 2:
            length, begin = varint(data, begin)
            value = (begin, begin + length)
            begin += length
        else:
            begin += 8 if key & 7 == 1 else 4
            continue
        yield key >> 3, value


def text(data, place):
    return bytes(data[place[0]:place[1]]).decode()


def read_tensor(data, place):
    """Name, dimensions, place of the numbers, bytes of a number."""
    name, dims, raw, kind = "", [], None, 0
    for number, value in fields(data, *place):
        if number == 1:
            if isinstance(value, tuple):
                at = value[0]
                while at < value[1]:
                    size, at = varint(data, at)
                    dims.append(size)
            else:
                dims.append(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = text(data, value)
        elif number == 9:
            raw = value
    return name, (dims, raw, {1: 4, 10: 2}.get(kind))


def layers_of(data):
    """The tensors of each convolution and fully-connected layer by the layer's name: weights, bias."""
    graph = next(value for number, value in fields(data, 0, len(data)) if number == 7)
    tensors, nodes, casts = {}, [], {}
    for number, value in fields(data, *graph):
        if number == 5:
            name, tensor = read_tensor(data, value)
            tensors[name] = tensor
        elif number == 1:
            parts = list(fields(data, *value))
            nodes.append([[text(data, v) for n, v in parts if n == wanted] for wanted in (1, 2, 3, 4)])
    layers = {}
    for inputs, outputs, name, kind in nodes:
        if kind == ["Cast"]:
            casts[outputs[0]] = inputs[0]
        if kind in (["Conv"], ["Gemm"]):
            layers[name[0]] = [tensors[casts.get(i, i)] for i in inputs[1:]]
    return layers


def move(data, tensor, axis, order):
    """New element i along the axis is old element order[i]."""
    dims, (begin, end), size = tensor
    n_outer = 1 if axis == 0 else dims[0]
    length = (end - begin) // n_outer
    piece = length // len(order)
    assert piece * len(order) == length and piece % size == 0
    for outer in range(n_outer):
        at = begin + outer * length
        old = bytes(data[at:at + length])
        if piece == 2:
            numbers = array.array("H", old)
            data[at:at + length] = array.array("H", [numbers[i] for i in order]).tobytes()
        else:
            data[at:at + length] = b"".join([old[i * piece:(i + 1) * piece] for i in order])


def energies(data, tensor, n, groups):
    """Of each channel that a layer reads, by the weights that read it."""
    dims, (begin, end), size = tensor
    length = (end - begin) // dims[0]
    n_group = n // groups if dims[1] * groups == n else n # a convolution's group has rows for its own channels only
    piece = length // size // n_group
    sums = [0.0] * n
    for output in range(dims[0]):
        first = output * groups // dims[0] * n_group if n_group < n else 0
        row = struct.unpack("<%d%s" % (length // size, "f" if size == 4 else "e"), data[begin + output * length:begin + (output + 1) * length])
        for channel in range(n_group):
            sums[first + channel] += sum(x * x for x in row[channel * piece:(channel + 1) * piece])
    return sums


def dealt(energy, first, n, subspace):
    """The channels first .. first + n - 1, so ordered that neighbours `subspace` at a time share alike."""
    strongest = sorted(range(first, first + n), key=lambda i: -energy[i])
    n_subspaces = n // subspace
    hands = [[] for _ in range(n_subspaces)]
    for i, channel in enumerate(strongest):
        turn, seat = divmod(i, n_subspaces)
        hands[seat if turn % 2 == 0 else n_subspaces - 1 - seat].append(channel)
    return [channel for hand in hands for channel in hand]


def permute(data):
    layers = layers_of(data)
    for writer, reader, groups, subspace in PAIRS:
        weights, bias = layers[writer]
        read = layers[reader][0]
        n = weights[0][0]
        energy = energies(data, read, n, groups)
        order = [channel for g in range(groups) for channel in dealt(energy, g * n // groups, n // groups, subspace)]
        move(data, weights, 0, order)
        move(data, bias, 0, order)
        for g in range(groups): # the outputs of a group read that group's channels
            dims, (begin, end), size = read
            half = (end - begin) // groups
            part = ([dims[0] // groups] + dims[1:], (begin + g * half, begin + (g + 1) * half), size)
            move(data, part, 1, [channel - g * n // groups for channel in order[g * n // groups:(g + 1) * n // groups]])
    return data


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data = bytearray(open(sys.argv[1], "rb").read())
    with open(sys.argv[2], "wb") as file:
        file.write(permute(data))


if __name__ == "__main__":
    main()
