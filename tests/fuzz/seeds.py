#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seed corpus of the fuzz targets: small valid files of every kind, written here or by the qcnn command.

    seeds.py QCNN_COMMAND CORPUS_FOLDER
"""
import io
import os
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

command, folder = sys.argv[1:]
rng = np.random.RandomState(0)


def write(target, name, data):
    os.makedirs(os.path.join(folder, target), exist_ok=True)
    path = os.path.join(folder, target, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def constant(name, *shape):
    return numpy_helper.from_array(rng.randn(*shape).astype(np.float32), name)


def small_network():
    """Two convolutions, one of them grouped, pooling, LRN and a fully-connected layer: a few kilobytes."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("LRN", ["r1"], ["n1"], size=3),
        helper.make_node("MaxPool", ["n1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], name="conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2),
        helper.make_node("BatchNormalization", ["c2", "s", "b", "m", "v"], ["n2"]),
        helper.make_node("Flatten", ["n2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["g"], name="fc1", transB=1),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    weights = [constant("w1", 8, 3, 3, 3), constant("b1", 8), constant("w2", 8, 4, 3, 3), constant("s", 8), constant("b", 8),
               constant("m", 8), numpy_helper.from_array(np.ones(8, np.float32), "v"), constant("w3", 6, 32), constant("b3", 6)]
    return nodes, weights


def model_bytes(nodes, weights, opset=13):
    graph = helper.make_graph(nodes, "seed", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString()


path = write("onnx", "network.onnx", model_bytes(*small_network()))
for op, attributes in [("Sigmoid", {}), ("GlobalAveragePool", {}), ("Transpose", {"perm": [0, 2, 3, 1]}), ("Softmax", {"axis": 1}),
                       ("AveragePool", {"kernel_shape": [3, 3], "ceil_mode": 1}), ("ReduceMean", {"axes": [2, 3]}), ("Concat", {"axis": 1})]:
    write("onnx", op + ".onnx", model_bytes([helper.make_node(op, ["x"], ["y"], **attributes)], []))

def field(number, data):
    """A length-delimited protobuf field; lengths below 16,384."""
    length = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])
    return bytes([number << 3 | 2]) + length + data if number < 16 else bytes([(number << 3 | 2) & 127 | 128, number >> 4]) + length + data


def caffe_layer(name, kind, *shapes):
    """A LayerParameter (name 1, type 2, blobs 7) with BlobProtos of a shape (7) and packed data (5)."""
    layer = field(1, name.encode()) + field(2, kind.encode())
    for shape in shapes:
        values = rng.randn(*shape).astype("<f4").tobytes()
        layer += field(7, field(7, field(1, bytes(shape))) + field(5, values))
    return field(100, layer)


prototxt = b"""name: "seed" input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "fc1" type: "InnerProduct" bottom: "pool1" top: "fc1" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc1" top: "prob" }
"""
write("caffe", "network", prototxt + b"\0" + caffe_layer("conv1", "Convolution", (4, 3, 3, 3), (4,)) + caffe_layer("fc1", "InnerProduct", (5, 16), (5,)))

for name, extra in [("lut", ["--set", "conv2=4/8,fc1=4/4"]), ("dense", ["--set", "conv2=dense,fc1=dense"])]:
    target = os.path.join(folder, "container", name + ".qcnn")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    subprocess.run([command, "compress", path, "-o", target, *extra], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")  # numbers of every type, entropy coding
for name in os.listdir(golden):
    with open(os.path.join(golden, name), "rb") as file:
        write("container", name, file.read())

for mode in ("L", "RGB", "RGBA", "P", "LA", "I;16"):
    pixels = Image.fromarray(rng.randint(0, 255, (20, 24, 3)).astype(np.uint8))
    picture = Image.new("I;16", (24, 20)) if mode == "I;16" else pixels.convert("RGBA").convert(mode) if mode != "P" else pixels.convert("P")
    file = io.BytesIO()
    picture.save(file, "PNG")
    write("image", f"{mode.replace(';', '')}.png", file.getvalue())
for name, options in [("baseline", {}), ("progressive", {"progressive": True}), ("exif", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"})]:
    file = io.BytesIO()
    Image.fromarray(rng.randint(0, 255, (20, 24, 3)).astype(np.uint8)).save(file, "JPEG", quality=60, **options)
    write("image", name + ".jpg", file.getvalue())

write("labels", "labels", b"\0a/b.jpg\t3\nc.png\t0\r\n")
write("labels", "preprocess", b'\x01{"resize_shorter": [64, 256], "interpolation": "bilinear", "crop": 227, "channels": "BGR", "mean": [104, 117, 123], "std": [1, 1, 1]}')
write("labels", "classes", "\x02tench, Tinca tinca\ngoldfish\nStraße\n".encode())

for dtype in ("<f4", "<f2", "<f8", "<i8", "|b1"):
    file = io.BytesIO()
    np.save(file, np.arange(6).reshape(2, 3).astype(dtype))
    write("npy", dtype.strip("<|") + ".npy", file.getvalue())
write("npy", "images.idx", bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24)))
