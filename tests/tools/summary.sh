#!/bin/sh
# Runs parts of the tests, each a target of make, one after the other, all of them even if one fails; then adds up what
# they say: cargo's "test result" lines and lines "N passed, N failed". A part that counts nothing counts as one.
# usage: summary.sh FOLDER-FOR-LOGS PART...
set -u
logs=$1
shift
mkdir -p "$logs"
passed=0 failed=0 broken=
for part in "$@"; do
    echo "== $part"
    { "${MAKE:-make}" --no-print-directory "$part" 2>&1; echo $? >"$logs/status"; } | tee "$logs/$part.log"
    status=$(cat "$logs/status")
    counted=$(sed -n -E 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed.*/\1 \2/p
        s/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$logs/$part.log" |
        awk '{ passed += $1; failed += $2 } END { print passed + 0, failed + 0 }')
    part_passed=${counted% *} part_failed=${counted#* }
    if [ "$status" != 0 ] && [ "$part_failed" = 0 ]; then part_failed=1; fi
    if [ "$status" = 0 ] && [ "$counted" = "0 0" ]; then part_passed=1; fi
    passed=$((passed + part_passed)) failed=$((failed + part_failed))
    [ "$part_failed" = 0 ] || broken="$broken $part"
done
[ -z "$broken" ] || echo "failed in:$broken (logs in $logs)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
