#!/bin/sh
# Runs test programs; each passes by ending with 0. The variable WRAPPER is put before each (valgrind, say).
# usage: programs.sh PROGRAM...
set -u
passed=0 failed=0
for program in "$@"; do
    # shellcheck disable=SC2086 # a command with arguments
    if ${WRAPPER:-} "$program"; then
        passed=$((passed + 1))
        echo "ok: $(basename "$program")"
    else
        failed=$((failed + 1))
        echo "FAILED: $(basename "$program")"
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
