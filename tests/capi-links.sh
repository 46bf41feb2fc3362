#!/bin/sh
# Links the C library in the ways that kernels do, and checks that each is the same code: capi-links.sh target/capi-dist
# Needs gcc and binutils.
set -eu

dist=${1:?usage: capi-links.sh target/capi-dist}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
library=$dist/lib/xen9p.o

# A program that uses every function, as the header declares them.
vchan=
case $dist in *-vchan) vchan=-DXEN9P_VCHAN ;; esac
# shellcheck disable=SC2086 # nothing, or one option
gcc $vchan -std=c89 -pedantic -Wall -Wextra -Werror -O2 -ffreestanding -fno-pic -mno-red-zone -fno-asynchronous-unwind-tables \
	-fcf-protection=none -fno-stack-protector -fno-merge-constants -I "$dist/include" -c capi/tests/plain.c -o "$work/plain.o"

link() { # name, options
	name=$1
	shift
	ld -e kernel -Ttext=0x100000 -z noexecstack -z noseparate-code --build-id=none --no-warn-rwx-segments -o "$work/$name" "$@"
}
link plainly "$work/plain.o" "$library"
link from-archive "$work/plain.o" "$dist/lib/libxen9p.a"
link without-dead-code --gc-sections "$work/plain.o" "$library"
ld -r -o "$work/one.o" "$work/plain.o" "$library"
link in-two-steps "$work/one.o"
# As PVH kernels are made: 64-bit code in a file for 32 bits.
link as-elf32 --oformat=elf32-i386 "$work/plain.o" "$library"
objcopy -O elf32-i386 "$work/plainly" "$work/turned-into-elf32"

code() {
	objcopy -O binary --only-section=.text "$work/$1" "$work/$1.text"
	cmp -s "$work/plainly.text" "$work/$1.text" || {
		echo "xen9p.o linked $1 is other code than linked plainly" >&2
		exit 1
	}
}
objcopy -O binary --only-section=.text "$work/plainly" "$work/plainly.text"
[ -s "$work/plainly.text" ] || { echo 'the program has no code' >&2; exit 1; }
for name in from-archive without-dead-code in-two-steps as-elf32 turned-into-elf32; do
	code "$name"
done

if command -v pkg-config >/dev/null 2>&1; then
	found=$(PKG_CONFIG_PATH=$dist/lib/pkgconfig pkg-config --modversion xen9p)
	[ "$found" = "$(cat "$dist/VERSION")" ] || { echo "pkg-config says version $found" >&2; exit 1; }
fi
echo "xen9p.o links plainly, from the archive, with --gc-sections, by ld -r, and into ELF32"
