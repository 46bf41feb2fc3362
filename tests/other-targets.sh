#!/bin/sh
# That the packages named compile for a processor that is not Xen's: one without an operating system, so that nothing of std
# comes in either.
# usage: tests/other-targets.sh PACKAGE...
set -eu

target=aarch64-unknown-none
if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
	echo "$target: not tried, for its core library is not installed (rustup target add $target)"
	exit 0
fi
for package; do
	cargo check --quiet --target "$target" --lib -p "$package" --target-dir target/other-targets
done
echo "$target: $*"
