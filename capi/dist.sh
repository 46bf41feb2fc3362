#!/bin/sh
# Builds the C library for any kernel's link into target/capi-dist: header, archive, the one object in it, pkg-config file.
# usage: capi/dist.sh, from anywhere and with any RUSTFLAGS; FEATURES=vchan: the object that has vchans and serves, into
# target/capi-dist-vchan; FEATURES=cache: the one whose mounts can have a cache, into target/capi-dist-cache; FEATURES='vchan cache':
# both, into target/capi-dist-vchan-cache
#
# For x86_64-unknown-none, whose core library uses neither the red zone nor the registers that interrupt handlers of kernels
# don't save; what is left of that is checked by the code itself. Needs binutils. Ends with status 77 where that core library
# can't be had.
set -eu
cd "$(dirname "$0")/.."

target=x86_64-unknown-none
build=target/capi
# Code and constants, in bytes: what is more needs a reason.
out=target/capi-dist
limit=400800
for feature in ${FEATURES:-}; do
	case $feature in
	vchan) limit=$((limit + 236800)) ;;
	cache) limit=$((limit + 57200)) ;;
	*)
		echo "xen9p: FEATURES are vchan and cache, or nothing, not '$FEATURES'" >&2
		exit 1
		;;
	esac
	out=$out-$feature
done

rm -rf "$out"
if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] && ! rustup target add "$target"; then
	echo "xen9p: the C library is not built: Rust's core library for $target can't be had (rustup target add $target)" >&2
	exit 77
fi

# Flags that the environment has are for programs of another kind.
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET
RUSTFLAGS="-C force-frame-pointers=no --remap-path-prefix=$PWD=xen9p --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo ${CAPI_RUSTFLAGS:-}" \
	CARGO_PROFILE_IMAGE_OPT_LEVEL=z CARGO_PROFILE_IMAGE_DEBUG=0 \
	cargo rustc --quiet --profile image --target "$target" --target-dir "$build" -p xen9p-capi --features "freestanding ${FEATURES:-}" \
	--crate-type staticlib
archive=$build/$target/image/libxen9p_capi.a

# Everything that the header declares, and what that needs.
names=$(grep -o '\bxen9p_[a-z_0-9]*(' include/xen9p.h | tr -d '(' | sort -u)
declared=
for name in $names; do
	case $out:$name in *-vchan*:*) ;; *:xen9p_serve) continue ;; esac
	grep -q "fn $name(" capi/src/*.rs && declared="$declared $name"
done
keep=
for name in $declared; do
	keep="$keep -u $name"
done
# shellcheck disable=SC2086 # a list
ld -r --gc-sections $keep -T capi/merge.ld -o "$build/whole.o" "$archive"
objcopy --wildcard --keep-global-symbol='xen9p_*' --strip-unneeded --remove-section=.group --add-section .note.GNU-stack=/dev/null "$build/whole.o"

mkdir -p "$out/include" "$out/lib/pkgconfig"
cargo run --quiet -p xen9p-prelink -- "$build/whole.o" "$out/lib/xen9p.o"

wrong=0
fail() {
	echo "$out/lib/xen9p.o: $*" >&2
	wrong=1
}
objdump -d -M intel --no-show-raw-insn "$out/lib/xen9p.o" >"$build/code.txt"
vectors=$(awk '/>:$/ { name = $2 } /[xyz]mm[0-9]|\<mm[0-7]\>|\<st\([0-7]\)|\<f(ld|st|ild|ist|add|mul|sub|div)/ { print name }' "$build/code.txt" | sort -u)
[ -z "$vectors" ] || fail "uses registers of vectors or floating point:" $vectors
below=$(awk '/>:$/ { name = $2 } /\[rsp-0x/ { print name }' "$build/code.txt" | sort -u)
[ -z "$below" ] || fail "uses memory below the stack pointer:" $below
# shellcheck disable=SC2046 # columns
set -- $(size "$out/lib/xen9p.o" | tail -n 1)
[ "$1" -le "$limit" ] || fail "has $1 bytes of code and constants, more than $limit"
for name in $declared; do
	readelf -sW "$out/lib/xen9p.o" | grep -q " GLOBAL .* $name\$" || fail "does not define $name"
done
[ "$wrong" -eq 0 ] || exit 1

ar rcsD "$out/lib/libxen9p.a" "$out/lib/xen9p.o"
cp include/xen9p.h "$out/include/"
cp LICENSE-MIT LICENSE-APACHE "$out/"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' capi/Cargo.toml)
echo "$version" >"$out/VERSION"
cat >"$out/lib/pkgconfig/xen9p.pc" <<EOF
prefix=\${pcfiledir}/../..

Name: xen9p
Description: Files of the host over Xen's 9pfs device, for kernels
Version: $version
License: MIT OR Apache-2.0
Cflags: -I\${prefix}/include
Libs: -L\${prefix}/lib -lxen9p
EOF
echo "$out: $1 bytes of code and constants, $2 of data, $3 more when loaded; one object, nothing undefined"
