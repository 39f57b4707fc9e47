# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2153
# Sourced by scripts/check: the checks that take long, only with --all.

# worktree NAME REVISION: build/NAME, another working tree of build/linux
worktree() {
	have_tree
	if ! git -C "$BUILD/$1" rev-parse HEAD >/dev/null 2>&1; then
		rm -rf "${BUILD:?}/$1"
		t worktree prune
		t worktree add -q --detach "$BUILD/$1" "$2"
	else
		git -C "$BUILD/$1" checkout -q -f --detach "$2"
	fi
}

# sources REVISION: what REVISION has of the sources that the series touches, as objects. A source
# that is included by another one has no object of its own: the objects of build/vm and build/base
# say which one has it.
sources() {
	{ objects "$BUILD/vm" nspa-patches; objects "$BUILD/base" nspa-base; } | sort -u | while read -r o; do
		! t cat-file -e "$1:${o%.o}.c" 2>/dev/null || echo "$o"
	done
}

declare_check prefixes "every prefix of the series: what it touches, NTSYNC=y and =m, W=1" all
check_prefixes() {
	local n=0 mode commit name
	have_kernel vm base || { not_ok prefixes "lane vm or base does not build"; return; }
	for mode in y m; do
		mkdir -p "$BUILD/prefix-$mode"
		cp "$BUILD/vm/.config" "$BUILD/prefix-$mode/.config"
		[ "$mode" = y ] || "$TREE/scripts/config" --file "$BUILD/prefix-m/.config" -e MODULES -m NTSYNC
	done
	while read -r commit; do
		worktree linux-prefix "$commit"
		name=$(t notes --ref=nspa show "$commit" 2>/dev/null) || name=base
		for mode in y m; do
			step "prefix up to $name, NTSYNC=$mode" "$OUT/prefix-$n-$mode.log" prefix "$commit" "$mode" || {
				not_ok "prefix $name, NTSYNC=$mode" "it does not compile" "$OUT/prefix-$n-$mode.log"
				continue
			}
			[ "$n" = 0 ] || compare "prefix $name, NTSYNC=$mode" "$OUT/prefix-0-$mode.log" "$OUT/prefix-$n-$mode.log"
		done
		wants "$BUILD/prefix-m/$(driver "$BUILD/linux-prefix")" >"$W/wants"
		if [ "$n" = 0 ]; then
			cp "$W/wants" "$W/wants-base"
		else
			comm -13 "$W/wants-base" "$W/wants" | comm -23 - <(exported "$commit") >"$W/out"
			empty "prefix $name, symbols of the module" "$W/out" "symbols without EXPORT_SYMBOL"
		fi
		n=$((n + 1))
	done < <(t rev-parse 'nspa-base^{commit}'; t rev-list --reverse nspa-base..nspa-patches)
}

# prefix COMMIT MODE
prefix() {
	local list o
	mapfile -t list < <(sources "$1")
	# The object of all its parts exists as a module only.
	[ "$2" = y ] || list+=("$(driver "$BUILD/linux-prefix")")
	for o in "${list[@]}"; do rm -f "$BUILD/prefix-$2/$o"; done
	# Until the driver wants PI chains nobody switches them on.
	if grep -qx 'config PI_CHAIN' "$BUILD/linux-prefix/init/Kconfig" &&
		! grep -q 'select PI_CHAIN' "$BUILD/linux-prefix/drivers/misc/Kconfig"; then
		sed -i 's/^config NTSYNC$/&\n\tselect PI_CHAIN/' "$BUILD/linux-prefix/drivers/misc/Kconfig"
	fi
	kmake "$BUILD/linux-prefix" "$BUILD/prefix-$2" ARCH=x86_64 "CC=$(cc gcc)" olddefconfig
	kmake "$BUILD/linux-prefix" "$BUILD/prefix-$2" ARCH=x86_64 "CC=$(cc gcc)" W=1 "${list[@]}"
}

# cross ARCH CC ARGUMENT...: the touched objects for another architecture, compared with the base
cross() {
	local arch=$1 cc=$2 tree rev
	shift 2
	have_kernel vm base || { not_ok "cross-$arch" "lane vm or base does not build"; return; }
	for tree in linux-base linux; do
		rev=nspa-patches
		[ "$tree" = linux ] || rev=nspa-base
		step "$arch, $tree" "$OUT/cross-$arch-$tree.log" cross_objects "$arch" "$cc" "$tree" "$rev" "$@" || {
			not_ok "cross-$arch" "$tree does not compile" "$OUT/cross-$arch-$tree.log"
			return
		}
	done
	compare "cross-$arch" "$OUT/cross-$arch-linux-base.log" "$OUT/cross-$arch-linux.log"
}

