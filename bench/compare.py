#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times qcnn and its peers in turn, round after round, and writes build/bench/results.json (bench/report.py draws it).

Every peer lives in a process of its own that is stopped (SIGSTOP) while another has its turn, so that nobody's spinning
threads disturb the rest. A change of the machine's speed within a run meets all alike: read the ratios.

    bench/compare.py [--quick] [--networks alexnet,vgg16,...] [--tables 1x1,2x1,1x16,2x16] [--keep] ...
"""
import argparse
import datetime
import json
import os
import signal
import statistics
import subprocess
import sys

import accuracy
import ncnn_writer
import networks
import quantize

QCNN = os.path.join(networks.ROOT, "build/qcnn")
COLD_MB = 64
PROCESSORS = sorted(os.sched_getaffinity(0))
PEERS = (  # key, title, engine of worker.py, file
    ("ort-float", "ONNX Runtime float32", "ort", "float.onnx"),
    ("ort-int8", "ONNX Runtime int8", "ort", "qdq.onnx"),
    ("openvino-float", "OpenVINO float32", "openvino-float", "float.onnx"),
    ("openvino-int8", "OpenVINO int8", "openvino-int8", "qdq.onnx"),
    ("ncnn-float", "ncnn float32", "ncnn", "ncnn-float"),
    ("ncnn-int8", "ncnn int8", "ncnn", "ncnn-int8"),
)


class Peer:
    """A worker process; awake only inside a turn."""

    def __init__(self, key, title, engine, path, photos, threads, batch):
        self.key, self.title, self.engine, self.path = key, title, engine, path
        command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py"), engine, path, photos,
                   "--threads", str(threads), "--batch", str(batch)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{title}: the worker ended: {' '.join(command)}")
        self.facts = json.loads(line)
        self.process.send_signal(signal.SIGSTOP)

    def turn(self, repeat, cold_mb=0):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{repeat} {cold_mb}\n")
        self.process.stdin.flush()
        times = json.loads(self.process.stdout.readline())["ms"]
        self.process.send_signal(signal.SIGSTOP)
        return times

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """`qcnn bench`, a process a turn."""

    def __init__(self, key, title, path, photos, threads, batch, kernels=None):
        self.key, self.title, self.engine, self.path, self.photos = key, title, "qcnn", path, photos
        self.options = ["--threads", str(threads), "--batch", str(batch), "--warm-up", "2" if batch == 1 else "1"]
        self.options += ["--kernels", kernels] if kernels else []
        self.facts, self.loads, self.layers = {}, [], []

    def turn(self, repeat, cold_mb=0):
        result = qcnn("bench", self.path, "--input", self.photos, "--repeat", repeat, "--cold", cold_mb, *self.options)
        self.loads.append(result["load_ms"])
        self.layers.append(result["layers"])
        self.facts.update(version=result["kernels"], load_ms=statistics.median(self.loads))
        return result["runs_ms"]

    def close(self):
        pass


def qcnn(command, *arguments):
    done = subprocess.run([QCNN, command, "--json", *map(str, arguments)], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return json.loads(done.stdout)


# ---- files ----------------------------------------------------------------------------------------------------------

def compressed(network, key, options):
    """The path of a compressed file: made once for its options, or named by them."""
    if len(options) == 1 and options[0].endswith(".qcnn"):
        return os.path.join(networks.ROOT, options[0])
    path, memory = network.path(key + ".qcnn"), network.path(key + ".options")
    if not os.path.exists(path) or not os.path.exists(memory) or open(memory).read() != " ".join(options):
        print(f"compressing {network.key} {' '.join(options)}", file=sys.stderr, flush=True)
        source = os.path.join(networks.SHARED, network.data, network.original) if network.is_real else network.path("float.onnx")
        places = {"CALIB": os.path.join(networks.SHARED, network.data, "calib")}
        qcnn("compress", source, "-o", path, "--preprocess", network.path("preprocess.json"), *(places.get(option, option) for option in options))
        with open(memory, "w") as file:
            file.write(" ".join(options))
    return path


def contestants(network, files, threads, batch, peers=PEERS, all_of_ours=True):
    photos = network.path("photos.npy")
    for key, title, engine, name in peers:
        yield Peer(key, title, engine, network.path(name), photos, threads, batch)
    if all_of_ours:
        yield Ours("qcnn-dense", "qcnn, original dense", network.path("float.onnx"), photos, threads, batch)
    for key, title, path in files:
        yield Ours("qcnn-" + key, f"qcnn, {title}", path, photos, threads, batch)
        if all_of_ours and batch == 1:
            yield Ours(f"qcnn-{key}-avx2", f"qcnn, {title}, AVX2 alone", path, photos, threads, batch, "avx2")


# ---- measuring ------------------------------------------------------------------------------------------------------

def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(fraction * len(ordered) + 0.5) - 1))]


def measure(network, files, threads, batch, rounds, seconds, cold_mb=0, **chosen):
    """One table: every contestant's times over all rounds, with its rounds' medians for paired ratios. All keep to as many processors as threads."""
    os.sched_setaffinity(0, PROCESSORS[-threads:])
    players = list(contestants(network, files, threads, batch, **chosen))
    least = 2 if batch == 1 else 1
    repeats = {player.key: max(least, min(200, round(1e3 * seconds / statistics.median(player.turn(least))))) for player in players}
    times = {player.key: [] for player in players}
    for turn in range(rounds):
        for player in players if turn % 2 == 0 else players[::-1]:
            times[player.key].append(player.turn(repeats[player.key], cold_mb))
    rows = []
    for player in players:
        player.close()
        every = [ms for turn in times[player.key] for ms in turn]
        row = {"key": player.key, "title": player.title, "median_ms": statistics.median(every), "p90_ms": percentile(every, 0.9),
               "min_ms": min(every), "runs": len(every), "round_ms": [statistics.median(turn) for turn in times[player.key]], **player.facts}
        if player.engine == "qcnn":
            row["layers"] = [dict(layer, ms=statistics.median(run[i]["ms"] for run in player.layers))
                             for i, layer in enumerate(player.layers[0])]
        rows.append(row)
        print(f"  {row['title']:45} {row['median_ms']:9.3f} ms  (90 %: {row['p90_ms']:.3f})", file=sys.stderr, flush=True)
    os.sched_setaffinity(0, PROCESSORS)
    return {"threads": threads, "batch": batch, "cold_mb": cold_mb, "rows": rows}


def memory_of_ours(network, path, threads):
    """Peak bytes of a process that loads the file and runs the largest of the first photographs once, as `qcnn classify` does."""
    photo = max((name for name, _ in networks.labelled(network, 100)), key=os.path.getsize)
    return qcnn("bench", path, "--image", photo, "--repeat", 1, "--warm-up", 0, "--threads", threads,
                "--preprocess", network.path("preprocess.json"))["peak_rss_bytes"]


def facts_of_file(network, key, title, path, options):
    facts = qcnn("inspect", path)
    return {"key": "qcnn-" + key, "title": title, "options": " ".join(options), "file_bytes": facts["file_bytes"],
            "ratio": facts["ratio"], "calibrated": facts["calibrated"],
            "peak_bytes": [memory_of_ours(network, path, threads) for threads in (1, 2)],
            "layers": {layer["name"]: {"method": layer["method"], **layer["operations"]} for layer in facts["layers"] if layer["method"]}}


def machine():
    def read(path):
        with open(path) as file:
            return file.read()
    cpu = {}
    for line in read("/proc/cpuinfo").split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        cpu[name.strip()] = value.strip()
    peaks = json.loads(subprocess.run([os.path.join(networks.WORK, "peaks")], check=True, stdout=subprocess.PIPE).stdout)
    return {"cpu": f"{cpu.get('model name', 'unknown')}, family {cpu.get('cpu family')} model {cpu.get('model')}", "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9), "kernel": os.uname().release,
            "load": os.getloadavg()[0], "peaks": peaks}


def merge(earlier, result):
    """Tables and accuracy of an earlier run that this one has not made anew."""
    def place(table):
        return table["threads"], table["batch"], table["cold_mb"]
    new = [place(table) for table in result["tables"]]
    result["tables"] = sorted(result["tables"] + [table for table in earlier["tables"] if place(table) not in new],
                              key=lambda table: (table["cold_mb"], table["batch"], table["threads"]))
    return {**{key: earlier[key] for key in ("accuracy",) if key in earlier}, **result}


def run_network(network, arguments):
    quick = arguments.quick
    files = [(key, title, compressed(network, key, options)) for key, title, options in network.files]
    for form in ("ncnn-float", "ncnn-int8"):
        ncnn_writer.write(network, form)
    rounds, seconds = arguments.rounds or (5 if quick else 9), arguments.seconds or (0.25 if quick else 0.8)
    result = {"title": network.title, "real": network.is_real, "data": network.data, "tables": [], "files": []}
    for (key, title, path), (_, _, options) in zip(files, network.files):
        result["files"].append(facts_of_file(network, key, title, path, options))
    for table in (arguments.tables or ("1x1,2x1" if quick else "1x1,2x1,1x16,2x16")).split(","):
        threads, batch = map(int, table.split("x"))
        print(f"{network.title}: {threads} thread(s), batch {batch}", file=sys.stderr, flush=True)
        result["tables"].append(measure(network, files, threads, batch, rounds if batch == 1 else max(3, rounds // 2),
                                        seconds, all_of_ours=threads == 1))
    if network.key == "alexnet" and result["tables"][0]["batch"] == 1:
        print(f"{network.title}: {COLD_MB} MB touched before each run", file=sys.stderr, flush=True)
        result["tables"].append(measure(network, files, 1, 1, 3, seconds, COLD_MB, peers=PEERS[:4:3], all_of_ours=False))
    if network.is_real and not arguments.no_accuracy:
        result["accuracy"] = accuracy.judge(network, files, arguments.images or (300 if quick else None), arguments.peer_images)
    return result


def add_accuracy(path, n_images, n_of_peers):
    """Judges what an earlier run timed: that needs no quiet machine."""
    with open(path) as file:
        results = json.load(file)
    for network in networks.NETWORKS:
        if network.is_real and network.key in results["networks"]:
            files = [(key, title, compressed(network, key, options)) for key, title, options in network.files]
            results["networks"][network.key]["accuracy"] = accuracy.judge(network, files, n_images, n_of_peers)
    with open(path, "w") as file:
        json.dump(results, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under five minutes once the files are made: fewer rounds and tables")
    parser.add_argument("--networks", default=",".join(network.key for network in networks.NETWORKS))
    parser.add_argument("--only-accuracy", action="store_true", help="time nothing: add accuracy to an earlier run's results")
    parser.add_argument("--images", type=int, help="photographs that accuracy is judged on")
    parser.add_argument("--peer-images", type=int, help="photographs for the peers, which take their time (default: as many)")
    parser.add_argument("--no-accuracy", action="store_true")
    parser.add_argument("--tables", help="THREADSxBATCH,... instead of the mode's own")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of a contestant's turn, about")
    parser.add_argument("--keep", action="store_true", help="keep the networks and tables of an earlier run that this one leaves out")
    parser.add_argument("-o", "--output", default=os.path.join(networks.WORK, "results.json"))
    arguments = parser.parse_args()
    if arguments.only_accuracy:
        add_accuracy(arguments.output, arguments.images, arguments.peer_images)
        return
    chosen = [network for network in networks.NETWORKS if network.key in arguments.networks.split(",")]
    results = {"date": datetime.datetime.now().isoformat(timespec="minutes"), "networks": {},
               "mode": f"{'quick' if arguments.quick else 'full'} mode" + (f", {arguments.rounds} rounds" if arguments.rounds else "")}
    results["commit"] = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=networks.ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    results["machine"] = machine()
    if arguments.keep and os.path.exists(arguments.output):
        with open(arguments.output) as file:
            results["networks"] = json.load(file)["networks"]
    for network in chosen:
        if not networks.prepare(network):
            print(f"SKIPPED: {network.title}: ../shared/data/{network.data} is absent", file=sys.stderr)
            continue
        quantize.quantize(network)
        earlier = results["networks"].get(network.key)
        result = run_network(network, arguments)
        results["networks"][network.key] = merge(earlier, result) if earlier else result
        results["machine_after"] = machine()
        with open(arguments.output + ".partial", "w") as file:
            json.dump(results, file, indent=1)
        os.rename(arguments.output + ".partial", arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
