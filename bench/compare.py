#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times one image through each network: the dense original and the compressed file in qcnn, and ONNX Runtime in float32.

The contestants take turns, round after round, so that a change of the machine's speed meets all of them alike. Prints a
Markdown table of medians, 90th percentiles and ratios to ONNX Runtime.

    bench/compare.py [--rounds 7] [--threads 1]
"""
import argparse
import json
import os
import statistics
import subprocess
import time

import numpy as np
import onnxruntime

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
QCNN = os.path.join(ROOT, "build/qcnn")
WORK = os.path.join(ROOT, "build/bench")
NETWORKS = {  # name: (original, options of compress)
    "Fashion-MNIST": ("models/fashion_mnist.onnx", []),
    "AlexNet (200 classes)": ("../shared/data/alexnet200/alexnet200.onnx", []),
    "SqueezeNet 1.0": ("../shared/data/squeezenet1000/squeezenet.onnx", []),
}


def time_qcnn(model, threads, repeat):
    output = subprocess.run([QCNN, "bench", model, "--threads", str(threads), "--repeat", str(repeat), "--json"], check=True, capture_output=True)
    result = json.loads(output.stdout)
    return result["median_ms"], result["p90_ms"], result["kernels"]


def time_onnxruntime(session, repeat):
    shape = [1 if not isinstance(side, int) else side for side in session.get_inputs()[0].shape]
    feed = {session.get_inputs()[0].name: np.random.RandomState(0).randn(*shape).astype(np.float32)}
    session.run(None, feed)
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), statistics.quantiles(times, n=10)[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=20, help="runs of each contestant in a round")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    os.makedirs(WORK, exist_ok=True)
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown processor")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    rows = []
    for name, (original, settings) in NETWORKS.items():
        original = os.path.join(ROOT, original)
        if not os.path.exists(original):
            print(f"SKIPPED: {name}: {original} is absent")
            continue
        compressed = os.path.join(WORK, name.split()[0] + ".qcnn")
        subprocess.run([QCNN, "compress", original, "-o", compressed, *settings], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        session = onnxruntime.InferenceSession(original, options, providers=["CPUExecutionProvider"])
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append((time_onnxruntime(session, arguments.repeat), time_qcnn(original, arguments.threads, arguments.repeat),
                           time_qcnn(compressed, arguments.threads, arguments.repeat)))
        median = [statistics.median(r[i][0] for r in rounds) for i in range(3)]
        p90 = [statistics.median(r[i][1] for r in rounds) for i in range(3)]
        ratio = [statistics.median(r[0][0] / r[i][0] for r in rounds) for i in (1, 2)]
        kernels = rounds[0][1][2]
        rows.append(f"| {name} | {median[0]:.2f} ({p90[0]:.2f}) | {median[1]:.2f} ({p90[1]:.2f}) | {median[2]:.2f} ({p90[2]:.2f}) | {ratio[0]:.2f}x | {ratio[1]:.2f}x |")
    print(f"{cpu}, kernels {kernels}, {arguments.threads} thread(s), batch 1, {arguments.rounds} rounds of {arguments.repeat}; "
          f"ONNX Runtime {onnxruntime.__version__}. Milliseconds: median (90th percentile).\n")
    print("| network | ONNX Runtime float32 | qcnn dense float32 | qcnn codebooks | dense: faster than ORT | codebooks: faster than ORT |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
