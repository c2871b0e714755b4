#!/bin/sh
# Checks the checker that C tests run under: it must find what tests/c/planted.c plants, and nothing where that is
# nothing. The variable WRAPPER is put before the program (valgrind, say). With a library named, program and library
# must be instrumented by the address sanitizer, or by the thread sanitizer.
# usage: checker.sh PLANTED-PROGRAM [LIBRARY [thread]]
set -eu
program=$1 library=${2:-} sanitizer=${3:-memory}
passed=0 failed=0

check() { # NAME COMMAND...: counts whether the command succeeds
    name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $name"
    fi
}

run() { # DEFECT: what the checked program ends with
    # shellcheck disable=SC2086 # a command with arguments
    ${WRAPPER:-} "$program" "$1" >"$program.log" 2>&1
}

finds() { # DEFECT: does the checker say so, and not just end with a failure?
    ! run "$1" && grep -q "$2" "$program.log"
}

has_symbol() { nm "$1" | grep -q "$2"; }

case $sanitizer in
thread) in_program=__tsan_write in_library=__tsan_read ;;
*) in_program=__asan_report_store in_library=__asan_report_load ;;
esac
if [ -n "$library" ]; then
    check "the program is instrumented" has_symbol "$program.o" $in_program
    check "the library is instrumented" has_symbol "$library" $in_library
fi
check "nothing is found in a sound program" run none
case $sanitizer in
thread)
    check "a race is found" finds race "data race"
    ;;
*)
    check "an overflow is found" finds overflow "heap-buffer-overflow\|Invalid write of size 1"
    check "a leak is found" finds leak "detected memory leaks\|definitely lost"
    check "a use after free is found" finds use-after-free "heap-use-after-free\|Invalid read of size"
    ;;
esac
echo "$passed passed, $failed failed"
[ $failed = 0 ]
