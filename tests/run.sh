#!/bin/sh
# Runs the test programs below BUILD/tests, or the one that is named, and closes with a count.
#   tests/run.sh BUILD [NAME]
# $PGQRS_TEST_JOBS of them run at a time, two for each processor unless it is set: most of what they
# do is to wait. Those named in $PGQRS_TEST_LEAVE_OUT are left out, unless asked for.
set -u
build=$1
name=${2-}
PGQRS_TEST_BUILD=$(cd "$build" && pwd)
export PGQRS_TEST_BUILD

# Leaves NAME.log and NAME.status, and says how it went.
run_one='
test=$1
began=$(date +%s)
timeout -k 10 600 "$test" >"$test.log" 2>&1
status=$?
echo $status >"$test.status"
if [ $status -eq 0 ]; then
    echo "=== ${test##*/}: $(tail -n 1 "$test.log") $(($(date +%s) - began)) s"
else
    echo "=== ${test##*/}: exit status $status"
fi'

# How many tests ended so; cmocka names some of them twice.
count() {
    grep "^\[ *$1 *\] [a-z_0-9]*$" "$test.log" | sort -u | wc -l
}

tests=
for test in "$build"/tests/it_* "$build"/tests/test_*; do # the long ones first
    case $test in *.log | *.status) continue ;; esac
    if [ ! -x "$test" ] || { [ -n "$name" ] && [ "${test##*/}" != "$name" ]; }; then
        continue
    fi
    case " ${PGQRS_TEST_LEAVE_OUT-} " in
    *" ${test##*/} "*) [ -n "$name" ] || continue ;;
    esac
    rm -f "$test.status"
    tests="$tests $test"
done
# shellcheck disable=SC2086 # no path of a test has a space
[ -z "$tests" ] ||
    printf '%s\n' $tests | xargs -P "${PGQRS_TEST_JOBS:-$(($(nproc) * 2))}" -I TEST sh -c "$run_one" sh TEST

passed=0
failed=0
skipped=0
failures=
for test in $tests; do
    bad=$(count FAILED)
    if [ "$(cat "$test.status" 2>/dev/null)" != 0 ]; then
        [ "$bad" -gt 0 ] || bad=1
        echo "=== ${test##*/}"
        cat "$test.log"
        failures="$failures ${test##*/}"
    else
        bad=0
    fi
    passed=$((passed + $(count OK)))
    skipped=$((skipped + $(count SKIPPED)))
    failed=$((failed + bad))
done
[ -z "$failures" ] || echo "failed:$failures"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
