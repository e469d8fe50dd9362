#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Drives the app's screens on the host JVM (Robolectric, API 26 and 35) against the host build of the real library and the bundled
# model. 77: Maven Central is out of reach on a first run, or there is no JDK.
#   apps/android/tests.sh [TEST_CLASS...]      SCREENS=FOLDER draws them, too
set -euo pipefail
cd "$(dirname "$0")/../.."
app=apps/android/app/src
out=$PWD/build/android
command -v javac >/dev/null || { echo "SKIPPED: no JDK" >&2; exit 77; }
[ -f build/libqcnn_java.so ] || { echo "SKIPPED: build/libqcnn_java.so was not built" >&2; exit 77; }
apps/android/tools/fetch.sh "$out/jars" tests
[ -f "$out/qcnn.apk" ] || apps/android/build.sh
if [ ! -f "$out/sample.jpg" ] && /usr/bin/python3 -c 'import numpy, PIL' 2>/dev/null; then
    nice -n 10 /usr/bin/python3 apps/android/tools/sample_picture.py "$out/sample.jpg"
fi

tests=$out/tests
rm -rf "$tests"
mkdir -p "$tests/classes" "$tests/settings/com/android/tools"
class_path=$(tr ':' '\n' <"$out/jars/class_path" | grep '[.]jar$' | paste -sd:):$out/jars/monitor.jar:$out/jars/android-all.jar
cat >"$tests/settings/com/android/tools/test_config.properties" <<SETTINGS
android_merged_manifest=$PWD/$app/main/AndroidManifest.xml
android_resource_apk=$out/qcnn.apk
android_custom_package=org.qcnn.app
SETTINGS
find $app/test/java -name '*.java' >"$tests/sources"
javac -encoding UTF-8 -Xlint:all,-processing,-classfile,-options,-deprecation,-try -cp "$out/classes:$class_path" -d "$tests/classes" @"$tests/sources"

run=("$@")
[ $# -gt 0 ] || mapfile -t run < <(sed -n 's#.*/\([A-Za-z]*Test\)\.java$#org.qcnn.app.\1#p' "$tests/sources" | sort)
options=(--add-opens=java.base/java.io=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED
    -Xmx2g -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.library.path="$PWD/build" -Dfile.encoding=UTF-8 -Duser.language=en -Duser.country=US
    -Drobolectric.offline=true -Drobolectric.dependency.dir="$out/jars" -Drobolectric.graphicsMode=NATIVE
    -Drobolectric.pixelCopyRenderMode=hardware -Dorg.robolectric.packagesToNotAcquire=org.qcnn.engine.
    -Dqcnn.sample="$out/sample.jpg" -Dqcnn.root="$PWD")
[ -z "${SCREENS-}" ] || options+=(-Dqcnn.screens="$SCREENS")
nice -n 10 java "${options[@]}" -cp "$out/classes:$tests/classes:$tests/settings:$class_path" org.junit.runner.JUnitCore "${run[@]}" |
    grep -vE '^\s+at (org\.junit|java\.|jdk\.|org\.robolectric|sun\.)'
