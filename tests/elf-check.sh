#!/bin/sh
# Checks a linked image, before it is stripped: elf-check.sh ELF
#
# One static file that both kinds of Xen domain can start, with nothing left for a loader to do,
# and no code that keeps data below the stack pointer. Needs binutils. Prints the size that a
# domain loads; ends with 1 and one line for each thing that is wrong.
set -eu

elf=${1:?usage: elf-check.sh ELF}
wrong=0

fail() {
    echo "$elf: $*" >&2
    wrong=1
}

[ -r "$elf" ] || { echo "$elf: no such file" >&2; exit 1; }
headers=$(LC_ALL=C readelf -hlW "$elf")
case $headers in
    *'EXEC (Executable file)'*) ;;
    *) fail 'is not a static executable with fixed addresses' ;;
esac
case $headers in
    *DYNAMIC*) fail 'has a dynamic section' ;;
esac
case $headers in
    *INTERP*) fail 'wants an interpreter' ;;
esac
printf '%s\n' "$headers" | grep -q 'LOAD.* RWE ' && fail 'has a segment that is writable and executable'

[ -n "$(nm "$elf" 2>/dev/null)" ] || fail 'has no symbols to check; check the file before it is stripped'
undefined=$(nm -u "$elf" 2>/dev/null)
[ -z "$undefined" ] || fail "has undefined symbols:" $undefined

# Types of Xen's notes (public/elfnote.h): 1 and 3 to 6, 8, 10, 14 for PV, 18 for PVH. readelf writes
# them as names that other systems gave the same numbers, or in hexadecimal.
notes=$(LC_ALL=C readelf -nW "$elf" | awk '$1 == "Xen"' | wc -l)
[ "$notes" -eq 9 ] || fail "has $notes Xen notes instead of 9"
LC_ALL=C readelf -nW "$elf" | grep -q '^ *Xen .*NT_VERSION' || fail 'has no PV entry note'
LC_ALL=C readelf -nW "$elf" | grep -q '^ *Xen .*(0x00000012)' || fail 'has no PVH entry note'
LC_ALL=C readelf -lW "$elf" | awk '$1 == "NOTE"' | grep -q . || fail 'has no note segment'

# Below the stack pointer nothing is safe from an exception handler's frame.
red_zone=$(objdump -d -M intel --no-show-raw-insn "$elf" |
    awk '/>:$/ { name = $2 } /\[rsp-0x/ { print name }' | sort | uniq -c)
[ -z "$red_zone" ] || fail "uses the red zone:" "$red_zone"

[ "$wrong" -eq 0 ] || exit 1
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$elf"
set -- $(size "$elf" | tail -n 1)
echo "$elf: $(wc -c <"$stripped") bytes stripped: $1 code and constants, $2 data; $3 more when loaded"
