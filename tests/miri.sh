#!/bin/sh
# Miri runs what reads and writes memory by raw pointers: the simulated Xen's grant table and rings, and the ring alone.
set -eu

if ! cargo +nightly miri --version >/dev/null 2>&1; then
	echo "Miri: not tried, for it is not installed (rustup +nightly component add miri rust-src)"
	exit 0
fi
# Proptest looks for the directory of its regressions.
export MIRIFLAGS='-Zmiri-disable-isolation' PROPTEST_CASES=2
cargo +nightly miri test --quiet --target-dir target/miri --test ring state::
cargo +nightly miri test --quiet --target-dir target/miri --test xen grant::
