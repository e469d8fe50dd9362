# SPDX-License-Identifier: Apache-2.0
"""Top-1 and top-5 of exactly what is timed, on the validation photographs: ours by `qcnn eval` with the same file and kernels,
the peers by their workers. Answers are kept in accuracy.json beside the files until a file changes.
"""
import json
import os
import subprocess
import sys

if __name__ == "__main__":
    sys.exit(__doc__ + "This is a part of bench/compare.py; bench/run.sh runs that, with all it needs.")

import numpy as np

import networks

PEERS = (("ort-float", "ort", "float.onnx"), ("ort-int8", "ort", "qdq.onnx"), ("openvino-int8", "openvino-int8", "qdq.onnx"),
         ("ncnn-int8", "ncnn", "ncnn-int8"))
HERE = os.path.dirname(os.path.abspath(__file__))


def shares(scores, labels):
    order = np.argsort(-scores.reshape(len(labels), -1), axis=1, kind="stable")
    labels = np.array(labels)[:, None]
    return 100 * float(np.mean(order[:, :1] == labels)), 100 * float(np.mean((order[:, :5] == labels).any(axis=1)))


def ours(network, path, n_images, kernels):
    command = [os.path.join(networks.ROOT, "build/qcnn"), "eval", path, os.path.join(networks.SHARED, network.data, "val"), "--json",
               "--limit", str(n_images), "--preprocess", network.path("preprocess.json")] + (["--kernels", kernels] if kernels else [])
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    return {"images": result["images"], "top1": result["top1"], "top5": result["top5"]}


def theirs(network, engine, name, rows):
    scores = network.path("scores.npy")
    subprocess.run([sys.executable, os.path.join(HERE, "worker.py"), engine, network.path(name), network.path("photos.npy"),
                    "--scores", scores, "--network", network.key, "--limit", str(len(rows))], check=True, stderr=subprocess.DEVNULL)
    top1, top5 = shares(np.load(scores), [label for _, label in rows])
    os.remove(scores)
    return {"images": len(rows), "top1": top1, "top5": top5}


def judge(network, files, limit, limit_of_peers=None):
    """{contestant: {images, top1, top5}}; `files` are (key, title, path) of ours; the peers may take fewer images."""
    rows, rows_of_peers = networks.labelled(network, limit), networks.labelled(network, limit_of_peers or limit)
    memory_path = network.path("accuracy.json")
    memory = json.load(open(memory_path)) if os.path.exists(memory_path) else {}
    binary = os.stat(os.path.join(networks.ROOT, "build/qcnn")).st_mtime
    results = {}

    def remembered(key, path, state, rows, function):
        stat = os.stat(path + ".bin" if not os.path.exists(path) else path)
        mark = [path, stat.st_size, stat.st_mtime, len(rows), state]
        if memory.get(key, {}).get("mark") != mark:
            print(f"{network.title}: accuracy of {key} on {len(rows)} images", file=sys.stderr, flush=True)
            memory[key] = {"mark": mark, "answer": function()}
            with open(memory_path, "w") as file:
                json.dump(memory, file, indent=1)
        results[key] = memory[key]["answer"]

    for key, engine, name in PEERS:
        remembered(key, network.path(name), engine, rows_of_peers, lambda: theirs(network, engine, name, rows_of_peers))
    remembered("qcnn-dense", network.path("float.onnx"), binary, rows, lambda: ours(network, network.path("float.onnx"), len(rows), None))
    for key, _, path in files:
        for suffix, kernels in (("", None), ("-avx2", "avx2")):
            remembered("qcnn-" + key + suffix, path, binary, rows, lambda: ours(network, path, len(rows), kernels))
    return results
