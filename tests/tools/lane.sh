#!/bin/sh
# Runs parts of the tests one after the other. What each says is in its log, and shown when it is over, so that lanes
# beside each other don't mix. For summary.sh, which reads the logs and statuses.
# usage: lane.sh FOLDER-FOR-LOGS 'PART...'
set -u
logs=$1
for part in $2; do
    echo "== $part begins"
    begun=$(date +%s)
    "${MAKE:-make}" --no-print-directory "$part" >"$logs/$part.log" 2>&1
    echo $? >"$logs/$part.status"
    echo "== $part, $(($(date +%s) - begun)) s" | flock "$logs/lock" cat - "$logs/$part.log"
done
