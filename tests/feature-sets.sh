#!/bin/sh
# Clippy on each of the packages named, with every set of its features: what one feature needs must not come of another. Of more
# than six features, only with sets of at most two, and with those that lack at most one.
# usage: tests/feature-sets.sh PACKAGE...
set -eu

# The features of a manifest, but for the default.
features() {
	awk '/^\[/ { inside = $0 == "[features]" } inside && /^[a-z0-9_-]+ *=/ && $1 != "default" { print $1 }' "$1"
}

for package; do
	manifest=Cargo.toml
	[ "$package" = xen9p ] || manifest=crates/$package/Cargo.toml
	sets=','
	all=0
	for feature in $(features "$manifest"); do
		with=
		for set in $sets; do with="$with $set$feature,"; done
		sets="$sets$with"
		all=$((all + 1))
	done
	count=0
	for set in $sets; do
		commas=$(printf %s "$set" | tr -d '[:alnum:]_-')
		has=$((${#commas} - 1))
		[ $all -le 6 ] || [ $has -le 2 ] || [ $has -ge $((all - 1)) ] || continue
		cargo clippy --quiet -p "$package" --lib --no-default-features --features "${set#,}" -- -D warnings || {
			echo "$package with the features '${set#,}': see above" >&2
			exit 1
		}
		count=$((count + 1))
	done
	echo "$package: sets of features: $count"
done
