#!/bin/sh
# Where the bytes of images go: a table by crate and module, as docs/size.md has it.
# usage: benches/size.sh table NAME=ELF...    prints the document; the files are as they are linked, with their symbols
#        benches/size.sh check NAME=ELF...    fails where a file is more than 3 % larger or smaller than the document says
#
# A function counts for the module of its type, or of its trait where the type is any; what drops a value, for the value's.
# Needs binutils.
set -eu
cd "$(dirname "$0")/.."

document=docs/size.md
# Modules with less than this in each image are shown together.
least=2500

# The size of an image as it is booted.
booted() {
	stripped=$(mktemp)
	strip -o "$stripped" "$1"
	wc -c <"$stripped"
	rm -f "$stripped"
}

# Lines of an image: the number of its column, a module, bytes.
modules() {
	nm -C -S -t d "$2" | awk -v column="$1" '
		NF >= 4 && $3 !~ /[bB]/ {
			size = $2 + 0
			sub(/^[^ ]+ [^ ]+ [^ ]+ /, "")
			gsub(/core::ptr::drop_in_place</, "")
			gsub(/<impl [^>]*> as /, "")
			if ($0 ~ /^[<&]*([A-Z]|[[]u8[]]) as /) sub(/^.* as /, "")
			sub(/^[^a-zA-Z_]+/, "")
			sub(/^(mut |const |dyn )+/, "")
			split($0, part, /[^a-zA-Z0-9_:]/)
			split(part[1], path, "::")
			module = path[1]
			# Symbols without a path are functions in assembly, and those that the compiler calls.
			if (module !~ /^(p9_|xen|core|alloc|log$|sha2|linked_list|x86_64|spin)/ || path[2] == "") module = "(other symbols)"
			else if (module !~ /^(core|alloc|log|sha2|linked_list_allocator|x86_64|spin)$/) module = module "::" path[2]
			sum[module] += size
		}
		END { for (module in sum) print column, module, sum[module] }'
}

table() {
	cat <<'TEXT'
# Where the bytes go

`make bench-size` writes this page; `make test-size` fails where an image is 3 % off it. `hello` is examples/hello.rs: what an app
has that mounts one share. `hello-all` is the same with the features `recovery`, `trace` and `vchan`. `toolbox` has these too, every
command, the name space and the server.

TEXT
	names='' rule='' files='' sizes=''
	for image; do
		name=${image%%=*} file=${image#*=}
		names="$names $name |" rule="$rule---:|" files="$files $file"
		sizes="$sizes $(booted "$file") |"
	done
	echo "| bytes |$names"
	echo "|---|$rule"
	echo "| **the file that is booted** |$sizes"
	for section in .text .rodata .data .bss; do
		case $section in
		.text) line='| code |' ;;
		.rodata) line='| constants |' ;;
		.data) line='| data, and constants with addresses in them |' ;;
		.bss) line='| zeros, in memory only |' ;;
		esac
		for file in $files; do
			line="$line $(size -A "$file" | awk -v section=$section '$1 == section { print $2 }') |"
		done
		echo "$line"
	done
	echo
	echo "Code and named constants, by crate and module; text is not among them:"
	echo
	echo "| bytes |$names"
	echo "|---|$rule"
	column=0
	for file in $files; do
		column=$((column + 1))
		modules $column "$file"
	done | awk -v columns=$# -v least=$least '
		{
			name = $0
			sub(/^[0-9]+ /, "", name)
			sub(/ [0-9]+$/, "", name)
			size[name, $1] = $NF
			all[name] = 1
		}
		END {
			for (name in all) {
				most = 0
				for (i = 1; i <= columns; i++) if (size[name, i] > most) most = size[name, i]
				if (most < least) {
					for (i = 1; i <= columns; i++) rest[i] += size[name, i]
					continue
				}
				line = sprintf("%09d| %s |", most, name)
				for (i = 1; i <= columns; i++) line = line " " (size[name, i] + 0) " |"
				print line
			}
			line = "000000000| all others |"
			for (i = 1; i <= columns; i++) line = line " " rest[i] " |"
			print line
		}' | sort -r | sed 's/^[0-9]*//'
}

check() {
	wrong=0 column=2
	for image; do
		name=${image%%=*} file=${image#*=} column=$((column + 1))
		said=$(awk -F '|' -v column=$column '/the file that is booted/ { print $column + 0 }' $document)
		found=$(booted "$file")
		echo "$name: $found bytes; $document says $said"
		if [ $((found * 100)) -gt $((said * 103)) ] || [ $((found * 100)) -lt $((said * 97)) ]; then
			echo "$name: more than 3 % off; make bench-size writes the page anew" >&2
			wrong=1
		fi
	done
	return $wrong
}

what=$1
shift
"$what" "$@"