cross_objects() {
	local arch=$1 cc=$2 src=$BUILD/$3 out=$BUILD/$1-$3 rev=$4 list
	shift 4
	mapfile -t list < <(objects "$BUILD/$([ "$rev" = nspa-base ] && echo base || echo vm)" "$rev" | grep -v ^arch/)
	mkdir -p "$out"
	[ -e "$out/.config" ] || kmake "$src" "$out" "ARCH=$arch" "CC=$(cc "$cc")" "$@" defconfig
	"$src/scripts/config" --file "$out/.config" -e EXPERT -e PREEMPT_RT -d COMPILE_TEST -e NTSYNC
	kmake "$src" "$out" "ARCH=$arch" "CC=$(cc "$cc")" "$@" olddefconfig
	grep -qx CONFIG_NTSYNC=y "$out/.config"
	for o in "${list[@]}"; do rm -f "$out/$o"; done
	kmake "$src" "$out" "ARCH=$arch" "CC=$(cc "$cc")" "$@" W=1 "${list[@]}"
}

declare_check cross-i386 "what the series touches, for i386" all
check_cross_i386() { cross i386 gcc; }

declare_check cross-arm64 "what the series touches, for arm64" all
check_cross_arm64() {
	local llvm
	llvm=$(llvm_find)
	[ -n "$llvm" ] || { not_ok cross-arm64 "no clang of version 15 or later with its lld and llvm tools: make deps"; return; }
	# With clang, because Debian's gcc-aarch64-linux-gnu and gcc-multilib exclude each other.
	cross arm64 "clang${llvm#1}" "LLVM=$llvm"
}

declare_check programs-clang "test programs: clang builds all of them, 64 and 32 bit, without a warning" all
check_programs_clang() {
	have_tree
	if ! step "programs-clang" "$OUT/programs-clang.log" env COMPILER=clang "$ROOT/scripts/selftests"; then
		not_ok programs-clang "they do not build" "$BUILD/tests.log"
	else
		grep -E '(warning|error):' "$BUILD/tests.log" >"$W/out" || true
		empty programs-clang "$W/out" "clang complains"
	fi
	# The others want those of gcc.
	rm -f "$HAVE/tests"
	have_tests || not_ok programs-clang "gcc does not build them any more"
}

declare_check run-tests "the kernel's own way: make -C tools/testing/selftests TARGETS=drivers/ntsync run_tests" all
check_run_tests() {
	local name line
	have_tests || { not_ok run-tests "the test programs do not build"; return; }
	mkdir "$W/out"
	step "run-tests" "$OUT/run-tests.log" make -C "$TREE/tools/testing/selftests" TARGETS=drivers/ntsync "O=$W/out" \
		"KHDR_INCLUDES=-isystem $BUILD/headers/usr/include" run_tests || true
	for name in $("$ROOT/scripts/selftests" --list | grep -v -- '-32$'); do
		line=$(grep -E "^(not )?ok [0-9]+ selftests: drivers/ntsync: $name( |$)" "$OUT/run-tests.log" | head -n 1)
		case $line in
		ok*) ok "run-tests $name" ;;
		not*)
			# Bugs of upstream, in the kernel of this machine.
			if [ ! -e /dev/ntsync ] && grep -qE "^$name:.*[[:space:]]09[0-9]+[[:space:]]+fail" "$ROOT/selftests/expect.conf"; then
				skip "run-tests $name" "this machine's kernel has a bug that it is for"
			else
				not_ok "run-tests $name" "$line"
			fi
			;;
		*) not_ok "run-tests $name" "it was not run" <(tail -n 20 "$OUT/run-tests.log") ;;
		esac
	done
}

declare_check runner-guest "the QEMU runner on guests that panic, hang and so on" all
check_runner_guest() {
	local status=0
	have_kernel vm || { not_ok runner-guest "lane vm does not build"; return; }
	"$ROOT/scripts/tests/run" --guest >"$OUT/runner-guest.log" 2>&1 || status=$?
	relay runner-guest "$OUT/runner-guest.log" "$status"
}

declare_check lane-vm-clang "kselftests: lane vm built with clang" all
check_lane_vm_clang() {
	local llvm dir=$BUILD/runs/vm-llvm/latest status=0
	llvm=$(llvm_find)
	[ -n "$llvm" ] || { not_ok lane-vm-clang "no clang of version 15 or later with its lld and llvm tools: make deps"; return; }
	have_tests || { not_ok lane-vm-clang "the test programs do not build"; return; }
	LLVM=$llvm "$ROOT/scripts/kernel" vm || { not_ok lane-vm-clang "it does not build" "$BUILD/vm-llvm/build.log"; return; }
	rm -rf "$dir"
	step "lane-vm-clang" "$OUT/lane-vm-clang.log" env LLVM="$llvm" LANE=vm "$ROOT/scripts/boot" || status=$?
	judged lane-vm-clang "$dir" "$status" "$OUT/lane-vm-clang.log"
}

