#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the network that `make demo` compresses.

A small AlexNet for Fashion-MNIST: four convolutions (the last one in two groups), max pooling, and three
fully-connected layers that hold nine tenths of the weights and are therefore worth compressing.  The data are
Debian's `dataset-fashion-mnist`, the framework Debian's `python3-torch`, so nothing is downloaded by hand.

Nobody needs this script to use qcnn: its results are committed in models/.  It is here so that they can be made
again, or made differently.  It writes three files, named after --output:

    NAME.onnx              the trained network, BatchNorm folded: image (N,1,28,28) -> logits (N,10)
    NAME.preprocess.json   how pixels 0..255 become `image`
    NAME.classes.txt       class names in index order

The test images are looked at once, after the last epoch; no setting or epoch is chosen by them.
"""

import argparse
import gzip
import json
import os
import sys
import time
from collections import OrderedDict

# Debian's PyTorch has OpenMP threads and its OpenBLAS threads of its own, which get in each other's way.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

DATA = "/usr/share/datasets/fashion-mnist"
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
           "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
SIDE = 28

EXAMPLES = """examples:
  # the committed model (about thirteen minutes on two cores)
  scripts/train_fashion_mnist.py

  # a quick look, elsewhere
  scripts/train_fashion_mnist.py --epochs 2 --output /tmp/quick.onnx
