# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Sourced by fetch and rebase: downloads into the cache.

dl=$CACHE/dl

sum_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# verify FILE SUM: a file in the cache that has another sum is reported and thrown away.
verify() {
	local sum
	[ -f "$1" ] || return 1
	sum=$(sum_of "$1")
	[ "$sum" != "$2" ] || return 0
	warn "$1 is damaged and was removed
  expected sha256 $2
  actual sha256   $sum"
	rm -f "$1"
	return 1
}

# download URL FILE SUM: into FILE.part, continued where an earlier attempt stopped. SUM may be "any" for
# an .xz file of which none is known: the file's own checksums say then that it is whole.
download() {
	local url=$1 file=$2 want=$3 part=$2.part resumed status code sum progress=(-sS)
	[ ! -t 2 ] || progress=(-#)
	need curl curl curl
	mkdir -p "$dl"
	while :; do
		resumed=
		[ ! -s "$part" ] || resumed=1
		say "downloading $url${resumed:+ (resumed)}"
		status=0
		code=$(curl -fL -C - --connect-timeout 15 --speed-limit 1000 --speed-time 60 \
			"${progress[@]}" -w '%{http_code}' -o "$part" "$url") || status=$?
		# 416: nothing is left to download; 33: the server cannot resume.
		[ "$status" -eq 0 ] || [ "$code" = 416 ] || [ "$status" -eq 33 ] || return 1
		[ -f "$part" ] || return 1
		sum=$(sum_of "$part")
		if [ "$sum" = "$want" ] || { [ "$want" = any ] && xz -tq "$part"; }; then
			mv "$part" "$file"
			return 0
		fi
		rm -f "$part"
		# A resumed file may have begun as something else: once more from the start.
		[ -n "$resumed" ] || break
	done
	if [ "$want" = any ]; then
		warn "$url is not a whole .xz file and was removed"
		return 1
	fi
	warn "$url has not the expected content and was removed
  expected sha256 $want
  actual sha256   $sum"
	return 1
}

# shellcheck disable=SC2016 # apt-get expands it
mirrors() {
	command -v apt-get >/dev/null || return 0
	apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '^(https?|file):' | sort -u
}
