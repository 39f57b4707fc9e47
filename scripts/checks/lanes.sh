# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# Sourced by scripts/check: guests.

have_tests() {
	[ ! -e "$HAVE/no-tests" ] || return 1
	[ ! -e "$HAVE/tests" ] || return 0
	: >"$HAVE/no-tests"
	have_tree || return 1
	"$ROOT/scripts/selftests" || return 1
	mv "$HAVE/no-tests" "$HAVE/tests"
}

# judged NAME DIR STATUS LOG: one result for each program of a run's summary. A program's tests
# count one each; expected failures count as passed.
judged() {
	local name=$1 dir=$2 wrong=0 bad program tests skipped note
	local summary=$W/summary
	: >"$summary"
	[ ! -r "$dir/summary" ] || cp "$dir/summary" "$summary"
	grep -E '^  [^ ]+: ' "$summary" >"$W/wrong" || true
	while read -r program tests _ _ skipped _ note; do
		case $program in program) continue ;; all | '') break ;; esac
		note=${note#WRONG} note=${note#, }
		bad=$(grep -c "^  $program: " "$W/wrong") || true
		[ "$tests" -gt "$((bad + skipped))" ] && ok "$name $program, $tests tests${note:+ ($note)}" $((tests - bad - skipped))
		[ "$skipped" -eq 0 ] || skip "$name $program" "${note:-skipped}" "$skipped"
		if [ "$bad" -gt 0 ]; then
			grep "^  $program: " "$W/wrong" >"$W/bad"
			not_ok "$name $program" "$(sed -n '1s/^ *[^:]*: //p' "$W/bad")" "$W/bad" "$bad"
			wrong=1
		fi
	done <"$summary"
	# A panic, a hang or a message of the kernel, even if a test was wrong as well
	if [ "$3" -ne 0 ] && { [ "$wrong" = 0 ] || ! grep -qx 'see above' "$dir/result"; }; then
		tail -n 30 "$4" >"$W/end"
		not_ok "$name" "$(paste -sd ' ' "$dir/result" 2>/dev/null || echo "no run") (log: ${4#"$ROOT"/})" "$W/end"
	fi
}

# lane NAME LANE CPUS [REPEAT]. The 32-bit copies, and all races that the tests have, run in lane vm
# with two CPUs; elsewhere there are fewer races, to save time. Under the checkers of lane debug a race
# takes ten times as long, and a time limit of the test would stop it early otherwise.
lane() {
	local name=$1 lane=$2 status=0 log=$OUT/$1.log programs='' append=''
	[ "$lane $3" = 'vm 2' ] || programs=$("$ROOT/scripts/selftests" --list | grep -v -e '-32$' | paste -sd ' ')
	case "$lane $3" in
	'vm 2' | base*) ;;
	debug*) append=NTSYNC_SCALE=20 ;;
	*) append=NTSYNC_SCALE=30 ;;
	esac
	have_kernel "$lane" || { not_ok "$name" "the kernel does not build (log: build/$lane/build.log)"; return; }
	have_tests || { not_ok "$name" "the test programs do not build"; return; }
	rm -f "$BUILD/runs/$lane/latest"
	step "$name" "$log" env "LANE=$lane" "CPUS=$3" "REPEAT=${4:-1}" "TEST=$programs" \
		"APPEND=$append" "$ROOT/scripts/boot" || status=$?
	judged "$name" "$(readlink -f "$BUILD/runs/$lane/latest")" "$status" "$log"
}

# lanes 'LANE CPUS'...
lanes() {
	local lane
	for lane; do
		declare_check "lane-${lane/ /-}" "kselftests: lane ${lane% *}, ${lane#* } CPU(s)" '' lane "lane-${lane/ /-}" "$lane"
	done
}

# In the order in which their kernels come from builder(): those of the long guests first.
lanes 'vm 1' 'vm 2' 'vm 4' 'base 2'

# runs_as NAME STATUS PATTERN COMMAND...: COMMAND must end with STATUS within a minute and print PATTERN.
runs_as() {
	local name=$1 want=$2 pattern=$3 status=0
	shift 3
	timeout 90 "$@" >"$W/log" 2>&1 </dev/null || status=$?
	cp "$W/log" "$OUT/guest-$name.log"
	if [ "$status" -ne "$want" ]; then
		tail -n 20 "$W/log" >"$W/end"
		not_ok "guest $name" "ended with status $status, not $want" "$W/end"
	elif ! grep -qE -e "$pattern" "$W/log"; then
		tail -n 20 "$W/log" >"$W/end"
		not_ok "guest $name" "does not say /$pattern/" "$W/end"
	else
		ok "guest $name"
	fi
}

