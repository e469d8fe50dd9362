#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs resources, dex, libraries and models into an unsigned APK. Libraries are stored at multiples of 16 KiB and models at
multiples of 4 KiB, so that a phone maps both from the package without unpacking them.

    pack.py BUILD_ANDROID_FOLDER
"""
import glob
import os
import sys
import zipfile

PAGE, LARGE_PAGE = 4096, 16384
out = sys.argv[1]
WHEN = (2008, 1, 1, 0, 0, 0)  # the same package from the same input
LOCAL_HEADER, EXTRA_ID = 30, 0xD935  # 0xD935: Android's alignment field


def put(package, name, data, compress):
    info = zipfile.ZipInfo(name, WHEN)
    info.compress_type = compress
    info.external_attr = 0o644 << 16
    if compress == zipfile.ZIP_STORED:
        alignment = LARGE_PAGE if name.endswith(".so") else PAGE if name.endswith(".qcnn") else 4
        start = package.fp.tell() + LOCAL_HEADER + len(name.encode()) + 6  # 6: the extra field's id, length and alignment
        padding = -start % alignment
        info.extra = EXTRA_ID.to_bytes(2, "little") + (2 + padding).to_bytes(2, "little") + alignment.to_bytes(2, "little") + bytes(padding)
    package.writestr(info, data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


with zipfile.ZipFile(os.path.join(out, "unsigned.apk"), "w") as package, zipfile.ZipFile(os.path.join(out, "resources.apk")) as resources:
    for entry in resources.infolist():
        put(package, entry.filename, resources.read(entry), entry.compress_type)
    put(package, "classes.dex", read(os.path.join(out, "dex/classes.dex")), zipfile.ZIP_DEFLATED)
    for abi in ("arm64-v8a", "armeabi-v7a", "x86_64"):
        put(package, f"lib/{abi}/libqcnn_java.so", read(os.path.join(out, "native", abi, "libqcnn_java.so")), zipfile.ZIP_STORED)
    for model in sorted(glob.glob(os.path.join(out, "assets/models/*.qcnn"))):
        put(package, "assets/models/" + os.path.basename(model), read(model), zipfile.ZIP_STORED)
