#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the commands of a document, as one session of a reader with a fresh copy of the source that
# is built, in a scratch directory. Every command has to succeed; tests/docs.awk says what is run.
#   tests/docs.sh DOCUMENT COUNTS PG PORT
# COUNTS: a file that gets the number of blocks that were run, and of those that were not. In the
# document postgres://jobs@db.example/app is the database PG, localhost:9090 has the port PORT, and
# files below /etc/pgqrs, /var/lib/pgqrs and /run/pgqrs are below the scratch directory.
set -u
document=$1
counts=$2
pg=$3
port=$4
top=$PWD
build=$(cd "$PGQRS_TEST_BUILD" && pwd) || exit 1

scratch=$(mktemp -d /tmp/pgqrs-docs-XXXXXX)
trap '[ $BASHPID != $$ ] || rm -rf "$scratch"' EXIT
mkdir -p -m 700 "$scratch"/run "$scratch"/{etc,run,var/lib}/pgqrs
cp -r "$top"/{README.md,docs,examples,include,packaging} "$scratch"
ln -s "$build" "$scratch/build"
[ ! -x build/venv-pgqrs/bin/python3 ] || ln -s "$top/build/venv-pgqrs" "$scratch/venv"
case $document in /*) top_document=$document ;; *) top_document=$top/$document ;; esac
sed -E "s#(^|[^[:alnum:]_.}])(/etc|/var/lib|/run)/pgqrs#\1$scratch\2/pgqrs#g
    s#postgres://jobs@db\.example(:5432)?/app#$pg#g
    s#(localhost|127\.0\.0\.1):9090#127.0.0.1:$port#g" "$top_document" >"$scratch/${document##*/}"
cd "$scratch" || exit 1
awk -f "$top/tests/docs.awk" "${document##*/}" >session || exit 1

# Links to files and headings that are not there.
bad_links() {
    local link target
    grep -o '\]([^) ]*)' "$top_document" | sed 's/^](//; s/)$//' | while read -r link; do
        case $link in http*) continue ;; esac
        target=$(dirname "$document")/${link%%#*}
        [ "${link%%#*}" != "" ] || target=$document
        case $target in /*) ;; *) target=$top/$target ;; esac
        [ -e "$target" ] || echo "$link"
        [ "$link" = "${link#*#}" ] || [ ! -f "$target" ] ||
            sed -n 's/^##* //p' "$target" | tr '[:upper:] ' '[:lower:]-' | tr -cd 'a-z0-9\n-' |
            grep -qxF "${link#*#}" || echo "$link"
    done
}
links=$(bad_links)
[ -z "$links" ] || { echo "$document: there is no $links" >&2; exit 1; }

for name in ${!PGQRS_*}; do
    [ "$name" = PGQRS_TEST_BUILD ] || unset "$name"
done
export RUSTUP_HOME=${RUSTUP_HOME-$HOME/.rustup} CARGO_HOME=${CARGO_HOME-$HOME/.cargo}
export HOME=$scratch XDG_RUNTIME_DIR=$scratch/run PATH=$scratch/build/bin:$PATH
export LC_ALL=C.UTF-8 PKG_CONFIG_PATH=$scratch
sed "s|^prefix=.*|prefix=$scratch|; s|@PREFIX@|$scratch|; s|@LIBDIR@|$build/lib|; s|@VERSION@|0|" \
    "$top/packaging/pgqrs.pc.in" >pgqrs.pc
pgqrs=$scratch/build/bin/pgqrs
run=0
not_run=0

failed() {
    trap - ERR
    echo "$document:$2: exit status $1: $3" >&2
    leftover KILL
    exit 1
}
# Ends what still works in the scratch directory; 1 when something did.
leftover() {
    local pid pids=
    for pid in $(find /proc -maxdepth 2 -name cwd -lname "$scratch*" 2>/dev/null | cut -d / -f 3); do
        case $pid in $$ | $BASHPID) ;; *) pids="$pids $pid" ;; esac
    done
    [ -z "$pids" ] || ! builtin kill "-$1" $pids 2>/dev/null
}
runs_block() { run=$((run + 1)); }
# A shell at a terminal notes that a job has ended; its number is free then.
reap() {
    local job
    [ $BASHPID = $$ ] || return 0
    for job in $(jobs -p); do
        builtin kill -0 "$job" 2>/dev/null || ended "$job" || return
    done
}
not_run() {
    not_run=$((not_run + 1))
    echo "$document: not run: $1"
}
wrong() {
    echo "$1" >&2
    return 1
}
in_sql() {
    runs_block
    PGOPTIONS="-c search_path=jobs,public" psql -X -q -v ON_ERROR_STOP=1 "$pg"
}
# What leaves out the database or the queues means those that the reader has, and so do plugins.
is_config() {
    runs_block
    sed -E 's#(handler: ).*/[a-z_]+\.so#\1./plugin.so#; s#(user: )[a-z]+#\1nobody#
        s#(directory: ).*#\1/tmp#' >checked.yaml
    cp -u build/lib/pgqrs/handlers/checksum.so plugin.so
    grep -q '^queues:' checked.yaml || echo 'queues: {checksums: {handler: checksum}}' >>checked.yaml
    grep -q '^dsn:' checked.yaml || echo 'dsn: sqlite:checked.db' >>checked.yaml
    timeout 20 build/bin/pgqrsd -c checked.yaml --check || [ $? = 1 ] # 1: this host is not the one
}
# A reader looks for a while, then presses Ctrl-C; and needs longer to type than pgqrsd to start.
pgqrs() {
    case " $* " in
    *" --watch "*) timeout --preserve-status -s INT 2 "$pgqrs" "$@" ;;
    *" ctl "* | *" doctor "* | *" scale "* | *" --isolated "* | *" broker:"*)
        for _ in {1..100}; do
            "$pgqrs" ctl status >/dev/null 2>&1 && break
            sleep 0.1
        done
        "$pgqrs" "$@" || { [ $? = 1 ] && [ "$1" = doctor ]; } # it has found something
        ;;
    *) "$pgqrs" "$@" ;;
    esac && reap
}
kill() {
    case ${!#} in %*) has_begun "$(jobs -p "${!#}")" ;; esac
    builtin kill "$@" || return
    case ${!#} in %*) ended "${!#}" ;; esac
}
has_begun() { # a reader is not as quick as to kill what is still the shell
    for _ in {1..500}; do
        [[ $(readlink "/proc/$1/exe") = */bash ]] || return 0
        sleep 0.01
    done
}
# A daemon that was told to stop: 0, or 75 when jobs were given back; others die of the signal.
ended() {
    wait "$1"
    local status=$?
    case $status in 0 | 75 | 143) return 0 ;; esac
    echo "$1 has ended with status $status" >&2
    return 1
}
build/bin/pgqrs() { pgqrs "$@"; }

trap 'failed $? $LINENO "$BASH_COMMAND"' ERR
set -o pipefail
. ./session
trap - ERR
for job in $(jobs -p); do # what the reader has left running
    has_begun "$job"
    builtin kill -TERM "$job" 2>/dev/null
    ended "$job" || failed $? end "a daemon"
done
leftover KILL || failed 1 end "a process was left"
echo "$run $not_run" >"$counts"
