#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs, runs, upgrades and purges the Debian packages in a system of their own.
#
#   tests/deb.sh DIRECTORY     the packages; newer ones are in its folder next
#
# Wants root. Everything is in a PID and mount namespace, so nothing that it starts outlives it.
set -euo pipefail
cd "$1"
base=$PWD/base.tar
root=$PWD/root

if [ "${IN_NAMESPACE:-}" != yes ]; then
    [ "$(id -u)" = 0 ] || { echo "deb-test: wants root" >&2; exit 1; }
    if ! [ -e "$base" ]; then
        rm -rf --one-file-system "$root"
        debootstrap --variant=minbase bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}" >debootstrap.log
        tar -C "$root" -cf "$base.new" . && mv "$base.new" "$base"
    fi
    rm -rf --one-file-system "$root"
    mkdir "$root"
    tar -C "$root" -xf "$base"
    cd - >/dev/null
    IN_NAMESPACE=yes exec unshare --mount --pid --fork --kill-child "$0" "$1"
fi

mount -t proc proc "$root/proc"
cp /etc/resolv.conf /etc/hosts "$root/etc"
for deb in *.deb next/*.deb; do
    case $deb in
    *-dbgsym_*) ;;
    next/*) install -D -m 644 -t "$root/packages/next" "$deb" ;;
    *) install -D -m 644 -t "$root/packages/first" "$deb" ;;
    esac
done

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset PGQRS_DSN PGQRS_CONFIG_FILE RUNTIME_DIRECTORY XDG_RUNTIME_DIR

inside() { chroot "$root" "$@"; }
as_user() { exec chroot "$root" setpriv --reuid pgqrs --regid pgqrs --init-groups "$@"; }
pgqrs() { (as_user pgqrs --config /etc/pgqrs/pgqrsd.yaml "$@"); }
step() { echo "deb-test: $*"; }
fail() {
    cat "$root"/tmp/*.log >&2
    echo "deb-test: FAILED: $*" >&2
    exit 1
}
apt() { inside apt-get -q -y --no-install-recommends "$@" >"$root/tmp/apt.log" 2>&1 || fail "apt-get $*"; }

# install FOLDER: all packages that are in it
install_from() {
    local debs=("$root/packages/$1"/*.deb)
    apt install "${debs[@]#"$root"}"
}

start() {
    local end=$((SECONDS + 60))
    as_user pgqrsd 2>>"$root/tmp/pgqrsd.log" &
    daemon=$!
    until pgqrs ctl status >"$root/tmp/ctl.log" 2>&1; do
        [ $SECONDS -lt $end ] || fail "pgqrsd does not answer"
        sleep 0.2
    done
}

stop() {
    kill -TERM "$daemon"
    wait "$daemon" || fail "pgqrsd ended with $?"
}

# checksum FILE: a job finds what sha256sum does
checksum() {
    local id sum
    sum=$(inside sha256sum "$1")
    id=$(pgqrs message enqueue checksum "{\"path\": \"$1\"}") || fail "not enqueued"
    pgqrs queue wait checksum --timeout 60s >/dev/null || fail "a job does not end: $id"
    pgqrs message get "${id##* }" -o json | grep -q "${sum%% *}" || fail "another result: $id"
}

# What is there, but for what apt, dpkg and adduser keep for themselves.
files() {
    inside find / -xdev \( -path /packages -o -path /proc -o -path /tmp -o -path /var/cache -o \
        -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path '/etc/*-' -o \
        -path /run/adduser \) -prune -o -print | LC_ALL=C sort
}

files >files.before

step "install"
apt update
install_from first
[ "$(inside stat -c '%U %G %a' /var/lib/pgqrs /etc/pgqrs/pgqrsd.yaml | xargs)" = \
    "pgqrs pgqrs 750 root pgqrs 640" ] || fail "owners and modes"
first=$(inside dpkg-query -W -f '${Version}' pgqrsd)

step "run $first"
start
(as_user pgqrs queue list) | grep -q checksum || fail "/etc/pgqrs/pgqrsd.yaml is not taken without --config"
checksum /usr/bin/pgqrsd
stop

step "compile a program with libpgqrs"
apt install gcc libc6-dev pkg-config
inside sh -c 'cc -o /tmp/enqueuer /usr/share/doc/libpgqrs-dev/examples/clients/enqueuer.c \
    $(pkg-config --cflags --libs pgqrs)' >"$root/tmp/cc.log" 2>&1 || fail "cc"

step "upgrade"
echo '# mine' >>"$root/etc/pgqrs/pgqrsd.yaml"
install_from next
next=$(inside dpkg-query -W -f '${Version}' pgqrsd)
inside dpkg --compare-versions "$next" gt "$first" || fail "$next is not above $first"
grep -q '^# mine' "$root/etc/pgqrs/pgqrsd.yaml" || fail "the configuration was replaced"
[ "$(inside stat -c '%U %G %a' /etc/pgqrs/pgqrsd.yaml)" = "root pgqrs 640" ] || fail "owner after the upgrade"

step "run $next"
start
pgqrs message list --queue checksum --state archived -o json | grep -q /usr/bin/pgqrsd || fail "the old job is lost"
checksum /usr/bin/pgqrs
stop

step "remove"
apt remove pgqrsd libpgqrs0 libpgqrs-dev
[ -e "$root/var/lib/pgqrs/queue.db" ] || fail "the queue is gone before a purge"
[ -e "$root/etc/pgqrs/pgqrsd.yaml" ] || fail "the configuration is gone before a purge"

step "purge"
apt purge pgqrsd
apt autoremove --purge gcc libc6-dev pkg-config
files >files.after
left=$(LC_ALL=C comm -13 files.before files.after)
[ -z "$left" ] || fail "left behind: $left"
inside dpkg-query -W '*pgqrs*' >"$root/tmp/dpkg.log" 2>&1 && fail "packages are left"
[ "$(inside getent passwd pgqrs | cut -d : -f 7)" = /usr/sbin/nologin ] || fail "the user can log in"

umount "$root/proc"
rm -rf --one-file-system "$root"
echo "deb-test: 1 passed, 0 failed"
