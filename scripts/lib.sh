# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
# Sourced first thing by every script: . "$(dirname "$0")/lib.sh"
set -euo pipefail

# Called from our Makefile or from the command line must be the same for the makes that we start.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

SELF=$(basename "$0")
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$ROOT/build
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/linux-nspa
OVERLAY_SRC=$ROOT/selftests/ntsync
OVERLAY_DST=tools/testing/selftests/drivers/ntsync
PATCHES=$ROOT/patches/linux
TREE=$BUILD/linux

# shellcheck source=base.conf
. "$ROOT/scripts/base.conf"

# Messages. Colour only if the stream itself is a terminal.
_colour() { [ -t "$1" ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; }

say() {
	if _colour 1; then printf '\033[1m==> %s\033[0m\n' "$*"; else printf '==> %s\n' "$*"; fi
}

warn() {
	if _colour 2; then printf '\033[33m%s: %s\033[0m\n' "$SELF" "$*" >&2; else printf '%s: %s\n' "$SELF" "$*" >&2; fi
}

die() {
	if _colour 2; then printf '\033[31m%s: %s\033[0m\n' "$SELF" "$*" >&2; else printf '%s: %s\n' "$SELF" "$*" >&2; fi
	exit 1
}

usage_die() {
	printf '%s: %s\nTry: %s --help\n' "$SELF" "$*" "$0" >&2
	exit 2
}

# run CMD...: runs it, or with DRYRUN=1 only prints it.
run() {
	if [ "${DRYRUN:-0}" = 1 ]; then
		local IFS=' '
		printf '%s\n' "${*@Q}"
	else
		"$@"
	fi
}

# need COMMAND DEBIAN-PACKAGE ARCH-PACKAGE
need() {
	command -v "$1" >/dev/null ||
		die "'$1' is missing: install $2 (Debian, Ubuntu) or $3 (Arch), or run: make deps"
}

# need_space DIRECTORY MEGABYTES WHAT: before something begins that would fill the disk
need_space() {
	local free
	free=$(($(df -Pk "$1" | awk 'NR == 2 { print $4 }') / 1024))
	[ "$free" -ge "$2" ] || die "$3 needs $2 MB, and there are $free MB left on the disk of $1: make room there (make clean, make distclean)"
}

elapsed() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# step NAME LOGFILE CMD...: runs CMD with its output in LOGFILE, says how long it took, and after a
# failure shows the end of the log. CMD's status is returned. "set -e" does not work in a CMD that is
# a shell function.
step() {
	local name=$1 log=$2 start=$SECONDS status=0 spinner=
	shift 2
	if [ "${DRYRUN:-0}" = 1 ]; then
		run "$@"
		return
	fi
	mkdir -p "$(dirname "$log")"
	say "$name (log: ${log#"$ROOT"/})"
	if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
		# The spinner dies with this shell, so that Ctrl-C leaves nothing running.
		(
			trap 'exit 0' TERM INT
			while kill -0 $$ 2>/dev/null; do
				printf '\r    %s ' "$(elapsed $((SECONDS - start)))"
				sleep 1
			done
		) 9>&- &
		spinner=$!
	fi
	"$@" >"$log" 2>&1 </dev/null || status=$?
	if [ -n "$spinner" ]; then
		kill "$spinner" 2>/dev/null || true
		wait "$spinner" 2>/dev/null || true
		printf '\r              \r'
	fi
	if [ "$status" -ne 0 ]; then
		warn "$name failed after $(elapsed $((SECONDS - start))) with status $status; end of ${log#"$ROOT"/}:"
		tail -n 30 "$log" >&2
		return "$status"
	fi
	printf '    done in %s\n' "$(elapsed $((SECONDS - start)))"
}

# lock: one script at a time works on build/; scripts called by the holder share the lock.
lock() {
	[ -z "${NSPA_LOCKED:-}" ] || return 0
	mkdir -p "$BUILD"
	exec 9>"$BUILD/.lock"
	if ! flock -n 9; then
		say "waiting for another make in $ROOT"
		flock 9
	fi
	export NSPA_LOCKED=1
}

# tmpdir VARIABLE DIRECTORY: makes a directory in DIRECTORY that is removed when the script ends.
_tmpdirs=()
_cleanup() {
	local d
	for d in "${_tmpdirs[@]}"; do rm -rf "$d"; done
}
trap _cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

tmpdir() {
	mkdir -p "$2"
	printf -v "$1" '%s' "$(mktemp -d "$2/.tmp.XXXXXX")"
	_tmpdirs+=("${!1}")
}

# Lanes: config/lanes.conf has one line for each: NAME SOURCE FRAGMENT...
lane_list() { awk '!/^#/ && NF {print $1}' "$ROOT/config/lanes.conf"; }

# lane_field LANE source|fragments
lane_field() {
	awk -v l="$1" -v f="$2" '$1 == l {
		if (f == "source") print $2
		else for (i = 3; i <= NF; i++) print $i
	}' "$ROOT/config/lanes.conf"
}

# driver_module OUT: prints the path below OUT, a build directory, where the driver's module is; fails
# if the driver is not a module there. Before patch 0920 it was one file.
driver_module() {
	grep -qsx CONFIG_NTSYNC=m "$1/.config" || return 1
	if [ -e "$1/drivers/misc/ntsync/ntsync.ko" ] || [ ! -e "$1/drivers/misc/ntsync.ko" ]; then
		echo drivers/misc/ntsync/ntsync.ko
	else
		echo drivers/misc/ntsync.ko
	fi
}

# check_lane LANE: misuse, with the list of known ones, if there is no such lane.
check_lane() {
	lane_list | grep -xF -e "$1" >/dev/null ||
		usage_die "unknown lane '$1'; known lanes: $(lane_list | paste -sd ' ')"
}

# The names of the patches, in order.
series_list() {
	[ -f "$ROOT/series" ] || die "the file 'series' is missing: restore it with git checkout series"
	sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$ROOT/series"
}

# The newest usable clang as the kernel's LLVM= wants it: "1", "-19", ...; nothing if there is none.
# The kernel needs 15 or later, and the linker and tools of the same version.
llvm_find() {
	local s v
	for s in '' -22 -21 -20 -19 -18 -17 -16 -15; do
		command -v "clang$s" "ld.lld$s" "llvm-nm$s" >/dev/null || continue
		v=$("clang$s" -dumpversion)
		[ "${v%%.*}" -ge 15 ] || continue
		echo "${s:-1}"
		return
	done
}
