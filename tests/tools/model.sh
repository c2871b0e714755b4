#!/bin/sh
# Runs models of the library's threads under loom (src/sync/), in the folder at hand: the model checker optimised, the
# library itself only a little, so that it builds soon.
# usage: model.sh [ARGUMENT OF cargo test...]
set -eu
fast=
for crate in loom generator scoped-tls; do fast="$fast --config profile.dev.package.$crate.opt-level=3"; done
# shellcheck disable=SC2086 # a list
RUSTFLAGS='--cfg model' exec cargo test --locked $fast --lib "$@"
