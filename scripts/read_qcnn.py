#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of .qcnn files, written from docs/format.md and not from the C code: prints what a file holds as JSON.

    read_qcnn.py FILE.qcnn

Header, sections, graph, and for each tensor the SHA-256 and CRC-32 of its weights decoded to little-endian float32.
Needs only Python; with NumPy the decoding of large codebooks takes seconds instead of minutes.
"""
import hashlib
import json
import math
import struct
import sys
import zlib

try:
    import numpy
except ImportError:
    numpy = None

NONE = 0xFFFFFFFF
LARGEST = struct.unpack("<f", struct.pack("<f", 1e30))[0]  # of scales, ranges and peaks
OPERATORS = {1: "conv", 2: "fc", 3: "matmul", 4: "max_pool", 5: "average_pool", 6: "lrn", 7: "unary", 8: "binary", 9: "softmax",
             10: "log_softmax", 11: "concat", 12: "reshape", 13: "transpose", 14: "pad", 15: "reduce_mean", 16: "reduce_max", 17: "slice"}
FUNCTIONS = {0: "identity", 1: "relu", 2: "leaky_relu", 3: "clip", 4: "elu", 5: "sigmoid", 6: "hard_sigmoid", 7: "tanh", 8: "hard_swish",
             9: "sqrt", 10: "exp", 11: "log", 12: "abs", 13: "negate", 14: "reciprocal", 32: "add", 33: "subtract", 34: "multiply",
             35: "divide", 36: "minimum", 37: "maximum", 38: "power", 39: "prelu"}
WINDOW = [("spatial", "i"), ("kernel", "3i"), ("stride", "3i"), ("dilation", "3i"), ("padding_before", "3i"), ("padding_after", "3i")]
ACTIVATION = [("activation", "F"), ("alpha", "f"), ("beta", "f")]
ATTRIBUTES = {"conv": WINDOW + [("groups", "i")] + ACTIVATION, "fc": ACTIVATION, "matmul": [], "max_pool": WINDOW + [("ceil_mode", "i")],
              "average_pool": WINDOW + [("ceil_mode", "i"), ("count_include_pad", "i")],
              "lrn": [("size", "i"), ("alpha", "f"), ("beta", "f"), ("bias", "f")], "unary": [("function", "F")] + ACTIVATION,
              "binary": [("function", "F")] + ACTIVATION, "softmax": [("first_axis", "i"), ("last_axis", "i")],
              "log_softmax": [("first_axis", "i"), ("last_axis", "i")], "concat": [("axis", "i")],
              "reshape": [("rank", "i"), ("target", "8q")], "transpose": [("axes", "8i")],
              "pad": [("begin", "8q"), ("end", "8q"), ("value", "f"), ("mode", "i")],
              "reduce_mean": [("reduced", "8i"), ("keep_dims", "i")], "reduce_max": [("reduced", "8i"), ("keep_dims", "i")],
              "slice": [("begin", "8q"), ("end", "8q"), ("step", "8q")]}


class Malformed(Exception):
    pass


def require(condition, message):
    if not condition:
        raise Malformed(message)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        """The next number; a list where `layout` holds more than one."""
        layout = "<" + layout
        size = struct.calcsize(layout)
        require(self.at + size <= len(self.data), "GRPH or RANG ends early")
        numbers = struct.unpack_from(layout, self.data, self.at)
        self.at += size
        return numbers[0] if len(numbers) == 1 else list(numbers)

    def name(self):
        length = self.take("H")
        require(length <= 1024 and self.at + length <= len(self.data), "name too long")
        self.at += length
        return text(self.data[self.at - length:self.at])

    def shape(self):
        shape = [self.take("Q") for _ in range(self.take("I"))]
        require(len(shape) <= 8 and all(1 <= side < 2**31 for side in shape) and math.prod(shape) <= 2**40, "impossible shape")
        return shape

    def index(self, limit, optional=False):
        index = self.take("I")
        require(index < limit or (optional and index == NONE), "index out of range")
        return None if index == NONE else index


def text(data, allowed=""):
    decoded = data.decode("utf-8")
    require(all((ord(c) >= 32 and ord(c) != 127) or c in allowed for c in decoded), "control character in text")
    return decoded


def read_tensor(reader):
    storage, error = reader.take("I"), reader.take("f")
    require(storage < 4 and math.isfinite(error), "unknown storage or bad error")
    tensor = {"storage": ("float32", "codebook", "float16", "int8")[storage], "error": error, "shape": reader.shape()}
    require(storage != 3 or tensor["shape"], "int8 data need a dimension")
    if storage == 1:
        book = dict(zip(("type", "groups", "sets", "inputs", "outputs", "taps", "subspace", "codewords"), reader.take("8I")))
        shape = tensor["shape"]
        require(book["type"] < 3, "unknown codeword type")
        book["type"] = ("float32", "float16", "int8")[book["type"]]
        require(all(1 <= size < 2**31 for key, size in book.items() if key != "type"), "codebook size out of range")
        require(len(shape) >= 2 and book["groups"] * book["outputs"] == shape[0] and book["inputs"] == shape[1]
                and book["taps"] == math.prod(shape[2:]), "codebook does not fit its shape")
        require(book["sets"] in (1, book["groups"]) and book["subspace"] <= book["inputs"] and book["codewords"] <= 256, "bad codebook")
        tensor["codebook"] = book
    return tensor


def read_node(reader, n_values):
    number, n_inputs, output, name = reader.take("H"), reader.take("H"), reader.index(n_values), reader.name()
    require(number in OPERATORS and n_inputs >= 1, "unknown operator, or no inputs")
    node = {"op": OPERATORS[number], "name": name, "inputs": [reader.index(n_values, True) for _ in range(n_inputs)], "output": output}
    for attribute, layout in ATTRIBUTES[node["op"]]:
        value = reader.take("I" if layout == "F" else layout)
        require(layout != "F" or value in FUNCTIONS, "unknown function")
        require(layout != "3i" or not any(value[node["spatial"]:]), "window beyond its dimensions")
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)  # JSON has no infinity
        node[attribute] = FUNCTIONS[value] if layout == "F" else value
    return node


def read_graph(data):
    require(len(data) <= 4 << 20, "GRPH too long")
    reader = Reader(data)
    original_bytes, counts = reader.take("Q"), reader.take("5I")
    require(all(n <= limit for n, limit in zip(counts, (8192, 16384, 8192, 1024, 1024))), "too many of something")
    n_tensors, n_values, n_nodes, n_inputs, n_outputs = counts
    graph = {"original_bytes": original_bytes, "tensors": [read_tensor(reader) for _ in range(n_tensors)],
             "values": [{"tensor": reader.index(n_tensors, True), "name": reader.name()} for _ in range(n_values)],
             "nodes": [read_node(reader, n_values) for _ in range(n_nodes)],
             "inputs": [{"value": reader.index(n_values), "shape": reader.shape()} for _ in range(n_inputs)],
             "outputs": [reader.index(n_values) for _ in range(n_outputs)]}
    require(reader.at == len(data), "bytes behind the end of GRPH")
    for names in ([node["name"] for node in graph["nodes"] if node["name"]], [graph["values"][i["value"]]["name"] for i in graph["inputs"]],
                  [graph["values"][i]["name"] for i in graph["outputs"]]):
        require(len(set(names)) == len(names), "duplicate names")
    return graph


def read_ranges(data, graph):
    """Ranges into values, peaks into codebooks."""
    reader = Reader(data)
    n_ranges, n_peaks = reader.take("2I")
    before = -1
    for _ in range(n_ranges):
        index, low, high = reader.index(len(graph["values"])), *reader.take("2f")
        require(index > before and graph["values"][index]["tensor"] is None, "ranges out of order, or of a constant")
        require(-LARGEST <= low < high <= LARGEST, "a range is empty, too large or not a number")
        graph["values"][index]["range"], before = [low, high], index
    before = -1
    for _ in range(n_peaks):
        index = reader.index(len(graph["tensors"]))
        require(index > before and "codebook" in graph["tensors"][index], "peaks out of order, or not of a codebook")
        book = graph["tensors"][index]["codebook"]
        count = book["groups"] * -(-book["inputs"] // book["subspace"])
        require(4 * count <= len(data) - reader.at, "RANG ends early")
        peaks = struct.unpack_from(f"<{count}f", data, reader.at)
        require(all(0 <= peak <= LARGEST for peak in peaks), "a peak is negative, too large or not a number")
        book["peaks"], before = list(peaks), index
        reader.at += 4 * count
    require(reader.at == len(data), "bytes behind the end of RANG")


def decode_symbols(data, n_rows, length, n_symbols):
    """Entropy-coded rows of symbols, format.md section 4."""
    at = 0  # in bits

    def bits(n):
        nonlocal at
        require(at + n <= 8 * len(data), "a coded section ends early")
        value = int.from_bytes(data[at // 8:(at + n + 7) // 8], "little") >> at % 8 & (1 << n) - 1
        at += n
        return value

    def golomb(order):
        ones = 0
        while bits(1):
            ones += 1
            require(ones <= 14, "a frequency is out of range")
        return ((1 << ones) - 1 << order) + bits(order + ones)

    n_tables = bits(8)
    require(1 <= n_tables <= 64, "no tables, or too many")
    tables = []
    for _ in range(n_tables):
        order, frequency, slots = bits(4), 0, []
        for symbol in range(n_symbols):
            code = golomb(order)
            frequency += -(code + 1 >> 1) if code & 1 else code >> 1
            require(0 <= frequency <= 4096 - len(slots), "a frequency is out of range")
            slots += [(symbol, frequency, i) for i in range(frequency)]
        require(len(slots) == 4096, "frequencies do not add up")
        tables.append(slots)
    require(bits(-at % 8) == 0, "unused bits are not zero")
    choice = [bits((n_tables - 1).bit_length()) for _ in range(n_rows)]
    require(max(choice) < n_tables and bits(-at % 8) == 0, "a row has no table, or unused bits are not zero")
    require(len(data) >= at // 8 + 32, "a coded section ends early")
    states, at, end = list(struct.unpack_from("<8I", data, at // 8)), at // 8 + 32, len(data)
    require(min(states) >= 1 << 16, "a state is out of range")
    symbols = bytearray()
    for table in choice:
        slots = tables[table]
        for i in range(length):
            state = states[i & 7]
            symbol, frequency, place = slots[state & 4095]
            state = frequency * (state >> 12) + place
            if state < 1 << 16:
                require(at + 2 <= end, "a coded section ends early")
                state = state << 16 | data[at] | data[at + 1] << 8
                at += 2
            states[i & 7] = state
            symbols.append(symbol)
    require(at == end and states == [1 << 16] * 8, "symbols do not end where the section does")
    return bytes(symbols)


def plain_integers(data, count, n_scales):
    """Entropy-coded int8 numbers as plain ones."""
    require(len(data) > 4 * n_scales and data[4 * n_scales] < 128, "a coded section ends early, or its largest integer is too large")
    largest = data[4 * n_scales]
    symbols = decode_symbols(data[4 * n_scales + 1:], n_scales, count // n_scales, 2 * largest + 1)
    return data[:4 * n_scales] + bytes(symbol - largest & 255 for symbol in symbols)


def numbers_to_float32(kind, section, count, n_scales):
    """`count` stored numbers as little-endian float32 bytes; int8 ones begin with a scale for each of n_scales equal runs."""
    data, decoded = section
    if decoded is not None:
        require(kind == "int8" and decoded == 4 * n_scales + count, "coded numbers of another type or size")
        data = plain_integers(data, count, n_scales)
    size = {"float32": 4 * count, "float16": 2 * count, "int8": 4 * n_scales + count}[kind]
    require(len(data) == size, "DATA or CODE has the wrong size")
    if kind == "float32":
        return data
    if kind == "float16":
        halves = struct.unpack(f"<{count}e", data)
        require(all(map(math.isfinite, halves)), "a float16 number is not finite")
        return struct.pack(f"<{count}f", *halves)
    scales, integers = struct.unpack_from(f"<{n_scales}f", data), struct.unpack_from(f"<{count}b", data, 4 * n_scales)
    require(all(0 <= s <= LARGEST and math.copysign(1, s) > 0 for s in scales), "bad scale")
    require(-128 not in integers, "an integer is not in -127..127")
    run = count // n_scales
    return struct.pack(f"<{count}f", *(scales[i // run] * q + 0.0 for i, q in enumerate(integers)))


def pack(numbers, bits):
    packed = sum(number << i * bits for i, number in enumerate(numbers[:8]))  # eight numbers fill `bits` bytes
    return packed.to_bytes((min(len(numbers), 8) * bits + 7) // 8, "little")


def decode(book, code, packed):
    """Weights [groups * outputs][inputs][taps] as little-endian float32 bytes."""
    G, S, n_in, n_out, T, C, K = (book[k] for k in ("groups", "sets", "inputs", "outputs", "taps", "subspace", "codewords"))
    M, bits = -(-n_in // C), (K - 1).bit_length()
    count = G * M * T * n_out
    code = numbers_to_float32(book["type"], code, S * M * K * C, S * M)
    packed, decoded = packed
    require(len(packed if decoded is None else range(decoded)) == (count * bits + 7) // 8, "ASGN has the wrong size")
    if decoded is not None:
        numbers = decode_symbols(packed, G * M, T * n_out, K)
        packed = b"".join(pack(numbers[i:i + 8], bits) for i in range(0, count, 8))
    if numpy:
        stream = numpy.unpackbits(numpy.frombuffer(packed, numpy.uint8), bitorder="little")
        numbers = numpy.zeros(count, numpy.uint8)
        for bit in range(bits):
            numbers |= stream[bit:count * bits:bits] << bit
        require(not stream[count * bits:].any() and numbers.max() < K, "unused bits, or an assignment not below K")
        words, numbers = numpy.frombuffer(code, "<f4").reshape(S, M, K, C), numbers.reshape(G, M, T, n_out)
        weights = numpy.zeros((G, n_out, M * C, T), "<f4")
        for g in range(G):
            for m in range(M):  # [T][n_out][C] to [n_out][C][T]
                weights[g, :, m * C:(m + 1) * C] = words[g if S > 1 else 0, m][numbers[g, m]].transpose(1, 2, 0)
        require(not weights[:, :, n_in:].any(), "codewords do not end in zeros")
        return weights[:, :, :n_in].tobytes()
    numbers = []
    for at in range(0, len(packed), max(bits, 1)):  # eight numbers fill `bits` bytes
        eight = int.from_bytes(packed[at:at + bits], "little")
        numbers += [eight >> i * bits & (1 << bits) - 1 for i in range(8)]
    numbers += [0] * (count - len(numbers))
    require(not any(numbers[count:]) and max(numbers) < K, "unused bits, or an assignment not below K")
    last = [w for s in range(S) for w in range((s * M + M - 1) * K, (s + 1) * M * K)]
    require(not any(any(code[4 * (w * C + n_in - (M - 1) * C):4 * (w + 1) * C]) for w in last), "codewords do not end in zeros")
    weights = bytearray(4 * G * n_out * n_in * T)
    for i, number in enumerate(numbers[:count]):
        g, m, t, o = i // (M * T * n_out), i // (T * n_out) % M, i // n_out % T, i % n_out
        word = 4 * C * (((g if S > 1 else 0) * M + m) * K + number)
        for c in range(min(C, n_in - m * C)):
            at = 4 * (((g * n_out + o) * n_in + m * C + c) * T + t)
            weights[at:at + 4] = code[word + 4 * c:word + 4 * c + 4]
    return bytes(weights)


def read_sections(data):
    require(data[:8] == b"\x89QCNN\r\n\x1a" and len(data) >= 64, "not a .qcnn file")
    major, minor, header, length, count = struct.unpack_from("<HHIQI", data, 8)
    require(major == 1, f"unknown version {major}")
    require(header == 64 and length == len(data) and count <= (length - 64) // 48 and count <= 65536, "bad header")
    end = 64 + 48 * count
    crc = zlib.crc32(data[64:end], zlib.crc32(data[:60]))
    require(not any(data[28:60]) and crc == struct.unpack_from("<I", data, 60)[0], "reserved bytes, or the header's CRC")
    sections = []
    for i in range(count):
        kind, flags, encoding, tensor, offset, stored, decoded, crc, zero = struct.unpack_from("<4s3IQQQII", data, 64 + 48 * i)
        start = (end + 63) // 64 * 64
        require(offset == start and start + stored <= length and not any(data[end:start]), f"section {i} is out of place")
        end = start + stored
        require(flags <= 1 and zero == 0 and zlib.crc32(data[start:end]) == crc, f"section {i} is damaged")
        known = kind in (b"GRPH", b"PREP", b"CLAS", b"RANG", b"DATA", b"CODE", b"ASGN")
        require(known or not flags, f"section {i} is required but unknown")
        can_be_coded = kind in (b"DATA", b"CODE", b"ASGN")
        require(not known or encoding == 0 or (encoding == 1 and can_be_coded), f"section {i} has an unknown encoding")
        require(not known or encoding or decoded == stored, f"section {i} is plain but decodes to another size")
        sections.append({"type": kind.decode("latin-1"), "required": bool(flags), "tensor": None if tensor == NONE else tensor,
                         "encoding": encoding, "offset": offset, "bytes": stored, "decoded_bytes": decoded, "crc32": crc})
    require((end + 63) // 64 * 64 == length and not any(data[end:]), "the sections do not cover the file")
    return {"version": f"{major}.{minor}", "file_bytes": length}, sections


def read(data):
    header, sections = read_sections(data)
    content = {}
    order = []
    for section in sections:
        if section["type"] in ("GRPH", "PREP", "CLAS", "RANG", "DATA", "CODE", "ASGN"):
            key = section["type"], section["tensor"]
            require(key not in content, "a section is there twice")
            stored = data[section["offset"]:section["offset"] + section["bytes"]]
            content[key] = stored if key[1] is None else (stored, section["decoded_bytes"] if section["encoding"] else None)
            order.append((("GRPH", "PREP", "CLAS", "RANG").index(key[0]), 0) if key[1] is None else (4 + key[1], key[0] == "ASGN"))
    require(("GRPH", None) in content and order == sorted(order), "sections out of order")
    graph = read_graph(content.pop(("GRPH", None)))
    ranges = content.pop(("RANG", None), None)
    if ranges is not None:
        read_ranges(ranges, graph)
    preprocessing, classes = content.pop(("PREP", None), None), content.pop(("CLAS", None), b"")
    require(not classes or classes.endswith(b"\n"), "the last class is cut off")
    for i, tensor in enumerate(graph["tensors"]):
        if tensor["storage"] != "codebook":
            require(("DATA", i) in content, f"DATA of tensor {i} is missing")
            shape = tensor["shape"]
            weights = numbers_to_float32(tensor["storage"], content.pop(("DATA", i)), math.prod(shape), shape[0] if shape else 1)
        else:
            require(("CODE", i) in content and ("ASGN", i) in content, f"CODE or ASGN of tensor {i} is missing")
            weights = decode(tensor["codebook"], content.pop(("CODE", i)), content.pop(("ASGN", i)))
        tensor["sha256"], tensor["crc32"] = hashlib.sha256(weights).hexdigest(), zlib.crc32(weights)
    require(not content, "a section belongs to no tensor")
    return {"header": header, "sections": sections, "graph": graph, "preprocessing": preprocessing and text(preprocessing, "\t\r\n"),
            "classes": text(classes, "\n").split("\n")[:-1]}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: read_qcnn.py FILE.qcnn")
    try:
        with open(sys.argv[1], "rb") as file:
            print(json.dumps(read(file.read()), indent=1))
    except (Malformed, UnicodeDecodeError, OSError) as problem:
        sys.stderr.write(f"{sys.argv[1]}: {problem}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
