#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what bench/compare.py measured into docs/speed.md, between its markers, and draws docs/speed.svg.

    bench/report.py [RESULTS.json] [--print]
"""
import argparse
import html
import json
import os

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
BEGIN, END = "<!-- bench/report.py begins -->", "<!-- bench/report.py ends -->"
WANTED = {  # (network, file): times faster than ONNX Runtime float32, than OpenVINO int8; one thread, batch 1
    ("alexnet", "qcnn-paper"): (10, 3), ("alexnet", "qcnn-small"): (7, 2), ("vgg16", "qcnn-qcnn"): (6, 1.5),
    ("resnet18", "qcnn-qcnn"): (3.5, 1), ("squeezenet", "qcnn-qcnn"): (3.5, 1), ("alexnet", "qcnn-paper-avx2"): (5, None),
}


def table(header, rows):
    return ["| " + " | ".join(header) + " |", "| " + " | ".join(["---"] * len(header)) + " |",
            *("| " + " | ".join(row) + " |" for row in rows), ""]


def find_table(network, threads, batch, cold=False):
    return next((t for t in network["tables"] if (t["threads"], t["batch"], t["cold_mb"] > 0) == (threads, batch, cold)), None)


def find_row(timed, key):
    return next((row for row in timed["rows"] if row["key"] == key), None) if timed else None


def milliseconds(value):
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def ratio_text(slow, fast):
    """Ratio of medians, and the range of the ratios of each round."""
    paired = [a / b for a, b in zip(slow["round_ms"], fast["round_ms"])]
    return f"{slow['median_ms'] / fast['median_ms']:.2f}x ({min(paired):.2f} to {max(paired):.2f})"


def machine_text(results):
    machine = results["machine"]
    peaks = machine["peaks"]
    versions = {}
    for network in results["networks"].values():
        for row in network["tables"][0]["rows"]:
            name = row["title"].split(",")[0].rsplit(" ", 1)[0] if row["key"].split("-")[0] != "qcnn" else ""
            if name:
                versions[name] = row["version"]
            else:
                versions.setdefault("qcnn's tier", row["version"])
    lines = [f"Measured {results['date']} at {results['commit']} ({results['mode']}): {machine['cpu']}, {machine['cores']} cores, "
             f"{machine['memory_gb']} GB, Linux {machine['kernel']}. " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."]
    if peaks:
        after = results.get("machine_after", machine)["peaks"]
        lines.append(f"One core's peaks in the same run, before (after): float32 {peaks['float32_g']} ({after['float32_g']}) G multiply-adds a second, "
                     f"int8 {peaks['int8_g']} ({after['int8_g']}), byte look-ups out of registers {peaks['lookup_g']} ({after['lookup_g']}) G a second, "
                     f"with their sums of 16 bits {peaks['lookup_sum_g']} ({after['lookup_sum_g']}) ({peaks['instructions']}); "
                     f"with AVX2 alone {peaks['float32_avx2_g']}, {peaks['int8_avx2_g']}, {peaks['lookup_avx2_g']} and {peaks['lookup_sum_avx2_g']}. "
                     f"Reading: {peaks['read_512k_gb']} GB/s from 512 kB, {peaks['read_8m_gb']} from 8 MB, {peaks['read_256m_gb']} from 256 MB.")
    return ["\n".join(lines), ""]


def top1_text(network, *keys):
    judged = network.get("accuracy", {})
    return " / ".join(f"{judged[key]['top1']:.2f} %" if key in judged else "-" for key in keys) if network["real"] else "generated"


def wanted_table(results):
    """The rows that the project promised, with the accuracy of exactly what was timed."""
    rows = []
    for (key, file), (wanted_float, wanted_int8) in WANTED.items():
        network = results["networks"].get(key)
        timed = find_table(network, 1, 1) if network else None
        ours = find_row(timed, file)
        if not ours:
            continue
        slow, int8 = find_row(timed, "ort-float"), find_row(timed, "openvino-int8")
        rows.append([f"{network['title']}: {ours['title'].removeprefix('qcnn, ')}", ours["version"],
                     f"{milliseconds(ours['median_ms'])} ({milliseconds(ours['p90_ms'])})", milliseconds(slow["median_ms"]), ratio_text(slow, ours),
                     f"{wanted_float}x", milliseconds(int8["median_ms"]), ratio_text(int8, ours), f"{wanted_int8}x" if wanted_int8 else "",
                     top1_text(network, file, "ort-float", "openvino-int8")])
    return ["### One thread, one image", "",
            "Milliseconds: median (90th percentile). Ratios are of medians, in parentheses the range over the rounds. Top-1 of these very files and",
            "kernels: qcnn / ONNX Runtime float32 / OpenVINO int8 (how many photographs: see below).", ""] + \
        table(["network", "tier", "qcnn ms", "ORT float32 ms", "faster", "wanted", "OpenVINO int8 ms", "faster", "wanted", "top-1"], rows)


def contestant_order(results):
    """(key, title) of every row that some table has: the peers, then ours."""
    titles = {}
    for network in results["networks"].values():
        for timed in network["tables"]:
            for row in timed["rows"]:
                titles.setdefault(row["key"], row["title"] if row["key"] != "qcnn-qcnn" else "qcnn, compressed")
    titles.update({"qcnn-qcnn-avx2": "qcnn, compressed, AVX2 alone"} if "qcnn-qcnn-avx2" in titles else {})
    return sorted(titles.items(), key=lambda item: item[0].startswith("qcnn"))


def timing_tables(results):
    lines = []
    for threads, batch in ((1, 1), (2, 1), (1, 16), (2, 16)):
        timed = {key: find_table(network, threads, batch) for key, network in results["networks"].items()}
        timed = {key: value for key, value in timed.items() if value}
        if not timed:
            continue
        rows = []
        for key, title in contestant_order(results):
            cells = [find_row(value, key) for value in timed.values()]
            if any(cells):
                rows.append([title] + [f"{milliseconds(c['median_ms'] / batch)} ({milliseconds(c['p90_ms'] / batch)})" if c else "" for c in cells])
        lines += [f"#### {threads} thread{'s' * (threads > 1)}, batch {batch}" + (", milliseconds an image" if batch > 1 else ""), ""]
        lines += table([""] + [results["networks"][key]["title"] for key in timed], rows)
    return ["### Everybody, milliseconds: median (90th percentile)", ""] + lines


def threads_text(results):
    parts = []
    for network in results["networks"].values():
        for file in network["files"]:
            one, two = (find_row(find_table(network, n, 1), file["key"]) for n in (1, 2))
            if one and two:
                parts.append(f"{network['title']}, {file['title']}: {one['median_ms'] / two['median_ms']:.2f}x")
    return [f"Two threads against one (batch 1): {'; '.join(parts)}.", ""] if parts else []


def accuracy_table(results):
    rows = []
    for network in results["networks"].values():
        titles = {row["key"]: row["title"] for row in network["tables"][0]["rows"]}
        files = {file["key"]: file for file in network["files"]}
        for key, judged in network.get("accuracy", {}).items():
            file = files.get(key.removesuffix("-avx2"))
            rows.append([network["title"], titles.get(key, key), f"{judged['top1']:.2f} %", f"{judged['top5']:.2f} %", f"{judged['images']:,}",
                         f"{file['file_bytes']:,} ({file['ratio']:.1f}x)" if file else ""])
    return ["### Accuracy of what was timed", "", "The same files and kernels, on the validation photographs of `../shared/data`.", ""] + \
        table(["network", "engine", "top-1", "top-5", "images", "file bytes"], rows) if rows else []


def memory_table(results):
    order, rows = [item for item in contestant_order(results) if not item[0].endswith("-avx2")], []
    for key, title in order:
        cells = []
        for network in results["networks"].values():
            row = find_row(find_table(network, 1, 1), key)
            file = next((file for file in network["files"] if file["key"] == key), None)
            if row and file:
                cells.append(f"{row['load_ms']:.1f} ms, {' / '.join(f'{n_bytes / 1e6:.1f}' for n_bytes in file['peak_bytes'])} MB")
            elif row and "peak_bytes" in row:
                cells.append(f"{row['load_ms']:.0f} ms, {row['peak_bytes'] / 1e6:.0f} MB")
            else:
                cells.append(f"{row['load_ms']:.0f} ms" if row else "")
        rows.append([title] + cells)
    base = max(row["base_bytes"] for network in results["networks"].values() for row in network["tables"][0]["rows"] if "base_bytes" in row)
    return ["### Loading, and peak memory of a process that loads and classifies one photograph", "",
            f"The peers' processes are Python; with NumPy and the photographs alone, before the engine is loaded, they have {base / 1e6:.0f} MB. "
            "qcnn's are the whole program that decodes the JPEG, loads the file and runs it, on one thread / on two.", ""] + \
        table([""] + [network["title"] for network in results["networks"].values()], rows)


def layers_tables(results):
    lines = []
    for key, network in results["networks"].items():
        for file in network["files"]:
            warm, cold = (find_row(find_table(network, 1, 1, cold), file["key"]) for cold in (False, True))
            dense = [f"`{name}`" for name, layer in file["layers"].items() if layer["method"].startswith("dense")]
            settings = "all layers" if len(dense) == len(file["layers"]) else ", ".join(dense) or "none"
            options = file["options"].replace("CALIB", f"../shared/data/{network['data']}/calib")
            options = f"`{options}`" if len(options) < 200 else "settings in bench/networks.py"
            lines += [f"- {network['title']}, {file['title']} ({options}): decoded to dense are {settings}."]
            if key == "alexnet" and warm and cold:
                names = [layer["name"] for layer in warm["layers"] if layer["type"] in ("conv", "fc")]
                times = {name: [next(layer["ms"] for layer in row["layers"] if layer["name"] == name) for row in (warm, cold)] for name in names}
                lines += ["", *table(["layer", *names, "all"],
                                     [[label, *(f"{times[name][i]:.3f}" for name in names), f"{row['median_ms']:.2f}"]
                                      for i, (label, row) in enumerate((("ms, caches as they are", warm), ("ms, 64 MB touched before each run", cold)))])]
    timed = find_table(results["networks"].get("alexnet", {"tables": []}), 1, 1, True)
    if timed:
        lines += ["", "All with cold caches, AlexNet: " + ", ".join(f"{row['title']} {milliseconds(row['median_ms'])} ms" for row in timed["rows"]) + ".", ""]
    return ["### Layers", ""] + lines + [""]


def limits_table(results):
    """What binds: operations a second of each kind of layer against what the machine's instructions can do at most."""
    after, rows = results.get("machine_after", results["machine"])["peaks"], []
    peaks = {name: max(value, after[name]) for name, value in results["machine"]["peaks"].items() if name.endswith("_g")}
    for network in results["networks"].values():
        for file in network["files"]:
            timed = find_row(find_table(network, 1, 1), file["key"])
            kinds = {}
            for layer in timed["layers"] if timed else ():
                counted = file["layers"].get(layer["name"], {"method": "", "lookups": 0, "multiplications": 0})
                kind = f"{layer['type']}, {counted['method']}" if layer["type"] in ("conv", "fc") else "the rest"
                sums = kinds.setdefault(kind, [0, 0, 0])
                for i, number in enumerate((layer["ms"], counted["lookups"], counted["multiplications"])):
                    sums[i] += number
            cells = []
            for kind in ("conv, dense", "conv, lut", "fc, lut", "fc, dense", "the rest"):
                ms, lookups, multiplications = kinds.get(kind, (0, 0, 0))
                done, limit = (lookups, peaks.get("lookup_sum_g")) if kind.endswith("lut") else (multiplications, peaks.get("int8_g"))
                rate = f", {1e-6 * done / ms:.0f} G/s" + (f" ({100e-6 * done / ms / limit:.0f} %)" if limit else "") if ms and kind != "the rest" else ""
                cells.append(f"{ms:.2f} ms{rate}" if ms else "")
            rows.append([network["title"], file["title"], *cells])
    return ["### Against the machine's limits", "",
            "One thread, one image: milliseconds in layers of a kind, their multiply-adds (dense) or look-ups (tables; building and scaling them takes part of the",
            "time) a second, and in parentheses the share of the peak above: int8 multiply-adds, and look-ups with their 16-bit sums.", ""] + \
        table(["network", "file", "convolutions in bytes", "convolutions by tables", "fully-connected by tables", "fully-connected dense", "the rest"], rows)


