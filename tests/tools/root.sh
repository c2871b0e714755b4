#!/bin/sh
# Runs a command as root: as it is, or by sudo.
if [ "$(id -u)" = 0 ]; then exec "$@"; fi
echo "as root: $*"
exec sudo "$@"
