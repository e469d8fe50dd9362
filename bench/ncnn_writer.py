# SPDX-License-Identifier: Apache-2.0
"""Writes the benchmark's networks as ncnn files, in float32 and in int8: ncnn's wheel has no converter for either.

Int8 does what its own tool does: symmetric, a scale per output channel of the weights and one per blob (the range that ONNX
Runtime's calibration found), and int8 kept between convolutions that follow each other. Grouped convolutions are split into
plain ones there, because the wheel of 2026-10 computes grouped int8 ones wrong.
"""
import os
import struct

import numpy as np
import onnx
from onnx import numpy_helper


def activation_ranges(quantized_path):
    """{value: largest magnitude} of the QuantizeLinear nodes of a QDQ file."""
    model = onnx.load(quantized_path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ranges = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and constants[node.input[1]].size == 1:
            scale, zero = float(constants[node.input[1]]), int(constants[node.input[2]])
            ranges[node.input[0]] = scale * max(zero, 255 - zero)
    return ranges


class Writer:
    def __init__(self, model, ranges):
        self.ranges = ranges  # None: float32
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.nodes = list(model.graph.node)
        self.layers, self.data, self.fresh = [], [], 0
        self.alias = {}

    def emit(self, kind, name, inputs, outputs, parameters=()):
        fields = [kind, name, len(inputs), len(outputs), *inputs, *outputs, *(f"{key}={value}" for key, value in parameters)]
        self.layers.append((kind, list(inputs), list(outputs), fields))

    def source(self, name):
        while name in self.alias:
            name = self.alias[name]
        return name

    # Weights, biases and scales of one convolution or fully-connected layer.
    def write_weights(self, weights, bias, blob):
        if self.ranges is None:
            self.data += [struct.pack("<I", 0), weights.astype("<f4").tobytes(), bias.astype("<f4").tobytes()]
            return
        flat = weights.reshape(len(weights), -1)
        scales = 127 / np.maximum(np.abs(flat).max(axis=1), 1e-9)
        whole = np.clip(np.rint(flat * scales[:, None]), -127, 127).astype(np.int8).tobytes()
        self.data += [struct.pack("<I", 0x000D4B38), whole + b"\0" * (-len(whole) % 4), bias.astype("<f4").tobytes(),
                      scales.astype("<f4").tobytes(), struct.pack("<f", 127 / self.ranges[blob])]

    def conv(self, node, blob, output, relu, requantized):
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        weights, bias = (self.constants[name] for name in node.input[1:3])
        groups = attributes.get("group", 1)
        kernel, stride, pads = attributes["kernel_shape"][0], attributes.get("strides", [1])[0], attributes.get("pads", [0])[0]
        parameters = [(1, kernel), (3, stride), (4, pads), (5, 1), (9, int(relu))]
        name = self.source(blob)
        if groups == 1 or self.ranges is None:
            extra = [(0, len(weights)), (6, weights.size)] + ([(7, groups)] if groups > 1 else [])
            if self.ranges is not None:
                extra.append((8, 102 if requantized else 2))
            self.emit("Convolution" if groups == 1 else "ConvolutionDepthWise", output, [name], [output], parameters + extra)
            self.write_weights(weights, bias, blob)
            if self.ranges is not None and requantized:
                self.data.append(struct.pack("<f", 127 / self.ranges[requantized]))
            return
        parts = [f"{output}.in{g}" for g in range(groups)]
        width = weights.shape[1]
        self.emit("Slice", output + ".slice", [name], parts, [("-23300", f"{groups}," + ",".join([str(width)] * groups)), (1, 0)])
        for g, (part, w, b) in enumerate(zip(parts, np.split(weights, groups), np.split(bias, groups))):
            self.emit("Convolution", f"{output}.{g}", [part], [f"{output}.out{g}"], parameters + [(0, len(w)), (6, w.size), (8, 2)])
            self.write_weights(w, b, blob)
        self.emit("Concat", output, [f"{output}.out{g}" for g in range(groups)], [output], [(0, 0)])

    # The value whose int8 range a convolution may write at once: all its readers are ungrouped convolutions. Else None.
    def requantized(self, value):
        readers = [node for node in self.nodes if value in node.input]
        plain = all(node.op_type == "Conv" and not any(item.name == "group" and item.i > 1 for item in node.attribute) for node in readers)
        return value if self.ranges is not None and readers and plain else None

    def node(self, node, relu_of):
        output, blob = node.output[0], node.input[0]
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Conv":
            fused = relu_of.get(output, output)
            self.conv(node, blob, fused, fused != output, self.requantized(fused))
        elif node.op_type == "Gemm":
            weights, bias = (self.constants[name] for name in node.input[1:3])
            fused = relu_of.get(output, output)
            int8 = [(8, 2)] if self.ranges is not None else []
            self.emit("InnerProduct", fused, [self.source(blob)], [fused],
                      [(0, len(weights)), (1, 1), (2, weights.size), (9, int(fused != output))] + int8)
            self.write_weights(weights, bias, blob)
        elif node.op_type == "Relu":
            if output not in relu_of.values():
                self.emit("ReLU", output, [self.source(blob)], [output])
        elif node.op_type == "LRN":
            self.emit("LRN", output, [self.source(blob)], [output], [(0, 0), (1, attributes["size"]), (2, attributes["alpha"]),
                      (3, attributes["beta"]), (4, attributes.get("bias", 1.0))])
        elif node.op_type == "MaxPool":
            self.emit("Pooling", output, [self.source(blob)], [output],
                      [(0, 0), (1, attributes["kernel_shape"][0]), (2, attributes["strides"][0]), (3, attributes.get("pads", [0])[0]),
                       (5, 0 if attributes.get("ceil_mode") else 1)])
        elif node.op_type == "GlobalAveragePool":
            self.emit("Pooling", output, [self.source(blob)], [output], [(0, 1), (4, 1)])
        elif node.op_type in ("Concat", "Add"):
            kind, parameters = ("Concat", [(0, 0)]) if node.op_type == "Concat" else ("BinaryOp", [(0, 0)])
            self.emit(kind, output, [self.source(name) for name in node.input], [output], parameters)
        elif node.op_type == "Softmax":
            self.emit("Softmax", output, [self.source(blob)], [output], [(0, 0), (1, 1)])
        elif node.op_type in ("Flatten", "Dropout"):
            self.alias[output] = blob
            if self.ranges is not None and blob in self.ranges:
                self.ranges.setdefault(output, self.ranges[blob])
        else:
            raise ValueError(f"ncnn writer: {node.op_type} of {node.name}")

    # ncnn wants one reader a blob: a Split stands behind every blob with more.
    def with_splits(self):
        readers = {}
        for _, inputs, _, _ in self.layers:
            for name in inputs:
                readers[name] = readers.get(name, 0) + 1
        taken, rows = {}, []
        for kind, inputs, outputs, fields in self.layers:
            renamed = []
            for name in inputs:
                if readers[name] > 1:
                    taken[name] = taken.get(name, 0) + 1
                    renamed.append(f"{name}.copy{taken[name]}")
                else:
                    renamed.append(name)
            rows.append(fields[:4] + renamed + fields[4 + len(inputs):])
            for name in outputs:
                if readers.get(name, 0) > 1:
                    rows.append(["Split", name + ".split", 1, readers[name], name, *(f"{name}.copy{i + 1}" for i in range(readers[name]))])
        return rows

    def write(self, path):
        relu_of = {}
        for node in self.nodes:
            if node.op_type == "Relu" and sum(node.input[0] in other.input for other in self.nodes) == 1:
                producer = next(other for other in self.nodes if node.input[0] in other.output)
                if producer.op_type in ("Conv", "Gemm"):
                    relu_of[node.input[0]] = node.output[0]
        self.emit("Input", "data", [], ["data"])
        for node in self.nodes:
            self.node(node, relu_of)
        self.emit("Noop", "output", [self.layers[-1][2][0]], ["output"])
        rows = self.with_splits()
        blobs = {name for row in rows for name in row[4:4 + row[2] + row[3]]}
        with open(path + ".param", "w") as file:
            file.write(f"7767517\n{len(rows)} {len(blobs)}\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows))
        with open(path + ".bin", "wb") as file:
            for piece in self.data:
                file.write(piece)


def write(network, form):
    """<form> is ncnn-float or ncnn-int8; gives the path without its two suffixes."""
    if os.path.exists(network.path(form + ".bin")):
        return network.path(form)
    ranges = activation_ranges(network.path("qdq.onnx")) if form == "ncnn-int8" else None
    Writer(onnx.load(network.path("float.onnx")), ranges).write(network.path(form))
    return network.path(form)
