# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# Sourced by scripts/check: what the scripts say to bad input. Everything happens in a copy of the
# repository with a cache of its own.

# refuses NAME STATUS PATTERN... -- COMMAND...: COMMAND must end with STATUS and say each PATTERN
# (extended regular expressions) on stderr.
refuses() {
	local name="input $1" want=$2 pattern status=0 patterns=()
	shift 2
	while [ "$1" != -- ]; do
		patterns+=("$1")
		shift
	done
	shift
	"$@" >"$W/stdout" 2>"$W/stderr" </dev/null || status=$?
	if [ "$status" -ne "$want" ]; then
		not_ok "$name" "ended with status $status, not $want" "$W/stderr"
		return
	fi
	for pattern in "${patterns[@]}"; do
		grep -qE -e "$pattern" "$W/stderr" || {
			not_ok "$name" "does not say /$pattern/" "$W/stderr"
			return
		}
	done
	ok "$name"
}

declare_check input "messages for bad input"
check_input() {
	local c=$W/copy cache=$W/cache tarball known lanes name tool
	tarball=$("$ROOT/scripts/fetch" --print)
	copy_repo "$c"
	lanes=$(lane_list | paste -sd ' ')
	known=$("$ROOT/scripts/selftests" --list | paste -sd ' ')

	refuses "LANE of boot" 2 "nosuch" "$lanes" -- env LANE=nosuch "$c/scripts/boot"
	refuses "LANE of kernel" 2 "nosuch" "$lanes" -- "$c/scripts/kernel" nosuch
	refuses "LANE of make" 2 "nosuch" "$lanes" -- make -C "$c" boot LANE=nosuch
	refuses "TEST" 2 "nosuch" "$known" -- env TEST=nosuch "$c/scripts/boot"
	refuses "TEST of make" 2 "nosuch" "$known" -- make -C "$c" boot TEST=nosuch
	refuses "CPUS" 2 "'0'" -- env CPUS=0 "$c/scripts/boot"
	refuses "INIT" 2 "'/nonexistent'" -- env INIT=/nonexistent "$c/scripts/boot"

	# A flipped byte, in a file of the user and in the cache; nothing answers at this proxy.
	mkdir -p "$cache/linux-nspa/dl"
	cp "$tarball" "$W/bad.tar.xz"
	printf 'x' | dd of="$W/bad.tar.xz" bs=1 seek=1000000 conv=notrunc status=none
	known=$(sha256sum "$W/bad.tar.xz" | cut -d ' ' -f 1)
	refuses "LINUX_TARBALL with a flipped byte" 1 "$TARBALL_SHA256" "$known" -- \
		env "LINUX_TARBALL=$W/bad.tar.xz" "$c/scripts/fetch"
	refuses "LINUX_TARBALL that is not there" 1 "/nonexistent.*no such file" -- \
		env LINUX_TARBALL=/nonexistent "$c/scripts/fetch"
	refuses "RT_PATCH that is not it" 1 "$RT_SHA256" -- env "RT_PATCH=$ROOT/COPYING" "XDG_CACHE_HOME=$cache" \
		"LINUX_TARBALL=$tarball" "$c/scripts/fetch"
	rm -rf "$cache/linux-nspa/dl"
	mkdir -p "$cache/linux-nspa/dl"
	mv "$W/bad.tar.xz" "$cache/linux-nspa/dl/$(basename "$TARBALL_URL")"
	local offline=(env -u LINUX_TARBALL "XDG_CACHE_HOME=$cache" http_proxy=http://127.0.0.1:9
		https_proxy=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 ftp_proxy=http://127.0.0.1:9 no_proxy='')
	refuses "cached tarball with a flipped byte" 1 "expected.*$TARBALL_SHA256" "actual.*$known" -- \
		"${offline[@]}" "$c/scripts/fetch"
	refuses "no network and no tarball" 1 "$TARBALL_URL" "$cache/linux-nspa/dl" "LINUX_TARBALL=" -- \
		"${offline[@]}" "$c/scripts/fetch"

	# Everything but QEMU
	mkdir "$W/bin"
	for tool in ${PATH//:/ }; do
		[ ! -d "$tool" ] || find "$tool" -maxdepth 1 ! -type d ! -name 'qemu-system-*' -exec ln -sf -t "$W/bin" {} + 2>/dev/null || true
	done
	: >"$W/kernel"
	refuses "no QEMU" 2 "qemu-system-x86" -- env "PATH=$W/bin" "$c/scripts/vm" \
		--kernel "$W/kernel" --initrd "$W/kernel" --rundir "$W/run" --plan "$W/kernel"

	# A patch whose second hunk does not fit; nothing must be left of the attempt.
	name=9999-does-not-apply.patch
	cp "$ROOT/series" "$c/series"
	echo "$name" >>"$c/series"
	cat >"$c/patches/linux/$name" <<-'END'
		From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
		From: Nobody <nobody@localhost>
		Date: Thu, 1 Jan 2026 00:00:00 +0000
		Subject: [PATCH] kernel: does not apply

		---
		--- a/kernel/Makefile
		+++ b/kernel/Makefile
		@@ -1,2 +1,3 @@
		+# first hunk
		 # SPDX-License-Identifier: GPL-2.0
		 #
		@@ -10,3 +11,3 @@
		 no such line
		-no such line either
		+something
		 nor this one
	END
	refuses "patch that does not apply" 1 "$name" "kernel/Makefile" "[Hh]unk #?2" -- "$c/scripts/tree"
	if [ -e "$c/build/linux" ]; then
		not_ok "input patch that does not apply leaves nothing" "there is a build/linux"
	else
		ok "input patch that does not apply leaves nothing"
	fi
	cp "$ROOT/series" "$c/series"
	echo 9999-not-there.patch >>"$c/series"
	refuses "series with a patch that is not there" 1 "9999-not-there.patch" -- "$c/scripts/tree"
	cp "$ROOT/series" "$c/series"

	# An option that Kconfig drops
	have_tree
	ln -s "$TREE" "$c/build/linux"
	printf 'CONFIG_NO_SUCH_OPTION=y\n' >"$W/extra.config"
	refuses "option that Kconfig drops" 1 "CONFIG_NO_SUCH_OPTION" "extra.config" -- \
		env "KCONFIG_EXTRA=$W/extra.config" "$c/scripts/kernel" --config-only vm
}

# fetches NAME TEXT -- [VARIABLE=VALUE...]: scripts/fetch of $W/copy succeeds, says TEXT and leaves the file as it is
# at its source, and no part of it.
fetches() {
	local name="downloads $1" text=$2 status=0 dl=$W/cache/linux-nspa/dl
	shift 3
	env -u LINUX_TARBALL RT_PATCH=none "XDG_CACHE_HOME=$W/cache" "$@" "$W/copy/scripts/fetch" >"$W/out" 2>&1 </dev/null ||
		status=$?
	if [ "$status" -ne 0 ]; then
		not_ok "$name" "ended with status $status" "$W/out"
	elif ! grep -qF -e "$text" "$W/out"; then
		not_ok "$name" "does not say '$text'" "$W/out"
	elif ! cmp -s "$W/source/small.tar.xz" "$dl/small.tar.xz" || [ -e "$dl/small.tar.xz.part" ]; then
		not_ok "$name" "what is in the cache is not what was to be fetched"
	else
		ok "$name"
	fi
	rm -rf "$dl"
	mkdir -p "$dl"
}

declare_check downloads "fetch: from the start, the rest of a file, something else's beginning, by a proxy"
check_downloads() {
	local c=$W/copy dl=$W/cache/linux-nspa/dl sum port server file
	copy_repo "$c"
	mkdir -p "$W/source" "$dl"
	file=$W/source/small.tar.xz
	head -c 1000000 /dev/urandom >"$file"
	sum=$(sha256sum "$file" | cut -d ' ' -f 1)
	# comes_from URL: where the copy finds it
	comes_from() {
		sed -i -e "s|^TARBALL_URL=.*|TARBALL_URL=$1|" -e "s|^TARBALL_SHA256=.*|TARBALL_SHA256=$sum|" "$c/scripts/base.conf"
	}

	comes_from "file://$file"
	fetches "from the start" "downloading file://$file" --
	head -c 300000 "$file" >"$dl/small.tar.xz.part"
	fetches "the rest" "(resumed)" --
	cp "$file" "$dl/small.tar.xz.part"
	fetches "nothing is missing" "(resumed)" --
	head -c 300000 /dev/urandom >"$dl/small.tar.xz.part"
	fetches "the rest of another file" "(resumed)" --

	# A server that cannot resume; as a proxy it is asked for whole addresses, which are paths there.
	mkdir -p "$W/served/http:/cdn.kernel.org"
	cp "$file" "$W/served/"
	cp "$file" "$W/served/http:/cdn.kernel.org/"
	python3 -u -c '
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.HTTPServer(("127.0.0.1", 0), handler)
print(server.server_port)
server.serve_forever()' "$W/served" >"$W/port" 2>"$W/log" &
	server=$!
	# shellcheck disable=SC2064 # now; and each check is a shell of its own
	trap "kill $server" EXIT
	for ((port = 0; port < 100; port++)); do
		[ ! -s "$W/port" ] || break
		sleep 0.1
	done
	port=$(cat "$W/port")
	comes_from "http://127.0.0.1:$port/small.tar.xz"
	fetches "by HTTP" "downloading" -- no_proxy='*'
	head -c 300000 "$file" >"$dl/small.tar.xz.part"
	fetches "from a server that does not resume" "(resumed)" -- no_proxy='*'
	comes_from "http://cdn.kernel.org/small.tar.xz"
	fetches "by a proxy" "downloading" -- "http_proxy=http://127.0.0.1:$port" no_proxy=
	grep -q 'GET http://cdn.kernel.org/small.tar.xz' "$W/log" ||
		not_ok "downloads by a proxy" "the proxy was not asked" "$W/log"
}
