#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Networks exported by PyTorch (scripts/make_torch_models.py), run by `qcnn run` and by ONNX Runtime: outputs must agree
within 1e-3 of the largest, for the original and for what `qcnn export` makes of it. Skips loudly where PyTorch or ONNX
Runtime are absent.

    QCNN=build/qcnn torch_models.py WORK_FOLDER
"""
import os
import pathlib
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SKIP = 77
TOLERANCE = 1e-3


def python_with(*modules):
    """A Python that has the modules: this one, the project's virtual environment, or Debian's."""
    for python in (sys.executable, SOURCE / "build/venv/bin/python", "/usr/bin/python3"):
        command = [str(python), "-c", "import " + ", ".join(modules)]
        if pathlib.Path(python).exists() and subprocess.run(command, capture_output=True).returncode == 0:
            return str(python)
    return None


def reexecute_with_onnxruntime():
    try:
        import numpy, onnxruntime  # noqa: F401
    except ImportError:
        python = python_with("numpy", "onnxruntime")
        if python is None or "QCNN_TORCH_MODELS" in os.environ:
            print("SKIPPED: ONNX Runtime is absent (scripts/install_packages.sh test installs it from PyPI)")
            sys.exit(SKIP)
        os.execve(python, [python, *sys.argv], {**os.environ, "QCNN_TORCH_MODELS": "1"})


def make_models(folder):
    """Exports the networks unless an earlier run of the same script has."""
    script, made = SOURCE / "scripts/make_torch_models.py", folder / "made"
    if made.exists() and made.read_bytes() == script.read_bytes():
        return
    python = python_with("torch")
    if python is None:
        print("SKIPPED: PyTorch is absent (Debian package python3-torch)")
        sys.exit(SKIP)
    subprocess.run([python, script, folder], check=True)
    made.write_bytes(script.read_bytes())


def difference(qcnn, model, image_file, expected):
    """Largest difference of `qcnn run` relative to the largest output."""
    import numpy
    output = image_file.with_name("output.npy")
    subprocess.run([qcnn, "run", model, image_file, "-o", output], check=True)
    return float(abs(numpy.load(output) - expected).max() / abs(expected).max())


def check(qcnn, model, folder):
    import numpy
    import onnxruntime
    image = numpy.random.default_rng(1).standard_normal((2, 3, 224, 224), dtype=numpy.float32)
    numpy.save(folder / "image.npy", image)
    expected = onnxruntime.InferenceSession(model).run(None, {"image": image})[0]
    exported = folder / "exported.onnx"
    subprocess.run([qcnn, "export", model, "-o", exported], check=True, stderr=subprocess.DEVNULL)
    again = onnxruntime.InferenceSession(exported).run(None, {"image": image})[0]
    here = difference(qcnn, model, folder / "image.npy", expected)
    there = float(abs(again - expected).max() / abs(expected).max())
    print(f"{model.name}: relative difference {here:.1e}, of the exported model {there:.1e}")
    return here <= TOLERANCE and there <= TOLERANCE


def main():
    reexecute_with_onnxruntime()
    folder = pathlib.Path(sys.argv[1])
    make_models(folder)
    results = [check(os.environ["QCNN"], model, folder) for model in sorted(folder.glob("*.onnx")) if model.name != "exported.onnx"]
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
