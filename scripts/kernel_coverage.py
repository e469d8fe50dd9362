#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table kernel x tier of docs/kernels.md, from what `kernels_test --list` says on each machine:
    scripts/kernel_coverage.py [--write] LIST_FILE...
Without --write it tells whether the document is right, as far as the lists go (this processor may lack a tier), with status 1
if it is not. The lists: build/kernels_test --list, and build/cross/*/list after the cross tests."""

import pathlib
import sys

DOCUMENT = pathlib.Path(__file__).resolve().parent.parent / "docs" / "kernels.md"
BEGIN, END = "<!-- coverage: made by scripts/kernel_coverage.py -->", "<!-- end of coverage -->"


def parse(text):
    """{tier: {kernel: the tier whose function it is}} of a table, and the kernels in order."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    rows = [row for row in rows if not set(row[0]) <= set("- ")]
    return {tier: {row[0]: row[i] for row in rows[1:]} for i, tier in enumerate(rows[0]) if i}, [row[0] for row in rows[1:]]


def main():
    write = "--write" in sys.argv
    tiers, kernels = {}, []
    for name in [argument for argument in sys.argv[1:] if argument != "--write"]:
        found, kernels = parse(pathlib.Path(name).read_text(encoding="ascii"))
        tiers.update(found)
    document = DOCUMENT.read_text(encoding="utf-8")
    head, rest = document.split(BEGIN)
    table, tail = rest.split(END)
    if write:
        lines = ["| kernel | " + " | ".join(tiers) + " |", "| --- |" + " --- |" * len(tiers)]
        lines += ["| " + " | ".join([f"`{kernel}`"] + [tiers[tier][kernel] for tier in tiers]) + " |" for kernel in kernels]
        DOCUMENT.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + tail, encoding="utf-8")
        return
    written = {tier: {k.strip("`"): cell for k, cell in column.items()} for tier, column in parse(table)[0].items()}
    wrong = [tier for tier in tiers if written.get(tier) != tiers[tier]]
    if wrong:
        sys.exit(f"docs/kernels.md is out of date for {', '.join(wrong)}: run scripts/kernel_coverage.py --write with the lists")
    print(f"docs/kernels.md is right about {', '.join(tiers)}")


if __name__ == "__main__":
    main()
