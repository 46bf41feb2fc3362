#!/bin/sh
# Runs `make PART` for several parts at the same time. What the first prints is shown as it comes. The others give way to it; what they
# print is shown when they are done, and until then is in target/side-by-side. Fails if one part does, and says which.
# usage: tests/side-by-side.sh PART...
set -u
cd "$(dirname "$0")/.."
logs=target/side-by-side
mkdir -p $logs
# A shell has what it runs in the background ignore Ctrl-C.
trap 'trap - INT TERM; kill -TERM 0' INT TERM
first=$1
shift
others=
for part; do
	{
		nice -n 10 "${MAKE:-make}" --no-print-directory "$part" >"$logs/$part.log" 2>&1 </dev/null
		status=$?
		cat "$logs/$part.log"
		echo "xen9p: make $part ended with status $status"
		exit $status
	} &
	others="$others $!"
	echo "xen9p: make $part runs beside this; what it prints is in $logs/$part.log"
done
failed=
"${MAKE:-make}" --no-print-directory "$first" || failed=1
echo "xen9p: make $first ended${failed:+ and failed}"
for process in $others; do
	wait "$process" || failed=1
done
[ -z "$failed" ]
