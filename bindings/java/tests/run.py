#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Java class on the host JVM: its own tests on the project's small network, then 200 photographs of alexnet200 whose classes
must equal those of `qcnn classify`. Without a JDK it skips (77); without ../shared/data the photographs are left out, loudly.

    run.py BUILD_FOLDER
"""
import glob
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../../.."))
BUILD = os.path.abspath(sys.argv[1])
WORK = os.path.join(BUILD, "java")
QCNN = os.path.join(BUILD, "qcnn")
DATA = os.path.join(ROOT, "../shared/data/alexnet200")
N_PHOTOS = 200


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def compress_small():
    """The project's Fashion-MNIST network at its settings."""
    model = os.path.join(ROOT, "models/fashion_mnist")
    small = os.path.join(WORK, "fashion_mnist.qcnn")
    with open(model + ".settings") as settings:
        run(QCNN, "compress", model + ".onnx", "-o", small, "--preprocess", model + ".preprocess.json", "--classes", model + ".classes.txt",
            "--set", settings.read().strip(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return small


def compile_java():
    classes = os.path.join(WORK, "classes")
    os.makedirs(classes, exist_ok=True)
    library = glob.glob(os.path.join(HERE, "../src/org/qcnn/engine/*.java"))
    run("javac", "--release", "8", "-Xlint:all,-options", "-Werror", "-d", classes, *library)
    run("javac", "-Xlint:all,-options", "-cp", classes, "-d", classes, *glob.glob(os.path.join(HERE, "*.java")))
    return classes


def java(classes, name, *arguments, **options):
    return run("java", "-Xcheck:jni", "-Djava.library.path=" + BUILD, "-cp", classes, name, *arguments, **options)


def alexnet200():
    """The bundled model, or one compressed here once."""
    bundled = os.path.join(ROOT, "models/alexnet200.qcnn")
    if os.path.exists(bundled):
        return bundled
    made = os.path.join(WORK, "alexnet200.qcnn")
    if not os.path.exists(made):
        run(QCNN, "compress", os.path.join(DATA, "alexnet200.onnx"), "-o", made, "--preset", "q-cnn", "--preprocess",
            os.path.join(DATA, "preprocess.json"), "--classes", os.path.join(DATA, "classes.txt"), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
    return made


def compare_photos(classes):
    model = alexnet200()
    photos = sorted(glob.glob(os.path.join(DATA, "val", "*.jpg")))
    photos = photos[:: len(photos) // N_PHOTOS][:N_PHOTOS]
    expected = json.loads(run(QCNN, "classify", model, *photos, "--json", capture_output=True).stdout)["images"]
    decoder = subprocess.Popen([os.path.join(BUILD, "decode_photos"), *photos], stdout=subprocess.PIPE)
    lines = java(classes, "Classify", model, stdin=decoder.stdout, capture_output=True, text=True).stdout.splitlines()
    assert decoder.wait() == 0
    # -Xcheck:jni may print remarks about the JVM's own libraries first
    rows = [line.split() for line in lines if len(line.split()) == 10]
    assert len(rows) == len(expected) == N_PHOTOS, (len(rows), len(expected))
    worst = 0.0
    for row, image in zip(rows, expected):
        found = [(int(row[i]), float(row[i + 1])) for i in range(0, 10, 2)]
        wanted = [(top["class"], top["probability"]) for top in image["top"]]
        assert [c for c, _ in found] == [c for c, _ in wanted], (image["file"], found, wanted)
        worst = max([worst] + [abs(a[1] - b[1]) for a, b in zip(found, wanted)])
    assert worst < 1e-6, worst
    print(f"{N_PHOTOS} photographs: the five classes of each equal those of the command, probabilities to {worst:.1e}")


def main():
    if not shutil.which("javac") or not os.path.exists(os.path.join(BUILD, "libqcnn_java.so")):
        print("SKIPPED: no JDK, or libqcnn_java.so was not built for want of one (scripts/install_packages.sh android)")
        return 77
    os.makedirs(WORK, exist_ok=True)
    classes = compile_java()
    java(classes, "NetworkTest", compress_small(), os.path.join(ROOT, "tests/golden/every_op.qcnn"))
    if os.path.isdir(os.path.join(DATA, "val")):
        compare_photos(classes)
    else:
        print("SKIPPED: 200 photographs, because ../shared/data is not there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
