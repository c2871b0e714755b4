#!/bin/sh
# Installs the Debian packages and the parts of the Rust toolchain that the build and the tests need and that are missing.
# usage: packages.sh build|test
set -eu
here=$(cd "$(dirname "$0")" && pwd)
packages=

# protoc alone is not enough: the .proto files that come with it are in a package of their own.
protoc_works() {
    folder=$(mktemp -d)
    echo 'syntax = "proto3"; import "google/protobuf/descriptor.proto";' >"$folder/probe.proto"
    status=0
    "${PROTOC:-protoc}" -I "$folder" --descriptor_set_out=/dev/null "$folder/probe.proto" >/dev/null 2>&1 || status=1
    rm -r "$folder"
    return $status
}

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || packages="$packages $2"
}

protoc_works || packages="$packages protobuf-compiler libprotobuf-dev"
# By it Go finds the library.
need pkg-config pkg-config
if [ "$1" = test ]; then
    need g++ g++
    need valgrind valgrind
    [ -e /usr/include/gtest/gtest.h ] || packages="$packages libgtest-dev"
    need cmake cmake
    need openssl openssl
    # Networks that tests cut.
    need ip iproute2
    # JSON for the conformance drivers in C and C++.
    [ -e /usr/include/jansson.h ] || packages="$packages libjansson-dev"
    [ -e /usr/include/nlohmann/json.hpp ] || packages="$packages nlohmann-json3-dev"
    # Debian's python3 makes no virtual environments without this package.
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
    for component in rustfmt clippy; do
        cargo "$(echo $component | sed s/rustfmt/fmt/)" --version >/dev/null 2>&1 || {
            echo "installing $component"
            rustup component add $component
        }
    done
fi
if [ -n "$packages" ]; then
    echo "installing$packages"
    "$here/root.sh" apt-get update -q
    # shellcheck disable=SC2086 # a list
    "$here/root.sh" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
fi