# ---- the picture ----------------------------------------------------------------------------------------------------

STYLE = """<style>
text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#14140f}.soft{fill:#5a5953}.head{font-weight:650;font-size:14px}.end{text-anchor:end}
.page{fill:#fdfdfc}.peer{fill:#c5c4bc}.ours{fill:#2a78d6}.rule{stroke:#dddcd6}
@media (prefers-color-scheme:dark){text{fill:#f6f5f0}.soft{fill:#b5b4aa}.page{fill:#1c1c1a}.peer{fill:#55544e}.ours{fill:#4a93ea}.rule{stroke:#34332f}}
</style>"""


def draw(results):
    """Bars as long as an engine is faster than ONNX Runtime float32: one thread, batch 1."""
    groups = []
    for network in results["networks"].values():
        timed = find_table(network, 1, 1)
        base = find_row(timed, "ort-float")["median_ms"]
        groups.append((network["title"], [(row["title"], base / row["median_ms"], row["median_ms"], row["key"].startswith("qcnn"))
                                          for row in timed["rows"] if row["key"] != "qcnn-dense"]))
    longest = max(bar[1] for _, bars in groups for bar in bars)
    left, width, step = 270, 430, 20
    parts, y = [], 58
    for title, bars in groups:
        parts.append(f'<text class="head" x="16" y="{y}">{html.escape(title)}</text>')
        y += 10
        for name, times, ms, is_ours in bars:
            length = max(1, width * times / longest)
            parts.append(f'<text class="soft end" x="{left - 8}" y="{y + 14}">{html.escape(name)}</text>'
                         f'<rect class="{"ours" if is_ours else "peer"}" x="{left}" y="{y + 2}" width="{length:.1f}" height="{step - 5}" rx="2"/>'
                         f'<text x="{left + length + 6:.1f}" y="{y + 14}">{times:.1f}x<tspan class="soft" dx="8">{milliseconds(ms)} ms</tspan></text>')
            y += step
        y += 26
    one = left + width / longest
    head = f'<text class="head" x="16" y="26">Times faster than ONNX Runtime float32: one thread, one image</text>' \
           f'<line class="rule" x1="{one:.1f}" y1="44" x2="{one:.1f}" y2="{y - 20}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {y}" width="860" height="{y}">{STYLE}' \
           f'<rect class="page" width="860" height="{y}" rx="8"/>{head}{"".join(parts)}</svg>\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", default=os.path.join(ROOT, "build/bench/results.json"))
    parser.add_argument("--document", default=os.path.join(ROOT, "docs/speed.md"))
    parser.add_argument("--print", action="store_true", help="print the tables and change no file")
    arguments = parser.parse_args()
    with open(arguments.results) as file:
        results = json.load(file)
    lines = machine_text(results) + wanted_table(results) + ["![times faster than ONNX Runtime](speed.svg)", ""] + timing_tables(results) + \
        threads_text(results) + accuracy_table(results) + memory_table(results) + \
        limits_table(results) + layers_tables(results)
    text = "\n".join(lines).rstrip() + "\n"
    if arguments.print:
        print(text)
        return
    with open(arguments.document) as file:
        document = file.read()
    if BEGIN not in document or END not in document:
        raise SystemExit(f"{arguments.document}: the lines {BEGIN} and {END} are absent")
    with open(arguments.document, "w") as file:
        file.write(document[:document.index(BEGIN) + len(BEGIN)] + "\n\n" + text + "\n" + document[document.index(END):])
    with open(os.path.join(os.path.dirname(arguments.document), "speed.svg"), "w") as file:
        file.write(draw(results))


if __name__ == "__main__":
    main()
