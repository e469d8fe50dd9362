# SPDX-License-Identifier: Apache-2.0
"""One engine with one network in one process: loads, says so, and then times the runs that each line of stdin asks for.

    worker.py ENGINE MODEL PHOTOS.npy --threads N --batch N

A line is the number of runs and the megabytes of other memory to touch before each. Answers are lines of JSON. A photograph's place in the file moves on from run to run, so that no run repeats the one before.
"""
import argparse
import json
import sys
import time

import numpy as np


def load_onnxruntime(path, threads, _batch, _size):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0], onnxruntime.__version__


def load_openvino(path, threads, batch, size, precision=None):
    import openvino
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([batch, 3, size, size])
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0], openvino.__version__.split("-")[0]


def load_openvino_float(path, threads, batch, size):
    return load_openvino(path, threads, batch, size, "f32")


def load_ncnn(path, threads, batch, size, low_precision=False):
    import ncnn
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_bf16_storage = low_precision
    net.load_param(path + ".param")
    net.load_model(path + ".bin")

    def run(x):
        rows = []
        for image in x:
            extractor = net.create_extractor()
            extractor.input("data", ncnn.Mat(image))
            rows.append(np.array(extractor.extract("output")[1]))
        return np.stack(rows)
    return run, ncnn.__version__


ENGINES = {"ort": load_onnxruntime, "openvino-float": load_openvino_float, "openvino-int8": load_openvino, "ncnn": load_ncnn}


def peak_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def write_scores(run, arguments):
    import networks
    network = next(network for network in networks.NETWORKS if network.key == arguments.network)
    how = networks.preprocessing(network)
    np.save(arguments.scores, np.concatenate([np.array(run(networks.tensor_of(path, how)[None])).reshape(1, -1)
                                              for path, _ in networks.labelled(network, arguments.limit)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("model")
    parser.add_argument("photos")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--scores", metavar="FILE.npy", help="instead: scores of the validation photographs of --network")
    parser.add_argument("--network")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    photos = np.load(arguments.photos)
    base = peak_bytes()
    start = time.perf_counter()
    run, version = ENGINES[arguments.engine](arguments.model, arguments.threads, arguments.batch, photos.shape[2])
    load_ms = 1e3 * (time.perf_counter() - start)
    if arguments.scores:
        write_scores(run, arguments)
        return
    batches = [np.ascontiguousarray(photos[i:i + arguments.batch]) for i in range(0, len(photos), arguments.batch)]
    run(batches[0])
    print(json.dumps({"load_ms": load_ms, "version": version, "peak_bytes": peak_bytes(), "base_bytes": base}), flush=True)
    turn = 0
    for line in sys.stdin:
        repeat, cold_mb = map(int, line.split())
        cold = np.zeros(cold_mb * 1000000 // 64 * 64, np.uint8)
        times = []
        for i in range(-2 if arguments.batch == 1 else -1, repeat):  # the first ones warm up
            x = batches[turn % len(batches)]
            turn += 1
            cold[::64] += 1  # other memory, so that the network's own has left the caches
            start = time.perf_counter()
            run(x)
            if i >= 0:
                times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"ms": times}), flush=True)


if __name__ == "__main__":
    main()
