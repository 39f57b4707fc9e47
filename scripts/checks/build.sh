# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# Sourced by scripts/check: what the compilers say.

# builder: in the background, all kernels of make check. Whoever needs one waits for it in have_kernel.
ahead=(vm base debug nort mod)
builder() {
	local lane
	trap - EXIT
	for lane in "${ahead[@]}"; do
		chrt --idle 0 "$ROOT/scripts/kernel" "$lane" || true
		: >"$HAVE/tried-$lane"
	done
}

# have_kernel LANE...: builds the kernels of these lanes, each once in a run.
have_kernel() {
	local lane
	for lane; do
		[ ! -e "$HAVE/no-$lane" ] || return 1
		[ ! -e "$HAVE/kernel-$lane" ] || continue
		: >"$HAVE/no-$lane"
		have_tree || return 1
		while [ -n "$builder" ] && [[ " ${ahead[*]} " == *" $lane "* ]] && [ ! -e "$HAVE/tried-$lane" ] &&
			kill -0 "$builder" 2>/dev/null; do
			sleep 1
		done
		# If that has failed, this says why.
		"$ROOT/scripts/kernel" "$lane" || return 1
		mv "$HAVE/no-$lane" "$HAVE/kernel-$lane"
	done
}

# kmake SOURCE OUT ARGUMENT...: make as scripts/kernel runs it
kmake() {
	local src=$1 out=$2
	shift 2
	CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_BASEDIR=$ROOT CCACHE_IGNOREOPTIONS='-fmacro-prefix-map=*' \
		LOCALVERSION=$LOCALVERSION KBUILD_BUILD_USER=nspa KBUILD_BUILD_HOST=nspa KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 2026' make -C "$src" "O=$out" "-j$(nproc)" "$@"
}

# cc COMPILER: as a value of CC=
cc() { if command -v ccache >/dev/null; then echo "ccache $1"; else echo "$1"; fi; }

# touched REVISION: the sources that the series changes, as far as nspa-base or nspa-patches has them
touched() {
	local filter=d
	[ "$1" != nspa-base ] || filter=a
	t diff --no-renames --name-only --diff-filter=$filter nspa-base nspa-patches -- '*.[cS]' ':!tools' ':!Documentation' ':!samples'
}

# objects OUT REVISION: what a complete build in OUT has made of them. Some are not compiled
# themselves, but included by another source.
objects() {
	local file
	touched "$2" | while read -r file; do
		if [ -e "$1/${file%.*}.o" ]; then
			echo "${file%.*}.o"
		else
			grep -lE "[/ ]$file( |\$)" "$1/$(dirname "$file")"/.*.o.cmd | sed "s|^$1/||; s|/\.\([^/]*\)\.cmd\$|/\1|"
		fi
	done | sort -u
}

# warnings LOG: the warnings in it, one a line and sorted, without line numbers. The driver's files
# have one name, so that moved code compares equal. A header of others counts once.
warnings() {
	touched nspa-patches | sed 's|drivers/misc/ntsync/.*|drivers/misc/ntsync.c|' >"$W/touched"
	{ grep -E '(warning|error): ' "$1" || true; } |
		sed -E 's#^[^ ]*/linux(-[a-z]+)?/##; s#^(\./|\.\./)*##; s#drivers/misc/ntsync/[a-z_]+\.[ch]#drivers/misc/ntsync.c#; s#:[0-9]+(:[0-9]+)?:#:#' |
		awk -F : 'NR == FNR { ours[$0] = 1; next } $1 in ours || !seen[$0]++' "$W/touched" - | sort
}

# compare NAME BASE-LOG LOG: no warning in LOG that is not in BASE-LOG
compare() {
	warnings "$2" >"$W/old-warnings"
	warnings "$3" >"$W/new-warnings"
	comm -13 "$W/old-warnings" "$W/new-warnings" >"$W/out"
	empty "$1" "$W/out" "new warnings (log: ${3#"$ROOT"/})"
}