for lane in 'vm 1 20' 'vm 2 20' 'vm 4 20' 'nort 2 3' 'mod 2 3' 'debug 2 3'; do
	name=lane-${lane// /-}
	declare_check "$name" "kselftests: lane ${lane%% *}, $(cut -d ' ' -f 2 <<<"$lane") CPU(s), ${lane##* } times" all lane "$name" "$lane"
done

declare_check futex "the kernel's own tests of futexes" all
check_futex() {
	local dir=$TREE/tools/testing/selftests/futex names name out=$BUILD/futex status
	have_kernel vm || { not_ok futex "lane vm does not build"; return; }
	have_tests || { not_ok futex "the test programs do not build"; return; }
	mkdir -p "$out"
	names=$(sed -n '/^TEST_GEN_PROGS := /,/[^\\]$/p' "$dir/functional/Makefile" | grep -oE '[a-z_]+$|[a-z_]+ ' | tr -d ' ')
	[ -n "$names" ] || not_ok futex "there are no tests in tools/testing/selftests/futex"
	for name in $names; do
		if [ "$name" = futex_numa_mpol ]; then
			skip "futex $name" "it needs libnuma and several nodes"
			continue
		fi
		gcc -static -D_GNU_SOURCE -O2 -pthread -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -DLIBNUMA_VER_NO=1 \
			"-I$dir/include" "-I$dir/.." -isystem "$BUILD/headers/usr/include" \
			-o "$out/$name" "$dir/functional/$name.c" -lpthread -lrt >"$OUT/futex-$name.log" 2>&1 || {
			not_ok "futex $name" "it does not build" "$OUT/futex-$name.log"
			continue
		}
		status=0
		INIT=$out/$name "$ROOT/scripts/boot" >"$OUT/futex-$name.log" 2>&1 </dev/null || status=$?
		grep '^# Starting [0-9]' "$BUILD/runs/vm/latest/status" >/dev/null 2>&1 && futex_harness "$name"
		if [ "$status" = 0 ]; then
			ok "futex $name"
		elif grep -q 'exit status 4' "$OUT/futex-$name.log"; then
			skip "futex $name" "$(grep -aom 1 'SKIP.*' "$OUT/futex-$name.log" | tr -d '\r')"
		else
			not_ok "futex $name" "ended with status $status" "$OUT/futex-$name.log"
		fi
	done
}

# Tests of the harness print results of their own beside those of the harness, numbered anew: so
# these are judged by themselves, and each of those must be good, too.
futex_harness() {
	local name=$1 run=$BUILD/runs/vm/latest reason
	tr -d '\r' <"$run/status" >"$W/all"
	: >"$W/own"
	awk '/^# +RUN / { runs[$3] } /^(not )?ok [0-9]+ / && !($(/^ok/ ? 3 : 4) in runs) { print >own; next } { print }' \
		own="$W/own" "$W/all" >"$W/harness"
	status=0
	printf '%s\n' "$name" >"$W/futex-plan"
	{
		"$ROOT/scripts/scanlog" "$run/console.log" && "$ROOT/scripts/tapsum" --plan "$W/futex-plan" "$W/harness" &&
			! grep '^not ok' "$W/own"
	} >>"$OUT/futex-$name.log" 2>&1 || status=$?
	while read -r reason; do
		skip "futex $name, a part" "$reason"
	done < <(sed -n 's/^ok [0-9]* *\(- \)\?# SKIP *//p' "$W/own")
}

# A program that makes PI chains used, and then lets the kernel test itself.
declare_check locktorture "locktorture of rt_mutexes for 60 s, and the lock validator's own tests" all
check_locktorture() {
	local status=0 console log=$OUT/locktorture.log
	have_kernel torture || { not_ok locktorture "lane torture does not build"; return; }
	have_tests || { not_ok locktorture "the test programs do not build"; return; }
	cat >"$W/hold.c" <<-'END'
		#include <fcntl.h>
		#include <sys/ioctl.h>
		#include <unistd.h>
		#include <linux/ntsync.h>
		int main(void)
		{
			struct ntsync_mutex_args args = { 0 };
			int dev = open("/dev/ntsync", O_RDONLY);

			if (ioctl(dev, NTSYNC_IOC_CREATE_MUTEX, &args) < 0)
				return 1;
			sleep(60);
			return 0;
		}
	END
	gcc -static -O2 -isystem "$BUILD/headers/usr/include" -o "$W/hold" "$W/hold.c"
	step locktorture "$log" env LANE=torture "INIT=$W/hold" \
		APPEND="locktorture.torture_type=rtmutex_lock locktorture.stat_interval=10 locktorture.rt_boost=2" \
		"$ROOT/scripts/boot" || status=$?
	console=$BUILD/runs/torture/latest/console.log
	# Its statistics are as loud as a complaint; nothing else may be.
	if [ "$status" = 1 ]; then
		grep -av 'Writes: *Total: [0-9].*Fail: 0 *.\?$' "$console" >"$W/console.log"
		tr -d '\r' <"$BUILD/runs/torture/latest/status" >"$W/status"
		echo hold >"$W/torture-plan"
		! { "$ROOT/scripts/scanlog" "$W/console.log" &&
			"$ROOT/scripts/tapsum" --raw hold --plan "$W/torture-plan" "$W/status"; } >>"$log" || status=0
	fi
	if [ "$status" -ne 0 ]; then
		not_ok locktorture "the guest ended with status $status" "$log"
	elif ! grep -aq 'Writes: *Total: [1-9]' "$console" || grep -aq 'Writes:.*!!!' "$console"; then
		not_ok locktorture "it says no total, or an error" "$console"
	else
		ok "locktorture, $(grep -ao 'Total: [0-9]*' "$console" | tail -n 1)"
	fi
	if grep -aq 'Good, all *[0-9]* testcases passed' "$console"; then
		ok "locktorture, test cases of the lock validator"
	else
		not_ok "locktorture, test cases of the lock validator" "not all passed, or they did not run" "$console"
	fi
}

declare_check nopi "what PI chains cost without the driver: nothing; and without a user: 5 instructions a link" all
check_nopi() {
	local before old new o lane link=()
	have_kernel vm nopi || { not_ok nopi "lane vm or nopi does not build"; return; }
	have_tests || { not_ok nopi "the test programs do not build"; return; }

	before=$(t log --format=%H -1 --grep='^rtmutex: Split the node' nspa-patches)
	worktree linux-prefix "$before^"
	old=$BUILD/nopi-before new=$BUILD/nopi
	mkdir -p "$old"
	cp "$BUILD/nopi/.config" "$old/.config"
	kmake "$BUILD/linux-prefix" "$old" ARCH=x86_64 "CC=$(cc gcc)" olddefconfig >"$OUT/nopi.log" 2>&1
	: >"$W/out"
	for o in kernel/locking/rtmutex_api.o kernel/locking/rwsem.o kernel/locking/spinlock_rt.o \
		kernel/locking/ww_rt_mutex.o kernel/sched/core.o kernel/sched/syscalls.o kernel/fork.o kernel/exit.o \
		kernel/futex/pi.o; do
		# Those that are included by a bigger one have no object of their own.
		[ -e "$new/$o" ] || o=${o%/*}/build_policy.o
		kmake "$BUILD/linux-prefix" "$old" ARCH=x86_64 "CC=$(cc gcc)" "$o" >>"$OUT/nopi.log" 2>&1
		"$TREE/scripts/bloat-o-meter" "$old/$o" "$new/$o" | grep 'grow/shrink: 0/0 up/down: \([0-9]*\)/-\?\1 (0)$' >/dev/null ||
			"$TREE/scripts/bloat-o-meter" "$old/$o" "$new/$o" >>"$W/out"
	done
	empty "nopi, size of the code" "$W/out" "the code is not what it was before 0930"

	gcc -static -O2 -Wall -Wextra -isystem "$BUILD/headers/usr/include" -o "$W/futex_chain" \
		"$ROOT/selftests/bench/futex_chain.c" -lpthread
	for lane in nopi vm; do
		LANE=$lane CPUS=1 ICOUNT=1 INIT=$W/futex_chain "$ROOT/scripts/boot" >"$OUT/nopi-$lane.log" 2>&1 ||
			{ not_ok "nopi, cost of a link" "the guest of lane $lane failed" "$OUT/nopi-$lane.log"; return; }
		link+=("$(tr -d '\r' <"$BUILD/runs/$lane/latest/status" | sed -n 's/^bench: futex-link //p')")
	done
	printf '    a link of futex-PI: %s without PI chains, %s with\n' "${link[@]}"
	if [ "$((link[1] - link[0]))" -le 5 ]; then
		ok "nopi, cost of a link"
	else
		not_ok "nopi, cost of a link" "${link[0]} instructions without PI chains, ${link[1]} with"
	fi
}

declare_check mutants "every planted bug is caught" all
check_mutants() {
	local status=0
	"$ROOT/scripts/mutants" 2>&1 | tee "$OUT/mutants.log" || status=$?
	relay '' "$OUT/mutants.log" "$status"
}