"""


def read_idx(path, ndim):
    """An IDX file of unsigned bytes: magic 0x0000080N, N big-endian sizes, the data."""
    with gzip.open(path, "rb") as file:
        data = file.read()
    if data[:4] != bytes([0, 0, 8, ndim]):
        raise ValueError(f"{path}: not an IDX file of bytes in {ndim} dimensions")
    shape = np.frombuffer(data, ">u4", ndim, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def load_split(folder, split):
    """Images (n, 28, 28) and labels (n,) of `train` or `t10k`."""
    images = read_idx(os.path.join(folder, f"{split}-images-idx3-ubyte.gz"), 3)
    labels = read_idx(os.path.join(folder, f"{split}-labels-idx1-ubyte.gz"), 1)
    return torch.tensor(images), torch.tensor(labels, dtype=torch.long)


def build_network():
    """Module names become node names in the ONNX file."""
    def convolution(index, inputs, outputs, groups=1):
        return [(f"conv{index}", nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)),
                (f"bn{index}", nn.BatchNorm2d(outputs)),
                (f"relu{index}", nn.ReLU())]

    return nn.Sequential(OrderedDict(
        convolution(1, 1, 24)                             # (n, 24, 28, 28)
        + [("pool1", nn.MaxPool2d(2))]                    # (n, 24, 14, 14)
        + convolution(2, 24, 64)                          # (n, 64, 14, 14)
        + [("pool2", nn.MaxPool2d(2))]                    # (n, 64, 7, 7)
        + convolution(3, 64, 96)                          # (n, 96, 7, 7)
        + convolution(4, 96, 128, groups=2)               # (n, 128, 7, 7)
        + [("pool4", nn.MaxPool2d(3, stride=2)),          # (n, 128, 3, 3)
           ("flatten", nn.Flatten()),                     # (n, 1152)
           ("drop1", nn.Dropout(0.3)),
           ("fc1", nn.Linear(128 * 3 * 3, 768)), ("relu5", nn.ReLU()),
           ("drop2", nn.Dropout(0.3)),
           ("fc2", nn.Linear(768, 384)), ("relu6", nn.ReLU()),
           ("fc3", nn.Linear(384, len(CLASSES)))]))       # (n, 10)


def augment(images, shift=2, erase_most=10):
    """Each image moved by up to `shift` pixels, mirrored with probability 1/2, and with probability 1/2 a rectangle
    of random sides blanked.  (n, 28, 28) bytes in and out."""
    n = len(images)
    line = torch.arange(SIDE)

    # Move and mirror are one gather from the image with a black frame.
    framed = functional.pad(images, (shift,) * 4)
    rows = line + torch.randint(2 * shift + 1, (n, 1))
    columns = torch.where(torch.rand(n, 1) < 0.5, line, line.flip(0)) + torch.randint(2 * shift + 1, (n, 1))
    moved = framed[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]

    def random_interval():
        length = torch.randint(3, erase_most + 1, (n, 1))
        start = torch.randint(SIDE - 2, (n, 1))
        return (line >= start) & (line < start + length)

    erased = random_interval()[:, :, None] & random_interval()[:, None, :] & (torch.rand(n, 1, 1) < 0.5)
    return moved.masked_fill(erased, 0)


def train(network, images, labels, normalize, args):
    """SGD with Nesterov momentum; the rate rises for a fifth of the steps, then falls to nothing (one cycle)."""
    steps_per_epoch = len(images) // args.batch
    optimizer = torch.optim.SGD(network.parameters(), lr=args.rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.rate, total_steps=args.epochs * steps_per_epoch, pct_start=0.2,
        anneal_strategy="linear", cycle_momentum=False)
    started = time.monotonic()
    network.train().to(memory_format=torch.channels_last)    # the faster layout for training on a CPU
    for epoch in range(args.epochs):
        order = torch.randperm(len(images))[:steps_per_epoch * args.batch]
        loss_sum = 0.0
        for batch in order.split(args.batch):
            pixels = normalize(augment(images[batch])).contiguous(memory_format=torch.channels_last)
            logits = network(pixels)
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
        print(f"epoch {epoch + 1}/{args.epochs}: loss {loss_sum / steps_per_epoch:.4f}, "
              f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


@torch.no_grad()
def count_correct(network, images, labels, normalize):
    network.eval()
    return sum((network(normalize(x)).argmax(1) == y).sum().item()
               for x, y in zip(images.split(500), labels.split(500)))


def export_onnx(network, path):
    """Writes the network for inference, then names nodes and weights after the modules they came from."""
    network.eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(network, torch.zeros(1, 1, SIDE, SIDE), path, opset_version=13,
                      input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})
    model = onnx.load(path)
    graph = model.graph
    renamed = {}
    for node in graph.node:
        node.name = node.name.strip("/").split("/")[0]    # "/conv1/Conv" -> "conv1"
        if node.output[0] != "logits":
            renamed[node.output[0]] = node.name
        for parameter, kind in zip(node.input[1:], ("weight", "bias")):
            renamed[parameter] = f"{node.name}.{kind}"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = renamed[tensor.name]
    graph.name = "fashion_mnist"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="models/fashion_mnist.onnx", help="the ONNX file (default: %(default)s)")
    parser.add_argument("--data", default=DATA, help="folder of the IDX files (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the training images (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=192, help="images a step (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.12, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and augmentation (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2,
                        help="sums depend on it, so one seed gives one result for one number (default: %(default)s)")
    return parser.parse_args()


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(args.threads)

    images, labels = load_split(args.data, "train")
    # Rounded before use, so that what the JSON file says is exactly what training did.
    mean = round(images.float().mean().item(), 2)
    std = round(images.float().std().item(), 2)

    def normalize(pixels):
        return ((pixels.float() - mean) / std).unsqueeze(1)    # (n, 28, 28) -> (n, 1, 28, 28)

    network = build_network()
    train(network, images, labels, normalize, args)

    base = os.path.splitext(args.output)[0]
    export_onnx(network, args.output)
    with open(base + ".preprocess.json", "w", encoding="utf-8") as file:
        json.dump({"resize_shorter": SIDE, "interpolation": "bilinear", "crop": SIDE, "channels": "GRAY",
                   "mean": [mean], "std": [std]}, file)
        file.write("\n")
    with open(base + ".classes.txt", "w", encoding="utf-8") as file:
        file.writelines(name + "\n" for name in CLASSES)

    test_images, test_labels = load_split(args.data, "t10k")
    correct = count_correct(network, test_images, test_labels, normalize)
    print(f"{args.output}: {sum(p.numel() for p in network.parameters())} trained parameters, "
          f"{os.path.getsize(args.output)} bytes, "
          f"test accuracy {100 * correct / len(test_labels):.2f} % ({correct} of {len(test_labels)})")


if __name__ == "__main__":
    main()
