#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/android/qcnn.apk, signed with a debug key, from Debian's packages and Maven Central alone: no SDK, no NDK.
# Ends with 77 where a package is missing, or Maven Central is out of reach on a first run.
#   apps/android/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
app=apps/android/app/src/main
out=$PWD/build/android
mkdir -p "$out"

for tool in clang ld.lld aapt2 javac mvn python3; do
    command -v $tool >/dev/null || { echo "SKIPPED: $tool is not installed (scripts/install_packages.sh android)" >&2; exit 77; }
done
[ -x build/qcnn ] || make -s all
apps/android/tools/fetch.sh "$out/jars"
framework=$out/jars/android-all.jar

echo "native libraries"
apps/android/build_native.sh

echo "models"
apps/android/tools/models.sh "$out/assets/models"

echo "resources"
rm -rf "$out/gen" "$out/classes" "$out/dex"
mkdir -p "$out/gen" "$out/classes" "$out/dex"
aapt2 compile --dir $app/res -o "$out/resources.zip"
# Debian's aapt2 does not know <queries> and says so, though it keeps it.
aapt2 link -I "$framework" --warn-manifest-validation --manifest $app/AndroidManifest.xml --min-sdk-version 26 --target-sdk-version 35 \
    -o "$out/resources.apk" --java "$out/gen" "$out/resources.zip" 2>&1 | grep -vE "Unknown chunk type|unexpected element <queries>" >&2 || true
[ -s "$out/resources.apk" ]

echo "classes"
find $app/java bindings/java/src "$out/gen" -name '*.java' >"$out/sources"
javac --release 8 -encoding UTF-8 -Xlint:all,-options,-deprecation,-processing,-classfile -Werror -cp "$framework" -d "$out/classes" @"$out/sources"
find "$out/classes" -name '*.class' >"$out/class_files"
java -Xmx1g -cp "$out/jars/r8.jar" com.android.tools.r8.D8 --release --min-api 26 --lib "$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")" \
    --lib "$framework" --output "$out/dex" @"$out/class_files"

echo "package"
python3 apps/android/tools/pack.py "$out"
if [ ! -f "$out/debug.p12" ]; then
    keytool -genkeypair -storetype PKCS12 -keystore "$out/debug.p12" -storepass android -alias debug -keyalg RSA -keysize 2048 \
        -validity 10000 -dname "CN=qcnn debug" 2>/dev/null
fi
java -cp "$out/jars/apksig.jar" apps/android/tools/Sign.java "$out/unsigned.apk" "$out/qcnn.apk" "$out/debug.p12"
echo "build/android/qcnn.apk: $(stat -c %s "$out/qcnn.apk") bytes"
