#!/bin/sh
# Checks that the thread sanitizer finds a race where one is planted, and nothing where that is nothing.
# usage: race_checker.sh PLANTED-PROGRAM LIBRARY
set -eu
program=$1 library=$2
passed=0 failed=0

check() { # NAME COMMAND...: counts whether the command succeeds
    name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $name"
    fi
}

finds() { # DEFECT
    ! "$program" "$1" >"$program.log" 2>&1 && grep -q "data race" "$program.log"
}

has_symbol() { nm "$1" | grep -q "$2"; }

check "the program is instrumented" has_symbol "$program.o" __tsan_write
check "the library is instrumented" has_symbol "$library" __tsan_read
check "nothing is found in a sound program" "$program" none
check "a race is found" finds race
echo "$passed passed, $failed failed"
[ $failed = 0 ]
