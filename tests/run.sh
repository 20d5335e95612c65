#!/bin/sh
# Runs the test programs below BUILD/tests, or the one that is named, and closes with a count.
#   tests/run.sh BUILD [NAME]
# Those named in $PGQRS_TEST_LEAVE_OUT are left out, unless one is asked for.
set -u
build=$1
name=${2-}
PGQRS_TEST_BUILD=$(cd "$build" && pwd)
export PGQRS_TEST_BUILD

# How many tests ended so; cmocka names some of them twice.
count() {
    grep "^\[ *$1 *\] [a-z_0-9]*$" "$output" | sort -u | wc -l
}

passed=0
failed=0
skipped=0
failures=
for test in "$build"/tests/test_* "$build"/tests/it_*; do
    if [ ! -x "$test" ] || { [ -n "$name" ] && [ "${test##*/}" != "$name" ]; }; then
        continue
    fi
    case " ${PGQRS_TEST_LEAVE_OUT-} " in
    *" ${test##*/} "*) [ -n "$name" ] || continue ;;
    esac
    echo "=== ${test##*/}"
    output=$build/tests/${test##*/}.log
    timeout -k 10 600 "$test" >"$output" 2>&1
    status=$?
    ok=$(count OK)
    bad=$(count FAILED)
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
    skipped=$((skipped + $(count SKIPPED)))
    failed=$((failed + bad))
done
[ -z "$failures" ] || echo "failed:$failures"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
