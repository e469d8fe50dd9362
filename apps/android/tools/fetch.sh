#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches from Maven Central what the app's build needs (the framework's classes, D8, apksig), and with `tests` what its tests
# need, and links it into a folder. Maven keeps the files; a first run loads about 110 MB, with tests 645 MB. 77: out of reach.
#   fetch.sh FOLDER [tests]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
repository=${MAVEN_REPOSITORY:-$HOME/.m2/repository}

unreachable() {
    echo "SKIPPED: $1 cannot be fetched from Maven Central" >&2
    exit 77
}

fetch() { # NAME GROUP ARTIFACT VERSION [KIND]
    local kind=${5-jar}
    local file=$repository/${2//./\/}/$3/$4/$3-$4.$kind
    if [ ! -f "$file" ]; then
        echo "fetching $3 $4 from Maven Central" >&2
        nice -n 10 mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get -Dtransitive=false \
            -Dartifact="$2:$3:$4:$kind" >/dev/null 2>&1 || unreachable "$3 $4"
    fi
    ln -sf "$file" "$out/$1"
}

fetch android-all.jar org.robolectric android-all 14-robolectric-10818077
fetch r8.jar com.android.tools r8 9.5.28
fetch apksig.jar com.android.tools.build apksig 9.5.0
[ "${2-}" = tests ] || exit 0

# Robolectric looks for the frameworks under these names.
for version in 15-robolectric-13954326-i7 8.0.0_r4-robolectric-r1-i7; do
    fetch android-all-instrumented-$version.jar org.robolectric android-all-instrumented $version
done
fetch monitor.aar androidx.test monitor 1.8.0 aar
unzip -q -o -p "$out/monitor.aar" classes.jar >"$out/monitor.jar"
if [ ! -s "$out/class_path" ] || [ "$here/../pom.xml" -nt "$out/class_path" ]; then
    nice -n 10 mvn -B -q -f "$here/../pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath \
        -Dmdep.outputFile="$out/class_path" >/dev/null 2>&1 || unreachable "Robolectric"
fi
