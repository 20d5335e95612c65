#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a virtual environment of Python with the packages of a list: venv.sh DIRECTORY LIST
# What needs it can do without: when they can not be had, it only says so.
set -eu
ready=$1/ready
! cmp -s "$2" "$ready" || exit 0

rm -rf "$1"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "venv: installing $2"
if python3 -m venv "$1" >"$log" 2>&1 &&
    "$1/bin/pip" install --no-deps --no-compile --no-input --retries 1 -r "$2" >>"$log" 2>&1; then
    cp "$2" "$ready"
else
    tail -n 3 "$log" >&2
    rm -rf "$1"
    echo "venv: not installed; what needs it is skipped" >&2
fi
