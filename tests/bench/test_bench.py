#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark's scripts without its peers: the report from made-up results, and the program that measures the machine's
peaks. Nothing timed decides anything here.
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench")


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(BENCH, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(key, title, ms, **more):
    return {"key": key, "title": title, "median_ms": ms, "p90_ms": 1.1 * ms, "min_ms": 0.9 * ms, "runs": 9, "round_ms": [ms, 1.02 * ms, 0.98 * ms],
            "version": "1.0", "load_ms": 12.0, **more}


def made_up():
    layers = [{"name": "conv1", "type": "conv", "method": "dense", "ms": 0.7}, {"name": "fc6", "type": "fc", "method": "lut", "ms": 0.2}]
    rows = [row("ort-float", "ONNX Runtime float32", 40.0, peak_bytes=4e8, base_bytes=4e7), row("openvino-int8", "OpenVINO int8", 7.5, peak_bytes=2e8, base_bytes=4e7),
            row("qcnn-dense", "qcnn, original dense", 30.0), row("qcnn-paper", "qcnn, <paper> & co", 2.0, layers=layers)]
    peaks = {key: 100.0 for key in ("float32_g", "int8_g", "lookup_g", "lookup_sum_g", "float32_avx2_g", "int8_avx2_g", "lookup_avx2_g", "lookup_sum_avx2_g",
                                    "read_512k_gb", "read_8m_gb", "read_256m_gb")}
    network = {"title": "AlexNet", "real": True, "data": "alexnet200", "files": [{"key": "qcnn-paper", "title": "<paper> & co", "options": "--preset q-cnn", "file_bytes": 11500000,
                                                          "ratio": 20.0, "peak_bytes": [3e7, 3.2e7], "methods": {"conv1": "dense", "fc6": "lut"},
                                                          "layers": {"conv1": {"method": "dense", "lookups": 0, "multiplications": 105000000},
                                                                     "fc6": {"method": "lut", "lookups": 9437184, "multiplications": 294912}}}],
               "tables": [{"threads": t, "batch": 1, "cold_mb": c, "rows": rows} for t, c in ((1, 0), (2, 0), (1, 64))],
               "accuracy": {"qcnn-paper": {"images": 300, "top1": 49.0, "top5": 75.0}}}
    machine = {"cpu": "some", "cores": 2, "memory_gb": 8, "kernel": "6", "load": 0.1, "peaks": {**peaks, "instructions": "AVX2"}}
    return {"date": "2026-11-26", "mode": "quick", "commit": "abc", "machine": machine, "networks": {"alexnet": network}}


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="qcnn-bench-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.results, self.document = (os.path.join(self.folder, name) for name in ("results.json", "speed.md"))
        with open(self.results, "w") as file:
            json.dump(made_up(), file)

    def run_report(self, *more):
        return subprocess.run([sys.executable, os.path.join(BENCH, "report.py"), self.results, "--document", self.document, *more],
                              capture_output=True, text=True)

    def test_document_and_picture(self):
        report = load("report")
        with open(self.document, "w") as file:
            file.write(f"before\n{report.BEGIN}\noutdated\n{report.END}\nafter\n")
        for _ in range(2): # the second run changes nothing
            done = self.run_report()
            self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.document) as file:
            text = file.read()
        self.assertTrue(text.startswith("before\n") and text.endswith("after\n"))
        self.assertNotIn("outdated", text)
        self.assertIn("| AlexNet: <paper> & co | 1.0 | 2.00 (2.20) | 40.00 | 20.00x (20.00 to 20.00) | 10x | 7.50 | 3.75x (3.75 to 3.75) | 3x |", text)
        self.assertIn("Two threads against one (batch 1): AlexNet, <paper> & co: 1.00x.", text)
        self.assertIn("decoded to dense are `conv1`", text)
        picture = xml.etree.ElementTree.parse(os.path.join(self.folder, "speed.svg")).getroot()
        self.assertTrue(picture.tag.endswith("svg"))
        self.assertEqual(sum(element.tag.endswith("rect") for element in picture.iter()), 1 + 3)

    def test_markers_absent(self):
        with open(self.document, "w") as file:
            file.write("no markers\n")
        self.assertNotEqual(self.run_report().returncode, 0)

    def test_scripts_compile(self):
        for name in sorted(os.listdir(BENCH)):
            if name.endswith(".py"):
                with open(os.path.join(BENCH, name)) as file:
                    compile(file.read(), name, "exec")


class Peaks(unittest.TestCase):
    def test_json(self):
        folder = tempfile.mkdtemp(prefix="qcnn-bench-")
        self.addCleanup(shutil.rmtree, folder)
        program = os.path.join(folder, "peaks")
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, os.path.join(BENCH, "peaks.c")], check=True)
        peaks = json.loads(subprocess.run([program], check=True, stdout=subprocess.PIPE).stdout)
        self.assertTrue(all(value > 0 for key, value in peaks.items() if key != "instructions"))


if __name__ == "__main__":
    unittest.main()
