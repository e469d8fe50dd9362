#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The qcnn command from outside: outputs, error lines, exit statuses. QCNN in the environment names the program."""

import html.parser
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_model as make

QCNN = os.path.abspath(os.environ.get("QCNN", "build/qcnn"))
PREPROCESS = {"resize_shorter": 8, "interpolation": "bilinear", "crop": 8, "channels": "RGB", "mean": [0, 0, 0], "std": [255, 255, 255]}
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


class CommandTest(unittest.TestCase):
    """Each test has a folder of its own, with both models and the image settings in it."""

    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="qcnn-cli-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.write("colours.onnx", make.colours())
        self.write("small.onnx", make.small_net())
        self.write("preprocess.json", json.dumps(PREPROCESS).encode())
        self.write("classes.txt", b"red\ngreen\nblue\n")
        for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
            self.write(name + ".png", make.png(8, 8, colour))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(data)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def run_qcnn(self, *arguments, status=0):
        done = subprocess.run([QCNN, *arguments], cwd=self.folder, capture_output=True, timeout=120,
                              env={**os.environ, "LC_ALL": "C.UTF-8"})
        self.assertEqual(done.returncode, status, f"qcnn {arguments}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(), done.stderr.decode()

    def json_of(self, *arguments, status=0):
        return json.loads(self.run_qcnn(arguments[0], "--json", *arguments[1:], status=status)[0])

    def refused(self, *arguments, status=1):
        """The one line on stderr, with nothing on stdout."""
        out, err = self.run_qcnn(*arguments, status=status)
        self.assertEqual(out, "")
        self.assertEqual(err.count("\n"), 1, err)
        self.assertTrue(err.startswith("qcnn"), err)
        return err.rstrip("\n")

    def compress(self, model="colours.onnx", output="net.qcnn", *more):
        classes = ["--classes", "classes.txt"] if model == "colours.onnx" else []
        return self.json_of("compress", model, "-o", output, "--preprocess", "preprocess.json", *classes, *more)

    def dataset(self, wrong=True):
        rows = [("red", 0), ("green", 1), ("blue", 2), ("blue", 1 if wrong else 2)]
        for i, (colour, _) in enumerate(rows):
            self.write(f"set/{i} {colour}.png", self.read(colour + ".png"))
        self.write("set/labels.tsv", "".join(f"{i} {colour}.png\t{label}\n" for i, (colour, label) in enumerate(rows)).encode())


class Usage(CommandTest):
    def test_version_and_help(self):
        self.assertEqual(self.run_qcnn("--version"), ("qcnn 0.1.0\n", ""))
        out, _ = self.run_qcnn("--help")
        for command in ("compress", "eval", "classify", "run", "bench", "inspect", "export"):
            self.assertIn(f"\n  {command} ", out)
            text, err = self.run_qcnn(command, "--help")
            self.assertEqual(err, "")
            self.assertTrue(text.startswith(f"Usage: qcnn {command} [OPTION...] "), text)
            self.assertIn(f"\nExamples:\n  qcnn {command} ", text)
            self.assertEqual(self.run_qcnn("help", command)[0], text)
            self.assertLess(max(map(len, text.splitlines())), 141)

    def test_usage_errors(self):
        limit = "is not a whole number from 0 to 1073741824"
        cases = [  # the arguments, who complains, about what
            ([], "qcnn", "it needs a subcommand"),
            (["evil"], "qcnn", "unknown subcommand 'evil', did you mean 'eval'?"),
            (["frobnicate"], "qcnn", "unknown subcommand 'frobnicate'"),
            (["eval", "a", "b", "--limt", "3"], "qcnn eval", "unknown option '--limt', did you mean '--limit'?"),
            (["eval", "a", "b", "--limit", "3x"], "qcnn eval", f"--limit: '3x' {limit}"),
            (["eval", "a", "b", "--limit", "-3"], "qcnn eval", f"--limit: '-3' {limit}"),
            (["eval", "a", "b", "--limit="], "qcnn eval", f"--limit: '' {limit}"),
            (["eval", "a", "b", "--limit", "99999999999999999999"], "qcnn eval", f"--limit: '99999999999999999999' {limit}"),
            (["eval", "a", "b", "--limit"], "qcnn eval", "--limit needs a value, N"),
            (["eval", "a", "b", "--json=1"], "qcnn eval", "--json takes no value"),
            (["eval", "a"], "qcnn eval", "it needs MODEL DATASET"),
            (["inspect", "a", "b"], "qcnn inspect", "it takes MODEL, 'b' is one too many"),
            (["inspect", "-x"], "qcnn inspect", "unknown option '-x'"),
            (["bench", "a", "--batch", "0"], "qcnn bench", "--batch: '0' is not a whole number from 1 to 65536"),
            (["bench", "a", "--seed", "18446744073709551616"], "qcnn bench",
             "--seed: '18446744073709551616' is not a whole number below 2^64"),
            (["compress", "a"], "qcnn compress", "it needs -o OUT.qcnn"),
            (["compress", "a", "-o", "b", "--preset", "best"], "qcnn compress", "--preset: 'best' is none of: q-cnn"),
            (["compress", "a", "-o", "b", "--preset", "q-cnn", "--ratio", "9"], "qcnn compress",
             "--preset, --ratio and --max-drop exclude each other"),
            (["compress", "a", "-o", "b", "--correction", "layer"], "qcnn compress", "--correction layer needs --calib DATASET"),
            (["calibrate", "a", "-o", "b"], "qcnn calibrate", "it needs --calib DATASET"),
            (["calibrate", "a", "--calib", "b"], "qcnn calibrate", "it needs -o OUT.qcnn"),
            (["compress", "a", "-o", "b", "--refine"], "qcnn compress", "--refine needs --calib DATASET"),
            (["compress", "a", "-o", "b", "--ratio", "20"], "qcnn compress", "--ratio needs --calib DATASET"),
            (["compress", "a", "-o", "b", "--max-drop", "0.5"], "qcnn compress", "--max-drop needs --calib DATASET"),
            (["compress", "a", "-o", "b", "--max-drop", "0"], "qcnn compress",
             "--max-drop: a file that loses nothing is the original; give some points"),
            (["compress", "a\nb", "-o"], "qcnn compress", "--output needs a value, OUT.qcnn"),
        ]
        for arguments, who, what in cases:
            with self.subTest(arguments):
                self.assertEqual(self.refused(*arguments, status=2), f"{who}: {what}; '{who} --help' explains")

    def test_full_disk_on_stdout(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("SKIPPED: /dev/full absent")
        with open("/dev/full", "w") as full:
            done = subprocess.run([QCNN, "--help"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"qcnn: standard output could not be written: No space left on device\n")


class Compress(CommandTest):
    def test_json(self):
        result = self.compress("small.onnx", "net.qcnn", "--set", "conv1=3/32,fc1=4/16,fc2=dense", "--threads", "1")
        self.assertEqual(result["file_bytes"], os.path.getsize(self.path("net.qcnn")))
        self.assertEqual(result["original_bytes"], 4 * (216 + 8 + 1152 + 16 + 32 * 256 + 32 + 160 + 5))
        self.assertAlmostEqual(result["ratio"], result["original_bytes"] / result["file_bytes"], places=12)
        self.assertGreater(result["seconds"], 0)
        self.assertGreater(result["peak_rss_bytes"], 1e6)
        layers = {layer["name"]: layer for layer in result["layers"]}
        self.assertEqual(list(layers), ["conv1", "conv2", "fc1", "fc2"])
        self.assertEqual([layer["type"] for layer in layers.values()], ["conv", "conv", "fc", "fc"])
        self.assertEqual([layer["storage"] for layer in layers.values()], ["codebook", "codebook", "codebook", "float32"])
        self.assertEqual([(layer["subspace"], layer["codewords"]) for layer in layers.values()], [(3, 32), (8, 128), (4, 16), (0, 0)])
        self.assertEqual([layer["operations"]["dense"] for layer in layers.values()], [216 * 64, 1152 * 16, 32 * 256, 160])
        for layer in layers.values():
            lut = layer["method"] == "lut"
            self.assertTrue(lut or layer["method"] == "dense")
            self.assertEqual(lut, layer["operations"]["lookups"] > 0)
            self.assertLess(layer["cost"]["lut" if lut else "dense"], layer["cost"].get("dense" if lut else "lut", math.inf))
        self.assertLessEqual(sum(layer["bytes"] for layer in layers.values()), result["file_bytes"])
        inspected = self.json_of("inspect", "net.qcnn")
        self.assertEqual(inspected["layers"], result["layers"])
        self.assertEqual(inspected["operations"], result["operations"])
        self.assertEqual(inspected["memory_bytes"], sum(layer["memory_bytes"] for layer in inspected["layers"]))

    def test_memory(self):
        """Assignments of a byte each and codewords where tables run, decoded floats elsewhere, biases; fewer bytes in integers."""
        self.compress("small.onnx", "net.qcnn", "--set", "conv1=3/32,fc1=4/16,fc2=dense", "--threads", "1")
        by_tables = {"conv1": 72 + 4 * 32 * 3, "conv2": 16 * 9 + 4 * 128 * 8, "fc1": 64 * 32 + 4 * 256 * 16}
        dense = {"conv1": 4 * 216, "conv2": 4 * 1152, "fc1": 4 * 32 * 256, "fc2": 4 * 160}
        biases = {"conv1": 32, "conv2": 64, "fc1": 128, "fc2": 20}
        exact = self.json_of("inspect", "net.qcnn", "--exact")
        for layer in exact["layers"]:
            weights = by_tables if layer["method"] == "lut" else dense
            self.assertEqual(layer["memory_bytes"], weights[layer["name"]] + biases[layer["name"]])
        self.assertEqual({layer["method"] for layer in exact["layers"]}, {"lut", "dense"})
        self.assertLess(self.json_of("inspect", "net.qcnn")["memory_bytes"], exact["memory_bytes"])

    def test_table_is_an_exact_budget(self):
        out, err = self.run_qcnn("compress", "small.onnx", "-o", "net.qcnn", "--threads", "1")
        self.assertEqual(err, "")
        rows = [line.split() for line in out.splitlines() if line.strip()]
        self.assertEqual([row[0] for row in rows][:5], ["layer", "conv1", "conv2", "fc1", "fc2"])
        sizes = [int(row[5].replace(",", "")) for row in rows[1:5]]
        rest, total = (int(row[-1].replace(",", "")) if row[0] == "graph," else int(row[1].replace(",", "")) for row in rows[5:7])
        self.assertEqual(sum(sizes) + rest, total)
        self.assertEqual(total, os.path.getsize(self.path("net.qcnn")))

    def test_one_seed_one_file(self):
        for output, *more in (("a", "--threads", "1"), ("b", "--threads", "2"), ("c", "--threads", "1", "--seed", "7")):
            self.run_qcnn("compress", "small.onnx", "-o", output, *more)
        self.assertEqual(self.read("a"), self.read("b"))
        self.assertNotEqual(self.read("a"), self.read("c"))

    def test_nothing_is_lost_by_a_bad_request(self):
        self.write("net.qcnn", b"precious")
        self.write("broken.onnx", self.read("small.onnx")[:1000])
        for arguments in (["broken.onnx"], ["absent.onnx"], ["small.onnx", "--set", "nosuchlayer=4/32"],
                          ["small.onnx", "--set", "fc1=0/32"],
                          ["small.onnx", "--classes", "absent.txt"], ["small.onnx", "--preprocess", "classes.txt"],
                          ["small.onnx", "--calib", "absent"], ["small.onnx", "--report", "no/such/folder.html"],
                          ["small.onnx", "--report", "net.qcnn"]):
            with self.subTest(arguments):
                self.refused("compress", *arguments, "-o", "net.qcnn")
                self.assertEqual(self.read("net.qcnn"), b"precious")
        self.assertIn("nosuchlayer", self.refused("compress", "small.onnx", "-o", "net.qcnn", "--set", "nosuchlayer=4/32"))
        before = self.read("small.onnx")
        self.assertEqual(self.refused("compress", "small.onnx", "-o", "./small.onnx"),
                         "qcnn: ./small.onnx: it is the model to be read; name another file to write")
        self.assertEqual(self.read("small.onnx"), before)
        self.assertEqual(self.refused("compress", "small.onnx", "-o", "no/such/net.qcnn"),
                         "qcnn: no/such/net.qcnn: nothing can be written to its folder: No such file or directory")

    def test_a_killed_correction_goes_on(self):
        """Killed at ever later instants, the last run left alone: the bytes of a run that was never stopped, no checkpoint left."""
        self.dataset()
        command = [QCNN, "compress", "small.onnx", "--preprocess", "preprocess.json", "--calib", "set", "--json", "--set",
                   "conv1=3/16,conv2=4/32,fc1=4/16,fc2=4/8", "-o"]
        whole = subprocess.run(command + ["whole.qcnn"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(whole.returncode, 0, whole.stderr)
        self.assertTrue(any(layer.get("error") is not None for layer in json.loads(whole.stdout)["layers"]))
        for n in range(8):
            work = subprocess.Popen(command + ["killed.qcnn"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(0.1 * n)
            work.kill()
            work.communicate()
        done = subprocess.run(command + ["killed.qcnn"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.read("killed.qcnn"), self.read("whole.qcnn"))
        if b"earlier run left it" in done.stderr and b"damaged" not in done.stderr:
            self.assertRegex(done.stderr.decode(), r"qcnn: resuming: (\w+, )*\w+ (is|are) done\n")
        self.assertEqual([name for name in os.listdir(self.folder) if "checkpoint" in name and not name.endswith(".tmp")], [])

    def test_signals_leave_nothing(self):
        self.write("slow.onnx", make.slow_net())
        before = sorted(os.listdir(self.folder))
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            work = subprocess.Popen([QCNN, "compress", "slow.onnx", "-o", "net.qcnn", "--set", "fc=2/256", "--threads", "1"],
                                    cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(0.5)
            work.send_signal(number)
            out, err = work.communicate(timeout=60)
            self.assertEqual((work.returncode, out), (status, b""), err)
            self.assertEqual(err, b"qcnn: net.qcnn: stopped by a signal; nothing was written\n")
            self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_hostile_names(self):
        name = "a <b>&\"'\n\x1b[31m.onnx"
        self.write(name, make.colours("<script>alert('conv')</script>\x1b\n"))
        out, _ = self.run_qcnn("compress", name, "-o", "out put.qcnn", "--report", "-")
        self.assertNotIn("\x1b", out)
        self.assertNotIn("\x1b", self.run_qcnn("inspect", "./out put.qcnn")[0])
        self.json_of("inspect", "--", "out put.qcnn")
        report = self.read("-").decode()
        self.assertNotIn("<script", report)
        self.assertNotIn("\x1b", report)
        self.assertIn("&lt;b&gt;&amp;&quot;&#39;??[31m.onnx", report)

    def test_report_is_self_contained(self):
        self.compress("small.onnx", "net.qcnn", "--report", "net.html")
        report = self.read("net.html").decode()
        problems = []

        class Checker(html.parser.HTMLParser):
            def handle_starttag(self, tag, attributes):
                if tag in ("script", "link", "img", "iframe", "object") or any(k in ("href", "src", "xlink:href") for k, _ in attributes):
                    problems.append(tag)

        Checker().feed(report)
        self.assertEqual(problems, [])
        for text in ("conv1", "fc2", "prefers-color-scheme:dark", "<svg", "net.qcnn", "small.onnx"):
            self.assertIn(text, report)
        for word in ("http:", "https:", "url(", "@import", "nan", "inf<"):
            self.assertNotIn(word, report)
        self.assertIn("Time of each layer", report)
        self.assertIn("measured with error correction or refinement", report)
        self.assertNotIn("Which layer costs the accuracy", report)

    def test_findings(self):
        """What is lost, how fast it is, which layer costs it: the same in the terminal, in JSON and in the report."""
        self.dataset()
        settings = "conv1=3/16,conv2=8/2/int8,fc1=dense/int8,fc2=dense"
        result = self.compress("small.onnx", "net.qcnn", "--calib", "set", "--report", "net.html", "--set", settings)
        estimate = result["estimate"]
        self.assertEqual((estimate["images"], estimate["held_out"]), (4, False))
        low, high = estimate["lost_top1_interval"]
        self.assertTrue(low <= estimate["lost_top1"] <= high)
        self.assertGreater(estimate["divergence"], 0)
        speed = result["speed"]
        self.assertEqual([layer["name"] for layer in speed["layers"]], ["conv1", "conv2", "fc1", "fc2"])
        self.assertAlmostEqual(speed["times_faster"], speed["original_ms"] / speed["ms"], places=9)
        diagnosis = result["diagnosis"]
        costs = [layer["cost"] for layer in diagnosis["layers"]]
        self.assertEqual(costs, sorted(costs, reverse=True))
        for layer in diagnosis["layers"]:
            self.assertAlmostEqual(layer["cost"], diagnosis["divergence"] - layer["others_divergence"], places=12)
        self.assertEqual({layer["name"] for layer in diagnosis["layers"]}, {"conv1", "conv2", "fc1"})
        self.assertTrue(diagnosis["verdict"].startswith("conv2 costs most: "), diagnosis)
        self.assertIn("--set conv2=4/2/int8 gives it finer settings, --set conv2=dense leaves it alone", diagnosis["verdict"])
        self.assertGreater(result["layers"][1]["error_before"], 0)
        report = self.read("net.html").decode()
        for text in ("%.4f \u2192 %.4f" % (result["layers"][1]["error_before"], result["layers"][1]["error"]), diagnosis["verdict"], "rounded to int8, not measured", "measured here, one thread, " + result["kernels"]):
            self.assertIn(text, report)
        out, err = self.run_qcnn("compress", "small.onnx", "-o", "net.qcnn", "--calib", "set", "--preprocess", "preprocess.json", "--set", settings)
        self.assertEqual(err, "")
        self.assertRegex(out, r"\n  expected to lose -?\d+\.\d\d points of top-1 \(95 % interval .*\), by 4 calibration images that were fitted to")
        self.assertNotIn("estimate", self.compress())

    def test_what_was_asked_for(self):
        self.dataset()
        command = ["compress", "small.onnx", "-o", "net.qcnn", "--calib", "set", "--preprocess", "preprocess.json", "--threads", "1"]
        self.assertEqual(self.json_of(*command, "--ratio", "6")["ratio_asked"], 6)
        self.assertRegex(self.run_qcnn(*command, "--ratio", "6")[0], r"\n  asked for 6x smaller, reached [56]\.\d\dx\n")
        out, err = self.run_qcnn("compress", *command[1:], "--json", "--max-drop", "2")
        result = json.loads(out)
        self.assertEqual(result["max_drop"], 2)
        upper = result["estimate"]["lost_top1_interval"][1]
        self.assertEqual(upper > 2, f"the loss may be up to {upper:.2f} points, not 2" in err, err)

    def test_refinement_says_what_it_gained(self):
        for i in range(20):
            self.write(f"many/{i:02}.png", make.png(8, 8, (i * 37 % 256, i * 91 % 256, i * 53 % 256)))
        command = ["compress", "small.onnx", "-o", "net.qcnn", "--calib", "many", "--preprocess", "preprocess.json", "--threads", "1"]
        _, err = self.run_qcnn(*command, "--refine", "0.0003", "--report", "net.html")
        self.assertRegex(err, r"qcnn: refinement: divergence on held-out images [0-9.e-]+ -> [0-9.e-]+")
        self.assertNotIn("Not known", self.read("net.html").decode())

    def test_a_bad_image_is_named(self):
        self.dataset()
        self.write("set/0 red.png", b"\x89PNG\r\n\x1a\nnonsense")
        line = self.refused("compress", "small.onnx", "-o", "net.qcnn", "--calib", "set", "--preprocess", "preprocess.json")
        self.assertTrue(line.startswith("qcnn: set/0 red.png: "), line)


class Calibrate(CommandTest):
    def test_afterwards_as_with_images(self):
        self.dataset()
        self.compress("small.onnx", "plain.qcnn")
        self.compress("small.onnx", "with.qcnn", "--calib", "set", "--correction", "none")
        before = self.read("plain.qcnn")
        for threads in ("1", "2"):
            result = self.json_of("calibrate", "plain.qcnn", "--calib", "set", "-o", "after.qcnn", "--threads", threads)
            self.assertEqual(self.read("after.qcnn"), self.read("with.qcnn"))
            self.assertTrue(result["calibrated"])
            self.assertEqual((result["file_bytes"], result["threads"]), (os.path.getsize(self.path("after.qcnn")), int(threads)))
        self.assertEqual(self.read("plain.qcnn"), before)
        self.assertFalse(self.json_of("inspect", "plain.qcnn")["calibrated"])
        self.assertTrue(self.json_of("inspect", "after.qcnn")["calibrated"])
        self.assertIn("ranges         calibrated\n", self.run_qcnn("inspect", "after.qcnn")[0])
        out, err = self.run_qcnn("calibrate", "after.qcnn", "--calib", "set", "-o", "again.qcnn", "--threads", "1")
        self.assertEqual(self.read("again.qcnn"), self.read("after.qcnn"))
        self.assertEqual(err, "")
        self.assertRegex(out, r"^again.qcnn: ranges of activations from 256 images; [0-9,]+ bytes, in [0-9.]+ s on 1 thread\n$")
        self.json_of("eval", "after.qcnn", "set")

    def test_refusals(self):
        self.dataset()
        self.compress("small.onnx", "net.qcnn")
        self.run_qcnn("compress", "small.onnx", "-o", "bare.qcnn")
        self.write("out.qcnn", b"precious")
        self.write("notes/readme.txt", b"no image")
        for arguments, expected in ((["absent.qcnn", "--calib", "set"], "absent.qcnn"), (["net.qcnn", "--calib", "absent"], "absent"),
                                    (["net.qcnn", "--calib", "notes"], "notes"),
                                    (["small.onnx", "--calib", "set", "--preprocess", "preprocess.json"], "small.onnx: the model is not compressed"),
                                    (["bare.qcnn", "--calib", "set"], "give --preprocess FILE.json")):
            with self.subTest(arguments):
                self.assertIn(expected, self.refused("calibrate", *arguments, "-o", "out.qcnn"))
                self.assertEqual(self.read("out.qcnn"), b"precious")
        self.assertIn("it is the model to be read", self.refused("calibrate", "net.qcnn", "--calib", "set", "-o", "net.qcnn"))
        self.json_of("calibrate", "bare.qcnn", "--calib", "set", "-o", "out.qcnn", "--preprocess", "preprocess.json")


class Classify(CommandTest):
    def probability(self):
        return math.exp(4) / (math.exp(4) + 2)

    def test_json(self):
        self.compress()
        result = self.json_of("classify", "net.qcnn", "green.png", "blue.png", "--top", "2")
        self.assertEqual([image["file"] for image in result["images"]], ["green.png", "blue.png"])
        first = result["images"][0]
        self.assertGreaterEqual(first["milliseconds"], 0)
        self.assertEqual([(entry["class"], entry["label"]) for entry in first["top"]], [(1, "green"), (0, "red")])
        self.assertAlmostEqual(first["top"][0]["probability"], self.probability(), places=6)
        self.assertEqual(result["images"][1]["top"][0]["label"], "blue")

    def test_table(self):
        out, _ = self.run_qcnn("classify", "colours.onnx", "red.png", "--preprocess", "preprocess.json", "--classes", "classes.txt")
        lines = out.splitlines()
        self.assertRegex(lines[0], r"^red\.png \(\d+\.\d ms\)$")
        self.assertEqual(lines[1:], [
            "  class  label  probability",
            "      0  red        96.47 %  ███████████████████▎",
            "      1  green       1.77 %  ▎",
            "      2  blue        1.77 %  ▎",
        ])

    def test_a_bad_image_does_not_hide_the_others(self):
        self.compress()
        self.write("bad.png", b"\x89PNG\r\n\x1a\nnonsense")
        out, err = self.run_qcnn("classify", "net.qcnn", "bad.png", "red.png", "absent.jpg", status=1)
        self.assertEqual(err.count("\n"), 2)
        self.assertIn("bad.png", err)
        self.assertIn("absent.jpg", err)
        self.assertIn("red.png (", out)
        self.assertEqual(self.refused("classify", "net.qcnn", "."),
                         "qcnn: .: it is a folder; name the images in it, or judge all of them by 'qcnn eval'")
        result = self.json_of("classify", "net.qcnn", "bad.png", "red.png", status=1)
        self.assertEqual([image["file"] for image in result["images"]], ["red.png"])

    def test_names_that_look_like_options(self):
        self.compress()
        for name in ("--top", "-", "new\nline.png"):
            self.write(name, self.read("blue.png"))
        result = self.json_of("classify", "--top=1", "net.qcnn", "--", "--top", "-", "new\nline.png")
        self.assertEqual([(image["file"], image["top"][0]["class"]) for image in result["images"]],
                         [("--top", 2), ("-", 2), ("new\nline.png", 2)])

    def test_without_preprocessing(self):
        self.assertEqual(self.refused("classify", "colours.onnx", "red.png"),
                         "qcnn: colours.onnx: it does not say how images become tensors; give --preprocess FILE.json")


class Eval(CommandTest):
    def test_json(self):
        self.dataset()
        self.compress()
        result = self.json_of("eval", "net.qcnn", "set", "--against", "colours.onnx", "--threads", "1")
        self.assertEqual((result["images"], result["top1"], result["top5"]), (4, 75, 100))
        self.assertEqual((result["original_top1"], result["original_top5"], result["agreement"]), (75, 100, 100))
        self.assertEqual((result["lost_top1"], result["lost_top1_interval"]), (0, [0, 0]))
        self.assertAlmostEqual(result["divergence"], 0, places=9)

    def test_paired_interval(self):
        """A net whose classes are turned round loses all: b = 3, c = 1 of 4 images."""
        self.dataset()
        swapped = make.colours().replace(make.tensor("w2", [3, 3], [4, 0, 0, 0, 4, 0, 0, 0, 4]),
                                         make.tensor("w2", [3, 3], [0, 4, 0, 0, 0, 4, 4, 0, 0]))
        self.write("swapped.onnx", swapped)
        result = self.json_of("eval", "swapped.onnx", "set", "--against", "colours.onnx", "--preprocess", "preprocess.json")
        self.assertEqual((result["top1"], result["original_top1"], result["agreement"], result["lost_top1"]), (25, 75, 0, 50))
        reach = 100 * 1.96 * math.sqrt(4 - 4 / 4) / 4
        self.assertAlmostEqual(result["lost_top1_interval"][0], 50 - reach, places=9)
        self.assertAlmostEqual(result["lost_top1_interval"][1], 50 + reach, places=9)
        p, q = math.exp(4) / (math.exp(4) + 2), 1 / (math.exp(4) + 2)
        self.assertAlmostEqual(result["divergence"], (p - q) * math.log(p / q), places=5)

    def test_text_and_limit(self):
        self.dataset()
        self.compress()
        out, err = self.run_qcnn("eval", "net.qcnn", "set", "--limit", "2", "--threads", "2")
        self.assertEqual(err, "")
        self.assertTrue(out.startswith("2 images of set, 2 threads\n\n"), out)
        self.assertRegex(out, r"\n  net\.qcnn  100\.00 %  100\.00 % +\d+\.\d\d\n$")

    def test_no_labels(self):
        self.dataset()
        os.remove(self.path("set/labels.tsv"))
        self.compress()
        self.assertEqual(self.refused("eval", "net.qcnn", "set"),
                         "qcnn: set: none of its images has a label; add labels.tsv, or compare with --against ORIGINAL")
        result = self.json_of("eval", "net.qcnn", "set", "--against", "colours.onnx")
        self.assertEqual((result["top1"], result["agreement"]), (None, 100))

    def test_scores_of_the_original_in_a_file(self):
        self.dataset()
        self.compress()
        self.json_of("eval", "colours.onnx", "set", "--preprocess", "preprocess.json", "--scores", "original.npy")
        live = self.json_of("eval", "net.qcnn", "set", "--against", "colours.onnx")
        stored = self.json_of("eval", "net.qcnn", "set", "--against", "original.npy")
        for key in ("agreement", "divergence", "lost_top1", "lost_top5", "original_top1"):
            self.assertEqual(stored[key], live[key], key)
        self.assertEqual(self.refused("eval", "net.qcnn", "set", "--against", "original.npy", "--limit", "2"),
                         "qcnn: original.npy: it does not hold scores of 2 images and 3 classes")

    def test_another_network_is_no_original(self):
        self.dataset()
        self.compress()
        self.assertEqual(self.refused("eval", "net.qcnn", "set", "--against", "small.onnx"),
                         "qcnn: small.onnx: it tells 5 classes apart, net.qcnn 3; name the model that it was made from")


class Run(CommandTest):
    def test_arrays(self):
        pixels = [i / 64 for i in range(64)] * 2 + [0.5] * 64
        self.write("in.npy", make.npy([2, 3, 8, 8], pixels * 2))
        for arguments in (["colours.onnx", "in.npy", "-o", "out.npy"], ["-o", "out.npy", "colours.onnx", "in.npy"],
                          ["-oout.npy", "--threads", "2", "colours.onnx", "in.npy"], ["colours.onnx", "in.npy", "--output=out.npy"]):
            self.assertEqual(self.run_qcnn("run", *arguments), ("", ""))
            header, values = make.read_npy(self.read("out.npy"))
            self.assertIn("(2, 3)", header)
            for value, expected in zip(values, [4 * 31.5 / 64, 4 * 31.5 / 64, 2] * 2, strict=True):
                self.assertAlmostEqual(value, expected, places=5)
            os.remove(self.path("out.npy"))

    def test_mismatches(self):
        self.write("in.npy", make.npy([1, 3, 8, 9], [0] * 216))
        self.write("good.npy", make.npy([1, 3, 8, 8], [0] * 192))
        self.assertEqual(self.refused("run", "colours.onnx", "in.npy", "-o", "out.npy"),
                         "qcnn: in.npy: its shape is 1x3x8x9; colours.onnx expects x 1x3x8x8 (any batch)")
        self.assertEqual(self.refused("run", "colours.onnx", "good.npy", "good.npy", "-o", "out.npy"),
                         "qcnn: colours.onnx: it has 1 input(s) (x 1x3x8x8), but 2 float arrays were given; name one .npy file for each")
        self.assertEqual(self.refused("run", "colours.onnx", "good.npy", "-o", "a.npy", "b.npy"),
                         "qcnn: colours.onnx: it has 1 output(s), but -o names 2 files; name one .npy file for each")
        self.refused("run", "colours.onnx", "colours.onnx", "-o", "out.npy")
        self.refused("run", "colours.onnx", "absent.npy", "-o", "out.npy")
        self.assertFalse(os.path.exists(self.path("out.npy")))

    def test_export_runs_the_same(self):
        self.compress("small.onnx")
        self.run_qcnn("export", "net.qcnn", "-o", "decoded.onnx")
        self.write("in.npy", make.npy([1, 3, 8, 8], [i % 17 / 17 for i in range(192)]))
        outputs = []
        for arguments in (["net.qcnn"], ["decoded.onnx"], ["net.qcnn", "--fast"]):
            self.run_qcnn("run", *arguments, "in.npy", "-o", "out.npy")
            outputs.append(make.read_npy(self.read("out.npy"))[1])
        largest = max(map(abs, outputs[0]))
        for exact, decoded, fast in zip(*outputs):
            self.assertAlmostEqual(exact, decoded, places=5)
            self.assertLess(abs(fast - exact), 0.05 * largest)


class Bench(CommandTest):
    def test_json(self):
        self.compress("small.onnx")
        result = self.json_of("bench", "net.qcnn", "--repeat", "5", "--batch", "2", "--kernels", "c")
        self.assertEqual((result["threads"], result["batch"], result["repeat"], result["kernels"]), (1, 2, 5, "c"))
        self.assertLessEqual(result["min_ms"], result["median_ms"])
        self.assertLessEqual(result["median_ms"], result["p90_ms"])
        self.assertGreater(result["peak_rss_bytes"], 1e6)
        names = [layer["name"] for layer in result["layers"]]
        for name in ("conv1", "pool1", "conv2", "fc1", "fc2", "prob"):
            self.assertIn(name, names)
        self.assertTrue(all(layer["ms"] >= 0 for layer in result["layers"]))

    def test_text_and_image(self):
        self.compress("small.onnx")
        out, err = self.run_qcnn("bench", "net.qcnn", "--repeat", "1", "--image", "red.png")
        self.assertEqual(err, "")
        self.assertIn(": 1 run, batch 1, 1 thread, kernels ", out)
        self.assertIn("avx1024", self.refused("bench", "net.qcnn", "--kernels", "avx1024"))
        self.refused("bench", "net.qcnn", "--image", "absent.png")

    def test_input_in_turn(self):
        self.compress("small.onnx")
        shape = [5, 3, 8, 8]
        self.write("five.npy", make.npy(shape, [0.5] * math.prod(shape)))
        result = self.json_of("bench", "net.qcnn", "--input", "five.npy", "--batch", "3", "--repeat", "4", "--cold", "1")
        self.assertEqual((result["input"], result["cold_bytes"], len(result["runs_ms"])), ("five.npy", 1000000, 4))
        self.write("wrong.npy", make.npy([5, 3, 2, 2], [0.5] * 60))
        self.assertIn("wrong.npy: its shape is 5x3x2x2", self.refused("bench", "net.qcnn", "--input", "wrong.npy"))
        self.assertIn("absent.npy", self.refused("bench", "net.qcnn", "--input", "absent.npy"))


class Inspect(CommandTest):
    def test_original(self):
        result = self.json_of("inspect", "small.onnx")
        self.assertEqual(result["file_bytes"], os.path.getsize(self.path("small.onnx")))
        self.assertEqual(result["inputs"], [{"name": "x", "shape": [1, 3, 8, 8]}])
        self.assertEqual(result["outputs"], [{"name": "y", "shape": [1, 5]}])
        self.assertEqual([(layer["storage"], layer["method"], layer["bytes"]) for layer in result["layers"]],
                         [("float32", "dense", 4 * n) for n in (224, 1168, 32 * 257, 165)])
        self.assertEqual([layer["output_shape"] for layer in result["layers"]], [[1, 8, 8, 8], [1, 16, 4, 4], [1, 32], [1, 5]])

    def test_bad_files(self):
        for name, data in (("empty.onnx", b""), ("text.onnx", b"not a model\n"), ("bad.qcnn", b"QCNN" + bytes(200))):
            self.write(name, data)
            self.assertIn(name, self.refused("inspect", name))
        self.refused("inspect", "absent.qcnn")
        self.refused("inspect", ".")


if __name__ == "__main__":
    unittest.main()
