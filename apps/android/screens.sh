#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Draws the app's screens on ten kinds of phones to build/android/screens/*.png; they are checked on the way.
#   apps/android/screens.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf build/android/screens
apps/android/build.sh
SCREENS=$PWD/build/android/screens apps/android/tests.sh org.qcnn.app.ScreensTest
echo "drawn: build/android/screens"
