#!/bin/sh
# Stands in for a worker: waits for its task, says that it serves, and ends when it is told to.
[ -n "$(cat)" ] || exit 0
echo ready
exec sleep 60