declare_check guest "a guest that passes, fails, panics, hangs or is interrupted"
check_guest() {
	local vm pid
	have_kernel vm || { not_ok guest "lane vm does not build"; return; }
	have_tests || { not_ok guest "the test programs do not build"; return; }
	printf 'int main(int c, char **v) { (void)v; return c > 1 ? 7 : 0; }\n' >"$W/program.c"
	gcc -static -O2 -o "$W/program" "$W/program.c"
	runs_as passes 0 '^PASSED' env "INIT=$W/program" "$ROOT/scripts/boot"
	runs_as fails 1 'exit status 7' env "INIT=$W/program" ARGS=x "$ROOT/scripts/boot"
	runs_as panics 3 'Kernel panic' env "INIT=$W/program" APPEND=rdinit=/dev/null\ init=/dev/null "$ROOT/scripts/boot"
	: >"$W/plan"
	vm=("$ROOT/scripts/vm" --kernel "$BUILD/vm/bzImage" --initrd "$BUILD/initramfs.cpio" --rundir "$W/run" --plan "$W/plan")
	runs_as hangs 4 'The last 30 lines' "${vm[@]}" --append 'rdinit=/bin/tail -- -f /dev/null' --boot-limit 20

	"${vm[@]}" --append 'rdinit=/bin/tail -- -f /dev/null' >"$W/log" 2>&1 </dev/null &
	pid=$!
	sleep 5
	kill -TERM "$pid"
	wait "$pid" || true
	{
		pgrep -af "rundir=?.*$W/run|$W/run/console.log" || true
		find "$W/run" -name '*.img' -o -name '*.cpio'
	} >"$W/out"
	empty "guest interrupted" "$W/out" "it leaves processes or files behind"
}

declare_check inversion "inversion in guest time that counts instructions"
check_inversion() {
	local status=0
	have_kernel vm base || { not_ok inversion "lane vm or base does not build"; return; }
	have_tests || { not_ok inversion "the test programs do not build"; return; }
	rm -f "$BUILD/runs/vm/latest"
	step inversion "$OUT/inversion.log" env LANE=vm CPUS=1 ICOUNT=1 TEST=inversion APPEND=NTSYNC_EXACT=1 \
		"$ROOT/scripts/boot" || status=$?
	judged inversion "$(readlink -f "$BUILD/runs/vm/latest")" "$status" "$OUT/inversion.log"
	grep -ho 'the owner needed .*' "$OUT/inversion.log" | sed 's/\r$//; s/^/    /' || true
}

declare_check bench "the targets of the bench, and what docs/bench.json says that operations cost"
check_bench() { judge_bench bench --quick; }
declare_check bench-section "how long locks are held, and trace events: kernels of their own" all
check_bench_section() { judge_bench bench-section waiters-section round_trip-section; }
judge_bench() {
	local name=$1 baseline=
	shift
	have_kernel vm base || { not_ok "$name" "lane vm or base does not build"; return; }
	have_tests || { not_ok "$name" "the test programs do not build"; return; }
	# Another compiler makes another number of instructions of the same source.
	grep -qF "\"compiler-vm\": \"$(gcc --version | sed -n 1p)\"" "$ROOT/docs/bench.json" &&
		baseline=$ROOT/docs/bench.json
	[ -n "$baseline" ] || skip "$name, compared with docs/bench.json" "that was measured with another compiler"
	if BASELINE=$baseline "$ROOT/scripts/bench" "$@" >"$OUT/$name.log" 2>&1; then
		sed 's/^/    /' "$OUT/$name.log"
		ok "$name"
	else
		grep '^bench: ' "$OUT/$name.log" >"$W/out" || tail -n 20 "$OUT/$name.log" >"$W/out"
		not_ok "$name" "targets are missed, or something costs more (log: ${OUT#"$ROOT"/}/$name.log)" "$W/out"
	fi
}

lanes 'debug 2' 'nort 2' 'mod 2'
