#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures the project answers for, measured with the built command on real networks and photographs (../shared/data):
results of the originals, size, memory and accuracy of what `compress` makes, agreement of compressed files with ONNX
Runtime on the exported model, and one clear line for a malformed file of each kind. The quick form judges 500 images;
QCNN_TEST_LONG=1 judges all. Parts whose data or ONNX Runtime are absent are skipped loudly.

    acceptance.py build/qcnn
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy

sys.dont_write_bytecode = True
SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/cli"))
import make_model as make  # noqa: E402

QCNN = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else SOURCE / "build/qcnn").resolve())
DATA = SOURCE.parent / "shared/data"
ALEXNET, SQUEEZENET = DATA / "alexnet200", DATA / "squeezenet1000"
LONG = os.environ.get("QCNN_TEST_LONG", "0") not in ("", "0")
SKIP = 77
TOLERANCE = 1e-3  # of the largest output

failures, skips = [], []


def check(good, text):
    print("ok    " if good else "FAILED", text, flush=True)
    if not good:
        failures.append(text)


def skip(text):
    print("SKIPPED:", text, flush=True)
    skips.append(text)


# ---- running things ------------------------------------------------------------------------------------------------------

def qcnn(*arguments):
    """What the command prints; it must succeed."""
    done = subprocess.run([QCNN, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"qcnn {arguments[0]}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def qcnn_json(*arguments):
    return json.loads(qcnn(*arguments, "--json"))


def peak_megabytes(*arguments):
    """Peak memory of one run of the command. Asked through a small process of its own, because a child is charged with
    the memory of the parent it was forked from."""
    ask = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
           "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    done = subprocess.run([sys.executable, "-S", "-c", ask, QCNN, *map(str, arguments)], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024 / 1e6


def difference(output, expected):
    """Largest difference, relative to the largest of what was expected; infinite for another shape or a NaN."""
    if output.shape != expected.shape or not numpy.isfinite(output).all():
        return float("inf")
    return float(abs(output - expected).max() / abs(expected).max())


def find_onnxruntime():
    """The Python that has ONNX Runtime: the project's virtual environment (scripts/install_packages.sh), or this one."""
    for python in (SOURCE / "build/venv/bin/python", sys.executable):
        if pathlib.Path(python).exists() and subprocess.run([python, "-c", "import onnxruntime"], capture_output=True).returncode == 0:
            return python
    return None


def onnxruntime_run(python, model, image_file, output_file):
    run = ("import sys, numpy, onnxruntime; net = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']); "
           "numpy.save(sys.argv[3], net.run(None, {net.get_inputs()[0].name: numpy.load(sys.argv[2])})[0])")
    subprocess.run([python, "-c", run, model, image_file, output_file], check=True, capture_output=True)
    return numpy.load(output_file)


# ---- the originals -------------------------------------------------------------------------------------------------------

def image_options(folder):
    return ["--preprocess", folder / "preprocess.json", "--classes", folder / "classes.txt"]


def check_expected(folder, model, work):
    output = work / "output.npy"
    qcnn("run", model, folder / "expected/input.npy", "-o", output)
    apart = difference(numpy.load(output), numpy.load(folder / "expected/output.npy"))
    check(apart <= TOLERANCE, f"{model.name}: run differs from expected/ by {apart:.1e} of the largest output")


def check_classify(folder, model):
    """`classify` and `run` must be the same network: the top class of the four photographs that expected/ was made from."""
    labels = [line.split("\t")[0] for line in (folder / "val/labels.tsv").read_text().splitlines()]
    step = 1000 if folder == ALEXNET else 100  # SqueezeNet's set has every second class: photograph 0200 is its 100th
    photographs = [folder / "val" / labels[i * step] for i in range(4)]
    expected = numpy.load(folder / "expected/output.npy").reshape(4, -1)
    images = qcnn_json("classify", model, *photographs, *image_options(folder))["images"]
    same = [image["top"][0]["class"] == int(row.argmax()) for image, row in zip(images, expected)]
    apart = max(abs(image["top"][0]["probability"] - float(row.max())) for image, row in zip(images, expected))
    check(len(images) == 4 and all(same), f"{model.name}: classify names the expected class of {sum(same)} of 4 photographs")
    check(apart <= TOLERANCE, f"{model.name}: classify gives their probabilities within {apart:.1e}")


def check_originals(work):
    for folder, model in ((SQUEEZENET, SQUEEZENET / "squeezenet.onnx"), (ALEXNET, ALEXNET / "alexnet200.onnx")):
        check_expected(folder, model, work)
        check_classify(folder, model)
    result = qcnn_json("eval", SQUEEZENET / "squeezenet.onnx", SQUEEZENET / "val", *image_options(SQUEEZENET))
    check(result["images"] == 500 and abs(result["top1"] - 61.0) <= 0.3 and abs(result["top5"] - 81.4) <= 0.3,
          f"squeezenet.onnx: top-1 {result['top1']:.2f} (61.0), top-5 {result['top5']:.2f} (81.4) of {result['images']} images")


# ---- AlexNet, compressed -------------------------------------------------------------------------------------------------

PAPER = {"conv1": (3, 128), "conv2": (8, 128), "conv3": (8, 128), "conv4": (8, 128), "conv5": (8, 128),
         "fc6": (4, 32), "fc7": (4, 32), "fc8": (1, 16)}


def compress(folder, model, output, *more):
    return qcnn_json("compress", model, "-o", output, "--preset", "q-cnn", "--correction", "none", *image_options(folder), *more)


def first_images(count, work):
    """A data set of the first images of val/: those that the reference figures of plain clustering were taken on."""
    folder = work / "first"
    if not folder.exists():
        folder.mkdir()
        lines = (ALEXNET / "val/labels.tsv").read_text().splitlines()[:count]
        (folder / "labels.tsv").write_text("\n".join(lines) + "\n")
        for line in lines:
            name = line.split("\t")[0]
            (folder / name).symlink_to(ALEXNET / "val" / name)
    return folder


def check_plain_clustering(compressed, reference, work):
    """Accuracy without error correction: within 3 points of the reference, or better."""
    result = qcnn_json("eval", compressed, first_images(2500, work))
    check(result["images"] == 2500 and result["top1"] >= reference - 3,
          f"{compressed.name}: top-1 {result['top1']:.2f} of the first 2,500 images (reference {reference}), top-5 {result['top5']:.2f}")


def check_alexnet(work):
    model, compressed = ALEXNET / "alexnet200.onnx", work / "alexnet200.qcnn"
    made = compress(ALEXNET, model, compressed)
    check(made["ratio"] >= 19.5 and made["file_bytes"] == compressed.stat().st_size,
          f"alexnet200.qcnn: {made['original_bytes']} to {made['file_bytes']} bytes, ratio {made['ratio']:.2f} (at least 19.5), "
          f"made in {made['seconds']:.1f} s with {made['threads']} threads and {made['peak_rss_bytes'] / 1e6:.0f} MB")
    layers = {layer["name"]: layer for layer in qcnn_json("inspect", compressed)["layers"]}
    settings = {name: (layer["subspace"], layer["codewords"]) for name, layer in layers.items()}
    check(settings == PAPER, f"alexnet200.qcnn: the paper's C'/K: {' '.join(f'{n} {c}/{k}' for n, (c, k) in settings.items())}")
    dense = [name for name, layer in layers.items() if layer["method"] != "lut"]
    check(set(dense) <= {"conv1"}, f"alexnet200.qcnn: conv2 to fc8 run by look-up (dense: {', '.join(dense) or 'none'})")

    one = work / "one.npy"
    numpy.save(one, numpy.load(ALEXNET / "expected/input.npy")[:1])
    peak = peak_megabytes("run", compressed, one, "-o", work / "output.npy")
    check(peak < 80, f"alexnet200.qcnn: one run peaks at {peak:.1f} MB (below 80)")

    limit = [] if LONG else ["--limit", "500"]
    result = qcnn_json("eval", compressed, ALEXNET / "val", "--against", model, *limit)
    slack = 0.3 if LONG else 5  # 500 images: two standard deviations are 4.5 points
    check(abs(result["original_top1"] - 49.10) <= slack and abs(result["original_top5"] - 75.50) <= slack,
          f"alexnet200.onnx: top-1 {result['original_top1']:.2f} (49.10), top-5 {result['original_top5']:.2f} (75.50) "
          f"of {result['images']} images, within {slack}")
    check(result["top1"] >= 20, f"alexnet200.qcnn: top-1 {result['top1']:.2f}, top-5 {result['top5']:.2f} "
                                f"of {result['images']} images, agreement {result['agreement']:.1f} %")
    if LONG:
        check_plain_clustering(compressed, 25.2, work)
        finer = work / "alexnet200-finer.qcnn"
        made = compress(ALEXNET, model, finer, "--set", ",".join(f"conv{i}=4/128" for i in range(2, 6)))
        print(f"       {finer.name}: ratio {made['ratio']:.2f}, made in {made['seconds']:.1f} s")
        check_plain_clustering(finer, 43.2, work)


# ---- compressed files beside ONNX Runtime --------------------------------------------------------------------------------

def check_export(python, compressed, image_file, work):
    """`run` of the compressed file, by look-up, and ONNX Runtime on what `export` decodes must agree."""
    exported, output = work / "exported.onnx", work / "output.npy"
    qcnn("export", compressed, "-o", exported)
    expected = onnxruntime_run(python, exported, image_file, work / "reference.npy")
    exported.unlink()
    qcnn("run", compressed, image_file, "-o", output)
    apart = difference(numpy.load(output), expected)
    check(apart <= TOLERANCE, f"{compressed.name}: run differs from ONNX Runtime on its export by {apart:.1e} of the largest output")


def check_exports(work):
    python = find_onnxruntime()
    if python is None:
        return skip("ONNX Runtime absent (scripts/install_packages.sh test installs it from PyPI): nothing compared with it")
    fashion, model = work / "fashion_mnist.qcnn", SOURCE / "models/fashion_mnist"
    qcnn("compress", f"{model}.onnx", "-o", fashion, "--preprocess", f"{model}.preprocess.json", "--classes", f"{model}.classes.txt")
    image = work / "image.npy"
    numpy.save(image, numpy.random.default_rng(1).standard_normal((4, 1, 28, 28), dtype=numpy.float32))
    check_export(python, fashion, image, work)
    if DATA.exists():
        made = compress(SQUEEZENET, SQUEEZENET / "squeezenet.onnx", work / "squeezenet.qcnn")
        print(f"       squeezenet.qcnn: {made['file_bytes']} bytes, ratio {made['ratio']:.2f}, made in {made['seconds']:.1f} s")
        check_export(python, work / "squeezenet.qcnn", SQUEEZENET / "expected/input.npy", work)
        check_export(python, work / "alexnet200.qcnn", ALEXNET / "expected/input.npy", work)


# ---- malformed files -----------------------------------------------------------------------------------------------------

def idx(magic, *dims, data=b""):
    return b"".join(n.to_bytes(4, "big") for n in (magic, *dims)) + data


def settings(**changes):
    good = {"resize_shorter": 8, "interpolation": "bilinear", "crop": 8, "channels": "RGB", "mean": [0, 0, 0], "std": [255] * 3}
    return json.dumps({**good, **changes}).encode()


def malformed_files(folder):
    """What must be refused: (kind, file at fault, its bytes, the command). `good.*` beside them are well-formed."""
    onnx, container = make.colours(), (folder / "good.qcnn").read_bytes()
    picture, array = make.png(8, 8, (255, 0, 0)), make.npy([1, 3, 8, 8], [0] * 192)
    flipped = bytearray(container)
    flipped[len(container) // 2] ^= 1
    compress_it, export_it = ["compress", "{}", "-o", "out.qcnn"], ["export", "{}", "-o", "out.onnx"]
    run_model, run_array = ["run", "{}", "good.npy", "-o", "out.npy"], ["run", "good.qcnn", "{}", "-o", "out.npy"]
    classify_it, evaluate_it, evaluate_set = ["classify", "good.qcnn", "{}"], ["eval", "good.qcnn", "{}"], ["eval", "good.qcnn", "set"]
    with_settings = ["compress", "good.onnx", "-o", "out.qcnn", "--preprocess", "{}"]
    with_classes = ["compress", "good.onnx", "-o", "out.qcnn", "--classes", "{}"]
    text = b"this is not what you think\n" * 9

    for data in (b"", text, onnx[:-40], onnx.replace(b"Gemm", b"Germ"), onnx.replace(b"w2", b"w9", 1)):
        for command in (compress_it, run_model, ["inspect", "{}"]):
            yield "onnx", "bad.onnx", data, command
    for data in (b"", text, container[:-64], container[:64], bytes(flipped), container + b"\0"):
        for command in (export_it, run_model, ["eval", "{}", "set"]):
            yield "qcnn", "bad.qcnn", data, command
    for data in (b"", text, b"layer { name: 'conv1' type: 'Convolution'", b"layer { " * 9999):
        yield "prototxt", "bad.prototxt", data, ["compress", "{},bad.caffemodel", "-o", "out.qcnn"]
    cut_off = [path.read_bytes()[:path.stat().st_size // 2] for path in [SQUEEZENET / "val/0000.jpg"] if path.exists()]
    for data in (b"", text, b"\xff\xd8\xff\xe0" + text, b"\xff\xd8\xff\xd9", *cut_off):
        yield "jpg", "bad.jpg", data, classify_it
    for data in (picture[:-20], picture[:33], picture[:40] + b"\0" + picture[41:], picture.replace(b"\0\0\0\x08", b"\x7f\xff\xff\xff")):
        yield "png", "bad.png", data, classify_it
    for data in (b"", text, array[:-4], array[:20], array.replace(b"<f4", b"<O8"), array.replace(b"(1, 3", b"(9, 3")):
        yield "npy", "bad.npy", data, run_array
    for data in (b"", b"good.png\n", b"good.png\tred\n", b"good.png\t-1\n", b"good.png\t99999999999\n",
                 b"good.png\t0\n\xff\t1\n", b"../good.png\t1\n"):
        yield "labels.tsv", "set/labels.tsv", data, evaluate_set
    image = bytes(64)
    for data in (b"", text, idx(2051, 1, 8, 8, data=image[1:]), idx(2050, 1, 8, 8, data=image), idx(2051, 1 << 31, 8, 8, data=image),
                 idx(2051, 1, 0, 8)):
        yield "idx", "bad-images-idx3-ubyte", data, evaluate_it
    for data in (b"", idx(2049, 2, data=b"\0"), idx(2049, 1), idx(2051, 1, data=b"\0")):
        yield "idx labels", "good-labels-idx1-ubyte", data, ["eval", "good.qcnn", "good-images-idx3-ubyte"]
    for data in (b"", b"red\ngreen\n", b"red\n\xff\xfe\nblue\n", b"red\ngr\0een\nblue\n"):
        yield "classes", "bad.txt", data, with_classes
    for data in (b"", text, b"{", b"[]", settings(crop=1 << 40), settings(crop="8"), settings(mean=[0]), settings(std=[0, 1, 1]),
                 settings(channels="CMY"), settings(interpolation="magic"), settings(resize_shorter=1 << 40), settings(crop=-8)):
        yield "preprocess.json", "bad.json", data, with_settings


def files_of(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def refused(folder, name, data, command):
    """One line on stderr that names the file, nothing on stdout, status 1, no file left: None, or else what happened."""
    (folder / name).write_bytes(data)
    before = files_of(folder)
    done = subprocess.run([QCNN, *(word.replace("{}", name) for word in command)], cwd=folder, capture_output=True, timeout=60)
    after = files_of(folder)
    (folder / name).unlink()
    line = done.stderr.decode(errors="replace")
    named = pathlib.Path(name).name in line or "IDX labels" in line  # labels are found by the name of their images
    one_line = line.startswith("qcnn: ") and line.endswith("\n") and line.count("\n") == 1
    if done.returncode == 1 and done.stdout == b"" and one_line and named and after == before:
        return None
    left = sorted(set(after) - set(before))
    return f"{' '.join(command)} with {data[:32]}: status {done.returncode}, {line.strip() or 'silent'}, left {left}"


def check_malformed(work):
    folder = work / "malformed"
    (folder / "set").mkdir(parents=True)
    for name, data in (("good.onnx", make.colours()), ("good.json", settings()), ("good.npy", make.npy([1, 3, 8, 8], [0] * 192)),
                       ("set/good.png", make.png(8, 8, (255, 0, 0))), ("bad.caffemodel", b"\x0a\x03net"),
                       ("good-images-idx3-ubyte", idx(2051, 1, 8, 8, data=bytes(64)))):
        (folder / name).write_bytes(data)
    qcnn("compress", folder / "good.onnx", "-o", folder / "good.qcnn", "--preprocess", folder / "good.json")
    kinds, slowest = {}, 0.0
    for kind, name, data, command in malformed_files(folder):
        start = time.monotonic()
        kinds.setdefault(kind, []).append(refused(folder, name, data, command))
        slowest = max(slowest, time.monotonic() - start)
    for kind, results in kinds.items():
        wrong = [result for result in results if result]
        check(not wrong, "\n       ".join([f"malformed {kind}: {len(results) - len(wrong)} of {len(results)} refused in one line", *wrong]))
    print(f"       slowest answer to a malformed file: {slowest:.2f} s")


# --------------------------------------------------------------------------------------------------------------------------

def attempt(part, work):
    """A part that breaks off is a failure, and the next one still has its turn."""
    start = time.monotonic()
    try:
        part(work)
    except Exception as error:
        check(False, f"{part.__name__}: {type(error).__name__}: {error}")
    print(f"       {part.__name__}: {time.monotonic() - start:.1f} s", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="qcnn-acceptance-") as name:
        parts = [check_malformed, check_exports]
        if DATA.exists():
            parts = [check_malformed, check_originals, check_alexnet, check_exports]
        else:
            skip(f"{DATA} absent: the networks and photographs there were not judged")
        for part in parts:
            attempt(part, pathlib.Path(name))
    sys.exit(1 if failures else SKIP if skips else 0)


if __name__ == "__main__":
    main()
