#!/bin/sh
# What `make run` shows: a job for each of up to 20000 files under /usr that takes its SHA-256, on
# four workers, one of which is killed in the middle.
#   examples/demo.sh BUILD
set -eu

build=${1:-build}
dir=$build/demo
config=$dir/pgqrsd.yaml
log=$dir/pgqrsd.log
daemon=

pgqrs() {
    "$build/bin/pgqrs" --config "$config" "$@"
}

# A number of the queue's metrics, such as ready.
metric() {
    pgqrs queue metrics checksums -o json | sed "s/.*\"$1\":\([0-9]*\).*/\1/"
}

fail() {
    echo "demo: $*" >&2
    [ ! -s "$log" ] || { echo "--- the end of $log" >&2; tail -n 20 "$log" >&2; }
    exit 1
}

stop_daemon() {
    [ -z "$daemon" ] || { kill -TERM "$daemon" && wait "$daemon"; } 2>/dev/null || :
}
trap stop_daemon EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

rm -rf "$dir"
mkdir -p "$dir"
unset PGQRS_DSN PGQRS_CONFIG_FILE PGQRS_RUNTIME_DIR PGQRS_LOG_LEVEL PGQRS_LOG_FORMAT
cat >"$config" <<END
dsn: sqlite:queue.db
queues:
  checksums:
    handler: checksum
    consumers: 4
    prefetch: 8
END
echo "--- $config"
cat "$config"

echo "--- install the schema, create the queue, enqueue a job a file"
pgqrs admin install
pgqrs queue create checksums
find /usr/include /usr/share /usr/lib -type f -readable -size -512k ! -name '*["\\]*' | head -n 20000 |
    pgqrs message enqueue checksums - --wrap path
jobs=$(metric ready)
[ "$jobs" -gt 0 ] || fail "there is no file to work on"

echo "--- start pgqrsd, kill a worker when a tenth of the jobs is done, wait for the rest"
begin=$(date +%s%N)
"$build/bin/pgqrsd" --config "$config" 2>"$log" &
daemon=$!
while [ "$(metric archived)" -lt $((jobs / 10)) ]; do
    kill -0 "$daemon" 2>/dev/null || fail "pgqrsd has ended"
    sleep 0.05
done
worker=$(pgqrs ctl status | awk '$1 == "checksums" && $4 > 0 { print $4; exit }')
[ -n "$worker" ] || fail "there is no worker"
echo "kill -KILL $worker, a worker; done so far: $(metric archived) of $jobs"
kill -KILL "$worker"
pgqrs queue wait checksums --timeout 10m || fail "the queue did not become empty"
ms=$((($(date +%s%N) - begin) / 1000000))

status=0
kill -TERM "$daemon"
wait "$daemon" || status=$?
daemon=
[ "$status" -eq 0 ] || fail "pgqrsd ended with status $status"
grep "killed by signal 9" "$log" || fail "the log does not tell of the worker that was killed"

echo "--- five results"
pgqrs message list --limit 5 -o json | sed 's/},{"id"/},\n{"id"/g' |
    sed 's/.*"payload":{"path":"\([^"]*\)"}.*"sha256": *"\([0-9a-f]*\)".*/\2  \1/'

echo "--- 25 results at random, compared with sha256sum"
for id in $(shuf -i "1-$jobs" -n 25); do
    pgqrs message get "$id" -o json |
        sed 's/.*"payload":{"path":"\([^"]*\)"}.*"sha256": *"\([0-9a-f]*\)".*/\2  \1/'
done >"$dir/sample"
sha256sum --check --quiet "$dir/sample" || fail "a digest is wrong"
echo "they agree"

archived=$(metric archived)
failed=$(metric failed)
echo "---"
echo "$archived of $jobs jobs in $ms ms, $((archived * 1000 / (ms + 1))) jobs/s, $failed failed"
[ "$archived" -eq "$jobs" ] && [ "$failed" -eq 0 ] || fail "not every job is done"
cat <<END

Try next:
  $build/bin/pgqrs --config $config queue metrics
  $build/bin/pgqrs --config $config message list --limit 5
  $build/bin/pgqrs --config $config message get 1
  $build/bin/pgqrs --config $config message enqueue checksums '{"path": "/etc/passwd"}'
  $build/bin/pgqrsd --config $config      # runs it; Ctrl-C stops
END
