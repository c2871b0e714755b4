#!/bin/sh
# Every standard takes tenure.hpp without a warning, with and without exceptions and run-time types, with every compiler
# that is there; and what was compiled with exceptions links with what was compiled without.
# usage: header.sh FOLDER-FOR-FILES
set -u
folder=$1
mkdir -p "$folder"
passed=0 failed=0
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wnon-virtual-dtor -Werror"

count() { # NAME COMMAND...
    name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $name"
    fi
}

# A function that makes use of most of it, since templates are compiled where they are used.
cat >"$folder/use.cpp" <<END
#include <tenure.hpp>
#include <tenure.hpp>
tenure::returned<tenure::service> NAME(const tenure::options &options)
{
    return tenure::service::open(options);
}
END

try() { # STANDARD FLAGS...
    # shellcheck disable=SC2086 # a list
    count "$compiler $*" $compiler -std="$@" $warnings -DNAME=use -Iinclude -fsyntax-only "$folder/use.cpp"
}

for compiler in g++ clang++; do
    command -v $compiler >/dev/null || { echo "no $compiler here"; continue; }
    for standard in c++17 c++20 c++2b; do
        try $standard
        try $standard -fno-exceptions -fno-rtti
    done
    try c++17 -fno-rtti
    try c++17 -DTENURE_NO_EXCEPTIONS
done
c++ -std=c++17 -Iinclude -DNAME=throws -c -o "$folder/throws.o" "$folder/use.cpp"
c++ -std=c++17 -Iinclude -DNAME=answers -fno-exceptions -c -o "$folder/answers.o" "$folder/use.cpp"
functions() { nm -C "$1" | sed -n 's/^[0-9a-f]* W \(tenure::.*\)/\1/p' | sort -u; }
functions "$folder/throws.o" >"$folder/throws"
functions "$folder/answers.o" >"$folder/answers"
count "there are functions to compare" grep -q service "$folder/throws" "$folder/answers"
count "none with exceptions is also one without" test -z "$(comm -12 "$folder/throws" "$folder/answers")"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -ge 10 ]
