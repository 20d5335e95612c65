#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the image of packaging/container, and runs it as a cluster would: no root, nothing writable
# but what is mounted, pgqrsd as process 1.
#
#   tests/container.sh DIRECTORY BASE     all that is made; a Debian from debootstrap, kept
#
# Wants root and buildah, but no registry: the base image is made by debootstrap (from $MIRROR).
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1" "$(dirname "$2")"
base=$(realpath "$2")
cd "$1"
here=$PWD
log=$here/build.log

step() { echo "container-test: $*"; }
fail() {
    tail -n 40 "$log" pgqrsd.log >&2 2>/dev/null || true
    echo "container-test: FAILED: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "wants root"

# Storage of its own: what the machine has is left alone.
buildah() { command buildah --storage-driver vfs --root "$here/storage" --runroot "$here/run" "$@"; }

end() {
    [ -z "${daemon:-}" ] || kill -KILL "$daemon" 2>/dev/null || true
    buildah rm --all >/dev/null 2>&1 || true
    buildah rmi --prune >/dev/null 2>&1 || true
}
trap end EXIT
: >"$log"
rm -f pgqrsd.log

if ! [ -e "$base" ]; then
    step "debootstrap"
    rm -rf --one-file-system root
    debootstrap --variant=minbase bookworm root "${MIRROR:-http://deb.debian.org/debian}" >"$log" ||
        fail "debootstrap"
    tar -C root -cf "$base.new" . && mv "$base.new" "$base"
    rm -rf --one-file-system root
fi

debian=docker.io/library/debian:bookworm-slim
if ! buildah inspect --type image $debian >/dev/null 2>&1; then
    step "base image"
    container=$(buildah from scratch)
    buildah add "$container" "$base" / >>"$log" 2>&1 || fail "the base image"
    buildah commit --rm "$container" $debian >>"$log" 2>&1 || fail "the base image"
fi

step "build"
buildah build --isolation chroot --pull-never --format docker -f "$top/packaging/container/Containerfile" \
    -t pgqrsd "$top" >>"$log" 2>&1 || fail "buildah build"

step "look"
config() { buildah inspect --type image --format "{{$1}}" pgqrsd; }
expect() { [ "$2" = "$3" ] || fail "$1: found $2, expected $3"; }
expect user "$(config .Docker.Config.User)" 10001:10001
expect entrypoint "$(config .Docker.Config.Entrypoint)" "[pgqrsd]"
expect command "$(config .Docker.Config.Cmd)" "[]"
expect "stop signal" "$(config .Docker.Config.StopSignal)" SIGTERM
env=$(config 'range .Docker.Config.Env}}{{.}} {{end')
container=$(buildah from --pull-never pgqrsd)
root=$(buildah mount "$container")
! [ -e "$root/usr/bin/gcc" ] || fail "a compiler is in the image"
! [ -e "$root/src" ] || fail "sources are in the image"
for program in "$root"/usr/local/bin/* "$root"/usr/local/libexec/pgqrs/* "$root"/usr/local/lib/pgqrs/handlers/*; do
    if chroot "$root" ldd "${program#"$root"}" | grep "not found" >&2; then
        fail "a library of ${program#"$root"} is missing"
    fi
done
find "$root/usr/local" "$root/etc/pgqrs" -user 10001 | grep . >&2 && fail "pgqrsd could change itself"

step "run"
mkdir -p state mnt
chown 10001:10001 state
chmod 750 state
rm -rf state/*
# shellcheck disable=SC2016 # the inner shell's
unshare --mount --pid --net --fork --kill-child sh -euc '
    root=$1; here=$2; shift 2
    ip link set lo up
    mount --bind "$root" "$here/mnt"
    mount -o remount,bind,ro "$here/mnt"
    mount -t proc proc "$here/mnt/proc"
    mount --bind /dev "$here/mnt/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$here/mnt/run"
    mkdir -m 1777 "$here/mnt/run/pgqrs"
    mount --bind "$here/state" "$here/mnt/var/lib/pgqrs"
    cd "$here/mnt"
    exec env -i "$@" chroot --userspec=10001:10001 "$here/mnt" \
        sh -c "cd /var/lib/pgqrs && exec setpriv --no-new-privs --inh-caps=-all pgqrsd"
' sh "$root" "$here" $env >pgqrsd.log 2>&1 &
daemon=$!
inside() { # with what the image sets
    local init
    init=$(pgrep -P "$daemon") || return 1
    nsenter --target "$init" --mount --pid --root --wd env -i $env \
        setpriv --reuid 10001 --regid 10001 --clear-groups "$@"
}
# await WORDS: until they succeed
await() {
    local end=$((SECONDS + 30))
    until "$@"; do
        kill -0 "$daemon" 2>/dev/null || fail "pgqrsd ended"
        [ $SECONDS -lt $end ] || fail "not within 30 s: $*"
        sleep 0.2
    done
}
probe() {
    # shellcheck disable=SC2016 # the inner shell's
    nsenter --target "$(pgrep -P "$daemon")" --net bash -c \
        'exec 3<>/dev/tcp/127.0.0.1/9090 && printf "GET $0 HTTP/1.1\r\n\r\n" >&3 && head -n 1 <&3' "$1"
}
serves() { inside pgqrs ctl status 2>/dev/null | grep -q "^checksum.*ready"; }
answers() { [[ $(probe "$1" 2>/dev/null) == "HTTP/1.1 200"* ]]; }
await serves
await answers /livez
await answers /readyz
sum=$(sha256sum "$root/usr/local/bin/pgqrsd")
id=$(inside pgqrs message enqueue checksum '{"path": "/usr/local/bin/pgqrsd"}') || fail "enqueue"
inside pgqrs queue wait checksum --timeout 60s >/dev/null || fail "the job does not end"
inside pgqrs message get "${id##* }" -o json | grep -q "${sum%% *}" || fail "another result"
inside sh -c '! touch /usr/local/x 2>/dev/null' || fail "the root file system can be written"
[ "$(inside cat /proc/1/comm)" = pgqrsd ] || fail "pgqrsd is not process 1"
init=$(pgrep -P "$daemon")
kill -TERM "$init"
wait "$daemon" || fail "pgqrsd ended with $?"
daemon=
step "image: $(du -sm --one-file-system "$root" | cut -f 1) MiB, of which $(du -sm "$root/usr/local" | cut -f 1) are pgqrsd's"
echo "container-test: 1 passed, 0 failed"
