#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches from Maven Central what the build needs (the framework's classes, D8, apksig) and links it into a folder. 77: out of reach.
#   fetch.sh FOLDER
set -euo pipefail
mkdir -p "$1"
repository=${MAVEN_REPOSITORY:-$HOME/.m2/repository}

fetch() { # NAME GROUP ARTIFACT VERSION
    local file=$repository/${2//./\/}/$3/$4/$3-$4.jar
    if [ ! -f "$file" ]; then
        echo "fetching $3 $4 from Maven Central" >&2
        mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get -Dtransitive=false -Dartifact="$2:$3:$4" >/dev/null 2>&1 || {
            echo "SKIPPED: $3 $4 cannot be fetched from Maven Central" >&2
            exit 77
        }
    fi
    ln -sf "$file" "$out/$1.jar"
}

out=$1
fetch android-all org.robolectric android-all 14-robolectric-10818077
fetch r8 com.android.tools r8 9.5.28
fetch apksig com.android.tools.build apksig 9.5.0
