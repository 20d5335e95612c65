#!/bin/sh
# Runs the test programs below BUILD/tests, or the one that is named, and closes with a count.
#   tests/run.sh BUILD [NAME]
set -u
build=$1
name=${2-}
PGQRS_TEST_BUILD=$(cd "$build" && pwd)
export PGQRS_TEST_BUILD

passed=0
failed=0
failures=
for test in "$build"/tests/test_* "$build"/tests/it_*; do
    if [ ! -x "$test" ] || { [ -n "$name" ] && [ "${test##*/}" != "$name" ]; }; then
        continue
    fi
    echo "=== ${test##*/}"
    output=$build/tests/${test##*/}.log
    timeout -k 10 600 "$test" >"$output" 2>&1
    status=$?
    ok=$(grep -c '^\[       OK \]' "$output")
    bad=$(grep -c '^\[  FAILED  \] [a-z_0-9]*$' "$output")
    if [ $status -ne 0 ]; then
        [ "$bad" -gt 0 ] || bad=1
        cat "$output"
        echo "${test##*/}: exit status $status"
        failures="$failures ${test##*/}"
    else
        bad=0
        tail -n 1 "$output"
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
done
[ -z "$failures" ] || echo "failed:$failures"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