# compile LOG SOURCE OUT OBJECTS ARGUMENT...: compiles OBJECTS (one string) again
compile() {
	local log=$1 src=$2 out=$3 list=() o
	read -ra list <<<"$(tr '\n' ' ' <<<"$4")"
	shift 4
	[ ${#list[@]} -gt 0 ] || { : >"$log"; return; }
	for o in "${list[@]}"; do rm -f "$out/$o"; done
	step "${#list[@]} objects in ${src#"$BUILD"/}: $*" "$log" kmake "$src" "$out" ARCH=x86_64 W=1 "$@" "${list[@]}"
}

# copy_build LANE: a copy of the lane's build directory, so that other flags do not disturb it
copy_build() {
	rm -rf "${W:?}/$1"
	cp -aH --reflink=auto "$BUILD/$1" "$W/$1"
}

declare_check build "the kernels of vm and base: no warning"
check_build() {
	local lane
	for lane in vm base; do
		have_kernel "$lane" || { not_ok "build $lane" "it does not build" "$BUILD/$lane/build.log"; continue; }
		warnings "$BUILD/$lane/build.log" >"$W/out"
		empty "build $lane" "$W/out" "warnings (log: build/$lane/build.log)"
	done
}

declare_check warnings-gcc "gcc W=1 and sparse on what the series touches, compared with the base"
check_warnings_gcc() {
	local lane rev
	need sparse sparse sparse
	for lane in base vm; do
		have_kernel "$lane" || { not_ok warnings-gcc "lane $lane does not build"; return; }
		rev=nspa-patches
		[ "$lane" = vm ] || rev=nspa-base
		copy_build "$lane"
		compile "$OUT/gcc-$lane.log" "$BUILD/$(lane_field "$lane" source)" "$W/$lane" "$(objects "$BUILD/$lane" "$rev")" \
			C=2 "CC=$(cc gcc)" || { not_ok "warnings-gcc" "$lane does not compile" "$OUT/gcc-$lane.log"; return; }
	done
	compare warnings-gcc "$OUT/gcc-base.log" "$OUT/gcc-vm.log"
}

declare_check warnings-clang "clang W=1 on what the series touches, compared with the base"
check_warnings_clang() {
	local lane rev llvm
	llvm=$(llvm_find)
	[ -n "$llvm" ] || { not_ok warnings-clang "no clang of version 15 or later with its lld and llvm tools: make deps"; return; }
	for lane in base vm; do
		have_kernel "$lane" || { not_ok warnings-clang "lane $lane does not build"; return; }
		rev=nspa-patches
		[ "$lane" = vm ] || rev=nspa-base
		LLVM=$llvm "$ROOT/scripts/kernel" --config-only "$lane"
		compile "$OUT/clang-$lane.log" "$BUILD/$(lane_field "$lane" source)" "$BUILD/$lane-llvm" "$(objects "$BUILD/$lane" "$rev")" \
			"LLVM=$llvm" "CC=$(cc "clang${llvm#1}")" || { not_ok "warnings-clang" "$lane does not compile" "$OUT/clang-$lane.log"; return; }
	done
	compare warnings-clang "$OUT/clang-base.log" "$OUT/clang-vm.log"
}

# driver SOURCE: the object that the driver is as a module
driver() {
	if [ -e "$1/drivers/misc/ntsync/Makefile" ]; then
		echo drivers/misc/ntsync/ntsync.o
	else
		echo drivers/misc/ntsync.o
	fi
}

# wants OBJECT: the symbols that it needs from elsewhere
wants() { nm -u "$1" | awk '{ print $2 }' | sort; }

# as_module LANE: builds the driver as a module and lists the symbols that it wants
as_module() {
	local src object
	src=$BUILD/$(lane_field "$1" source)
	object=$(driver "$src")
	copy_build "$1"
	"$src/scripts/config" --file "$W/$1/.config" -e MODULES -m NTSYNC
	step "driver of lane $1 as a module" "$OUT/module-$1.log" module "$src" "$W/$1" "$object" || return 1
	wants "$W/$1/$object" >"$W/wants-$1"
}

module() {
	kmake "$1" "$2" ARCH=x86_64 "CC=$(cc gcc)" olddefconfig
	kmake "$1" "$2" ARCH=x86_64 "CC=$(cc gcc)" "$3"
}

# exported REVISION: all symbols that modules may use
exported() {
	t grep -hoE 'EXPORT_(PER_CPU_)?SYMBOL[A-Z_]*\([A-Za-z0-9_]+' "$1" -- kernel lib mm fs net/core block init drivers/base arch/x86 include |
		sed 's/.*(//' | sort -u
}

declare_check module "NTSYNC=m: every symbol that the driver wants is exported"
check_module() {
	have_kernel vm base || { not_ok module "lane vm or base does not build"; return; }
	local lane
	for lane in base vm; do
		as_module "$lane" || { not_ok module "lane $lane: it does not compile" "$OUT/module-$lane.log"; return; }
	done
	comm -13 "$W/wants-base" "$W/wants-vm" | comm -23 - <(exported nspa-patches) >"$W/out"
	empty module "$W/out" "symbols without EXPORT_SYMBOL"
}

# complaints COMPILER BITS HEADERS FILE: what the compiler says of a test program, without line numbers.
# HEADERS is searched first.
complaints() {
	{
		"$1" "-m$2" -fsyntax-only -Wall -Wextra -D_GNU_SOURCE= -isystem "$3" -isystem "$BUILD/headers/usr/include" \
			-I "$TREE/tools/testing/selftests" "$4" 2>&1 || echo "${4##*/}: error: it does not compile"
	} | sed -nE 's#^[^ ]*/##; s#:[0-9]+(:[0-9]+)?:#:#; /(warning|error):/p' | sort -u
}

# more_complaints COMPILER BITS HEADERS FILE: upstream's own may say what it said before.
more_complaints() {
	local old=$TREE-base/tools/testing/selftests/drivers/ntsync/${4##*/}
	comm -13 <([ ! -e "$old" ] || complaints "$1" "$2" "$3" "$old") <(complaints "$@")
}

# What needs an optimizing compiler to be seen was seen when the programs were built.
declare_check programs "test programs: gcc and clang, 64 and 32 bit, new and unpatched header"
check_programs() {
	local dir=tools/testing/selftests/drivers/ntsync compiler bits header file
	have_tests || { not_ok programs "scripts/selftests failed" "$BUILD/tests.log"; return; }
	mkdir -p "$W/new" "$W/unpatched/linux"
	t show nspa-base:include/uapi/linux/ntsync.h >"$W/unpatched/linux/ntsync.h"
	for file in "$TREE/$dir"/*.c; do
		"$ROOT/scripts/selftests" --list | grep -xF -e "$(basename "$file" .c)" >/dev/null || echo "${file##*/}"
	done >"$W/out"
	empty "programs in Makefile" "$W/out" "these are not in TEST_GEN_PROGS"
	grep -E '(warning|error):' "$BUILD/tests.log" >"$W/out" || true
	empty "programs as built" "$W/out" "the compiler complains"
	export -f complaints more_complaints
	export BUILD TREE
	for compiler in gcc "clang$(llvm_find | sed 's/^1$//')"; do
		command -v "$compiler" >/dev/null || { not_ok "programs $compiler" "it is missing: make deps"; continue; }
		for bits in 64 32; do
			for header in new unpatched; do
				# shellcheck disable=SC2016 # for the shell that xargs starts
				printf '%s\0' "$TREE/$dir"/*.c | xargs -0 -n 1 -P "$(nproc)" bash -c 'more_complaints "$@"' bash \
					"$compiler" "$bits" "$W/$header" >"$W/out"
				empty "programs $compiler -m$bits, $header header" "$W/out" "$compiler complains"
			done
		done
	done
}
