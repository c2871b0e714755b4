#!/bin/sh
# Runs parts of the tests, each a target of make, all of them even if one fails; then adds up what they say: cargo's "test
# result" lines and lines "N passed, N failed". A part that counts nothing counts as one.
# usage: summary.sh FOLDER-FOR-LOGS PART... [-- PART...]
# Parts on either side of a "--" are a lane; lanes run beside each other.
set -u
logs=$1
shift
rm -rf "$logs"
mkdir -p "$logs"
printf '%s ' "$@" | sed 's/ -- /\n/g' | xargs -d '\n' -n 1 -P "$#" tests/tools/lane.sh "$logs"
passed=0 failed=0 broken=
for part in "$@"; do
    [ "$part" != -- ] || continue
    # A part that was cut off has no status.
    status=$(cat "$logs/$part.status" 2>/dev/null || echo none)
    counted=$(sed -n -E 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed.*/\1 \2/p
        s/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$logs/$part.log" 2>/dev/null |
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
