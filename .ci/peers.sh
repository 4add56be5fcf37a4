#!/bin/sh
# Installs what the tests need beside Go, on Debian and its kin: a C compiler for the race detector, and the programs that the
# tests of cmd/reveille/peertest run the bridge against.
# Quick when they are there already. Not root: says what to install, and fails.
set -eu

missing=
need() { # program, package
	# kamailio and ip are in /usr/sbin, which is not on everybody's PATH
	if ! command -v "$1" >/dev/null && ! test -x "/usr/sbin/$1"; then
		missing="$missing $2"
	fi
}
need make make
need "${CC:-gcc}" "gcc libc6-dev"
need curl curl
need sipp sip-tester
need baresip baresip-core
need kamailio kamailio
need rtpengine rtpengine-daemon # without its kernel module
need stdbuf coreutils
need ip iproute2 # its test is skipped where no network namespace can be made
need nft nftables # the NATs between phone and bridge
need chromium chromium # a phone in a web page
need python3 python3 # runs the receiver of webhooks that docs/webhook.md shows
test -n "$missing" || exit 0

install="apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null; then
	echo "The tests need the Debian packages:$missing. Install what your system calls them." >&2
	exit 1
fi
if test "$(id -u)" != 0; then
	echo "The tests need:$missing. As root:  apt-get update && $install" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# The package must not start a SIP server of its own on port 5060: what apt asks before it starts a service says no.
policy=/usr/sbin/policy-rc.d
if ! test -e "$policy"; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
# The lists of packages may be there and good: update them only if they are not.
# shellcheck disable=SC2086 # one word for each package
apt-get install -y --no-install-recommends $missing >/dev/null 2>&1 || {
	apt-get update -q
	apt-get install -y -q --no-install-recommends $missing
}
