#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a Python environment with a package from PyPI, for tests; without the network it is left out.
#   packaging/venv.sh DIRECTORY PACKAGE==VERSION
set -eu
directory=$1
package=$2
[ ! -e "$directory/$package" ] || exit 0
mkdir -p "${directory%/*}"
if python3 -m venv "$directory" >"$directory.log" 2>&1 &&
    "$directory/bin/pip" install -q --disable-pip-version-check --retries 1 --timeout 15 "$package" \
        >>"$directory.log" 2>&1; then
    touch "$directory/$package"
else
    rm -rf "$directory"
    echo "deps: $package could not be installed, its tests are skipped; see $directory.log"
fi
