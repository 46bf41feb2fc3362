#!/bin/sh
# The Debian package of xen9pd: what is in it, what lintian says where that is installed, and that Debian installs, runs and
# removes it. The last takes a network: PACKAGE_IN=bookworm|trixie, none by default.
# usage: package-check.sh PACKAGE.deb
set -eu

package=$1
fail() { echo "$package: $*" >&2; exit 1; }

contents=$(dpkg-deb -c "$package")
for file in usr/sbin/xen9pd usr/lib/systemd/system/xen9pd.service usr/share/man/man8/xen9pd.8.gz \
	usr/share/man/man5/xen9pd.toml.5.gz usr/share/doc/xen9pd/copyright usr/share/doc/xen9pd/examples/xen9pd.toml; do
	echo "$contents" | grep -q " \./$file$" || fail "lacks $file"
done
[ "$(echo "$contents" | grep -vc ' root/root ')" = 0 ] || fail "has files that are not root's"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
dpkg-deb -x "$package" "$stage"
! grep -rIl '@[A-Z]*@' "$stage" || fail "has a place that was not filled in"
for page in "$stage"/usr/share/man/man*/*; do
	! zcat "$page" | groff -man -ww -Tutf8 2>&1 >/dev/null | grep . || fail "$page"
done
"$stage/usr/sbin/xen9pd" --version
if command -v systemd-analyze >/dev/null; then
	ln -s "$stage/usr/sbin/xen9pd" "$stage/program"
	sed "s|/usr/sbin/xen9pd|$stage/usr/sbin/xen9pd|; /^Documentation=/d" "$stage/usr/lib/systemd/system/xen9pd.service" > "$stage/xen9pd.service"
	! systemd-analyze verify "$stage/xen9pd.service" 2>&1 | grep xen9pd || fail "systemd finds fault with the unit"
fi
if command -v lintian >/dev/null; then
	! lintian --allow-root "$package" | grep . || fail "lintian finds fault"
fi
[ -n "${PACKAGE_IN:-}" ] || exit 0
mmdebstrap --quiet --variant=apt --include=systemd "$PACKAGE_IN" /dev/null \
	--customize-hook="copy-in $package /tmp" \
	--customize-hook='chroot "$1" sh -ec "
		dpkg -i /tmp/*.deb
		systemctl is-enabled xen9pd
		xen9pd --version
		printf \"[[share]]\\npath = 1\\n\" > /etc/xen9pd.toml
		! xen9pd check
		dpkg -i /tmp/*.deb
		dpkg --purge xen9pd
		[ ! -e /usr/sbin/xen9pd ] && [ -e /etc/xen9pd.toml ]
		! systemctl is-enabled xen9pd"'
