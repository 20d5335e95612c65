#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the Debian packages from a copy of what git knows: deb.sh OUT VERSION
# VERSION may be above that of packaging/debian/changelog, such as 0.1.0+local1.
set -eu
cd "$(dirname "$0")/.."

mkdir -p "$1"
out=$(cd "$1" && pwd)
src=$out/src/pgqrsd-$2
rm -rf "$out/src"
mkdir -p "$src"
git ls-files -z | tar -c --null -T - | tar -x -C "$src"
cd "$src"
cp -r packaging/debian debian
changelog=packaging/debian/changelog
if ! grep -q "^pgqrsd ($2)" "$changelog"; then
    {
        printf 'pgqrsd (%s) unstable; urgency=medium\n\n  * Local build.\n\n' "$2"
        grep -m 1 '^ -- ' "$changelog" | sed "s/>.*/>  $(LC_ALL=C date -R)/"
        printf '\n'
        cat "$changelog"
    } >debian/changelog
fi
log=$out/build.log
# dpkg-buildpackage has a make of its own: neither jobs nor variables of the one that called.
if ! env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL dpkg-buildpackage -b -us -uc >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "deb: failed, see $log" >&2
    exit 1
fi
rm -f "$out"/*.deb "$out"/*.changes "$out"/*.buildinfo
mv "$out"/src/*.deb "$out"/src/*.changes "$out"/src/*.buildinfo "$out"
lintian --allow-root --fail-on error "$out"/*.changes
ls "$out"/*.deb
