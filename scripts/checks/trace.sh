# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# Sourced by scripts/check: the bpftrace scripts of scripts/trace.

# Their events as the kernel describes them. As -w, one line "trace: begin SYSTEM/NAME" before each.
TRACE_EVENTS=$ROOT/selftests/trace/events.txt

have_bpftrace() {
	command -v bpftrace >/dev/null && return
	not_ok "$1" "bpftrace is missing: install bpftrace (Debian, Ubuntu, Arch), or run: make deps"
	return 1
}

# sections FILE DIRECTORY: what is between "trace: begin NAME" and "trace: end NAME", with / as _
sections() {
	mkdir -p "$2"
	tr -d '\r' <"$1" | awk -v dir="$2" '
		/^trace: end / { close(out); out = ""; print $4 >(dir "/" name ".status"); close(dir "/" name ".status") }
		out != "" { print >out }
		/^trace: begin / { name = $3; gsub("/", "_", name); out = dir "/" name; printf "" >out }'
}

# bpftrace looks up what it parses. Where the kernel has no such events it finds them in a file system that
# only it sees.
# shellcheck disable=SC2016 # for another shell
trace_parse='
	mount -t tmpfs tmpfs /sys/kernel/tracing || exit 77
	[ ! -d /sys/kernel/debug/tracing ] || mount --bind /sys/kernel/tracing /sys/kernel/debug/tracing || exit 77
	cd "$1/events"
	for f in *.status; do
		f=${f%.status}
		mkdir -p "/sys/kernel/tracing/events/${f%%_*}/${f#*_}" || exit 77
		cp "$f" "/sys/kernel/tracing/events/${f%%_*}/${f#*_}/format" || exit 77
		echo "${f%%_*}:${f#*_}" >>/sys/kernel/tracing/available_events
	done
	: >/sys/kernel/tracing/available_filter_functions
	exec bpftrace --emit-elf "$1/elf" "$2"'

declare_check trace-parse "the bpftrace scripts: heads, document, and that they parse"
check_trace_parse() {
	local f name status user=()
	for f in scripts/trace/*.bt; do
		name=${f##*/}
		[ "$(sed -n 2p "$f")" = '// SPDX-License-Identifier: GPL-2.0-only' ] || echo "$f: the second line does not say its licence"
		grep -q "^ \* $name: " "$f" || echo "$f: its head does not begin with \"$name: \""
		grep -q "^ \*   bpftrace $f " "$f" || echo "$f: its head does not say how it is run"
		# What it keeps for itself must not be printed at the end, and what it prints is explained.
		sed '1,/^ \*\//d' "$f" | grep -oE '@[a-z_]+' | sort -u | while read -r map; do
			grep -qE "^ \* .*$map(\[|,|\b)" "$f" || grep -q "clear($map);" "$f" || echo "$f: $map is neither explained nor cleared"
		done
		grep -qF "\`$name\`" docs/tracing.md || echo "docs/tracing.md does not name $name"
	done >"$W/out"
	empty "trace heads" "$W/out" "what each script must have"

	have_bpftrace trace-parse || return 0
	sections "$TRACE_EVENTS" "$W/events"
	[ "$(id -u)" = 0 ] || user=(--user --map-root-user)
	for f in scripts/trace/*.bt; do
		status=0
		unshare --mount "${user[@]}" sh -c "$trace_parse" sh "$W" "$ROOT/$f" >"$W/log" 2>&1 </dev/null || status=$?
		if [ -e "$W/elf" ] || compgen -G "$W/elf*" >/dev/null; then
			ok "trace-parse $f"
		elif [ "$status" = 77 ] || grep -q '^unshare: ' "$W/log"; then
			skip "trace-parse $f" "no file system can be mounted here: $(tail -n 1 "$W/log")"
		else
			not_ok "trace-parse $f" "bpftrace ends with status $status" "$W/log"
		fi
		rm -f "$W"/elf*
	done
}

# map FILE NAME: the lines of a map, as "KEY KEY...: VALUE" without punctuation
map() { sed -n "s/^@$2\[\(.*\)\]: /\1: /p" "$1" | tr -d ','; }

# same NAME WANTED FOUND: both sorted
same() {
	sort "$2" >"$W/wanted"
	sort "$3" | diff "$W/wanted" - | sed -n 's/^</missing: /p; s/^>/too much: /p' >"$W/out" || true
	empty "$1" "$W/out" "other than the workload has done"
}

# within NAME VALUE LEAST MOST
within() {
	if [[ $2 =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; then
		ok "$1: $2 us, of $3 to $4"
	else
		not_ok "$1" "'$2' us, but at least $3 and at most $4 were measured"
	fi
}

# expected FILE NAME: "AT-LEAST AT-MOST", as the workload has it for this thread
expected() { awk -v name="$2" '$1 == "expect" && $2 == name { print $5, $6 }' "$1"; }

declare_check trace-scripts "the bpftrace scripts in a guest, with a workload of known times" all
check_trace_scripts() {
	local status=0 dir=$BUILD/runs/bpf/trace log=$OUT/trace-scripts.log f name
	have_bpftrace trace-scripts || return 0
	have_kernel bpf || { not_ok trace-scripts "lane bpf does not build"; return; }
	have_tests || { not_ok trace-scripts "the test programs do not build"; return; }
	gcc -static -O2 -Wall -Wextra -isystem "$BUILD/headers/usr/include" -o "$W/workload" \
		"$ROOT/selftests/trace/workload.c" -lpthread
	"$ROOT/scripts/initramfs"
	rm -rf "$dir"
	echo "trace $ROOT/scripts/trace $W/workload" >"$W/plan"
	step trace-scripts "$log" "$ROOT/scripts/vm" --kernel "$BUILD/bpf/bzImage" --initrd "$BUILD/initramfs.cpio" \
		--rundir "$dir" --plan "$W/plan" --program "$ROOT/scripts/guest/trace" --share / --mem 2G \
		--limit 1800 --boot-limit 300 || status=$?
	[ "$status" = 0 ] || not_ok trace-scripts "$(paste -sd ' ' "$dir/result") (log: ${log#"$ROOT"/})"
	sections "$dir/status" "$W/run"
	trace_judge "$W/run"
}

# trace_judge DIRECTORY: what the guest has printed
trace_judge() {
	local dir=$1 f name least most
	for f in scripts/trace/*.bt ctrl-c seconds; do
		name=$(basename "$f" .bt)
		if [ "$(cat "$dir/$name.status" 2>/dev/null)" = 0 ]; then
			ok "trace $name, exit status 0"
		else
			not_ok "trace $name" "it did not run to its end" "$dir/$name"
		fi
	done
	for name in waits boosts inversions channels ctrl-c seconds absent; do
		[ -e "$dir/$name" ] || { not_ok "trace $name" "the guest has not come to it"; return; }
	done

	# Without that, all that follows is wrong or missing.
	for name in waits boosts inversions channels; do
		grep -qx 'done' "$dir/$name" ||
			not_ok "trace $name, workload" "$(grep -m 1 '^failed: ' "$dir/$name" || echo "it did not come to its end")"
	done

	cat >"$W/waits" <<-'END'
		audio any granted: 3
		both all granted: 2
		hasty any timed-out: 2
		heir any owner-dead: 1
		killed any interrupted: 1
		minor any granted: 1
		mixed aggregate granted: 1
		patient any granted: 1
		signaled any interrupted: 1
		urgent any timed-out: 1
	END
	for name in waits ctrl-c; do
		map "$dir/$name" waits | sed 's/ [0-9]* / /' >"$W/found"
		same "trace $name, numbers" "$W/waits" "$W/found"
	done
	map "$dir/seconds" waits >"$W/out"
	empty "trace seconds, numbers" "$W/out" "there was nothing to be seen"
	grep '^expect' "$dir/waits" | while read -r _ name tid kind least most; do
		[ "$kind" = round-trip ] ||
			within "trace waits, $name" "$(map "$dir/waits" longest_us | sed -n "s/^$name $tid $kind: //p")" "$least" "$most"
	done
	# Each wait of "audio" is in the histogram, at its place: 64 ms and more
	awk '/^@/ { on = /^@asleep_us\[audio,/ } on && /^\[((64|128|256|512)K|[0-9]+M), / { n += $3 } END { print n + 0 }' "$dir/waits" >"$W/found"
	echo 3 >"$W/audio"
	same "trace waits, histogram" "$W/audio" "$W/found"

	# SECONDS OBJECT DONOR TID LENT OWNER TID HAD BEGAN US
	cat >"$W/boosts" <<-'END'
		audio 80 low 0 wait
		audio 80 low 0 wait
		audio 80 low 0 wait
		client 70 server 0 acquire
		client 70 server 0 wait
		client 70 server 0 wait
		client 70 server 0 wait
		hasty 60 low 0 wait
		hasty 60 low 0 wait
		heir 40 low 0 wait
		minor 10 chief 50 wait
		urgent 90 low 0 wait
	END
	awk 'NF == 10 && $10 ~ /^[0-9]+$/ && $1 ~ /^[0-9]+$/ { print $3, $5, $6, $8, $9 }' "$dir/boosts" >"$W/found"
	same "trace boosts, lines" "$W/boosts" "$W/found"
	awk '{ n[$1 " " $3]++ } END { for (i in n) print i ": " n[i] }' "$W/boosts" >"$W/sums"
	map "$dir/boosts" boosts >"$W/found"
	same "trace boosts, numbers" "$W/sums" "$W/found"
	for name in 'audio low' 'heir low' 'minor chief' 'client server'; do
		read -r least most < <(expected "$dir/boosts" "${name% *}") || continue
		within "trace boosts, $name" "$(map "$dir/boosts" longest_us | sed -n "s/^$name: //p")" "$least" "$most"
	done

	cat >"$W/inversions" <<-'END'
		audio low: 3
		client server: 4
		hasty low: 2
		heir low: 1
		patient low: 1
		urgent low: 1
	END
	map "$dir/inversions" inversions >"$W/found"
	same "trace inversions, numbers" "$W/inversions" "$W/found"
	for name in 'audio low' 'heir low' 'patient low' 'client server'; do
		read -r least most < <(expected "$dir/inversions" "${name% *}") || continue
		within "trace inversions, $name" "$(map "$dir/inversions" longest_us | sed -n "s/^$name: //p")" "$least" "$most"
	done
	# SECONDS US WAITER TID PRIO OWNER TID HAD OBJECT
	awk 'NF == 9 && $2 ~ /^[0-9]+$/ { print $3, $5, $6, $8 }' "$dir/inversions" | sort -u >"$W/found"
	printf '%s\n' 'audio 80 low 0' 'client 70 server 0' 'hasty 60 low 0' 'heir 40 low 0' 'patient 20 low 0' 'urgent 90 low 20' >"$W/lines"
	same "trace inversions, lines" "$W/lines" "$W/found"

	# On two channels
	printf '%s\n' 'answered: 3' 'broken: 1' 'broken: 1' 'interrupted: 1' >"$W/requests"
	map "$dir/channels" requests | sed 's/^[0-9]* //' >"$W/found"
	same "trace channels, numbers" "$W/requests" "$W/found"
	read -r _ most < <(expected "$dir/channels" client) || most=0
	within "trace channels, pending" "$(map "$dir/channels" longest_pending_us | sed 's/.*: //')" 100000 "$most"
	within "trace channels, in hand" "$(map "$dir/channels" longest_in_hand_us | sed 's/.*: //')" 200000 $((most - 100000))
	within "trace channels, total" "$(map "$dir/channels" longest_total_us | sed 's/.*: //')" 300000 "$most"
	awk 'NF == 10 && $3 == 70 { print $4, $6, ($8 >= 100000 && $9 >= 200000 && $8 + $9 <= $10) }' "$dir/channels" | sort -u >"$W/found"
	echo 'client server 1' >"$W/lines"
	same "trace channels, lines" "$W/lines" "$W/found"

	# Maps that are neither results nor of fixed size. What other tasks do leaves sched_pi_setprio's.
	for f in scripts/trace/*.bt; do
		name=$(basename "$f" .bt)
		grep -oE '^@[a-z_]+' "$dir/$name-left" | sort -u | while read -r map; do
			! grep -q "clear($map);" "$f" || echo "$map"
		done | grep -vxE '@(seconds|record|set_[a-z]+)' >"$W/out" || true
		grep -q '^@seconds' "$dir/$name-left" || echo "it has not run: no @seconds" >>"$W/out"
		empty "trace $name, nothing is left in its maps" "$W/out" "maps that are not empty at the end"
	done

	if [ "$(cat "$dir/absent.status")" != 0 ] && grep -q 'ntsync_no_such_event' "$dir/absent"; then
		ok "trace absent: $(grep -m 1 'ntsync_no_such_event' "$dir/absent")"
	else
		not_ok "trace absent" "bpftrace does not say that the event is missing" "$dir/absent"
	fi

	# The events that trace-parse uses are those of this kernel. Numbers of events differ.
	for f in "$dir"/ntsync_*.status "$dir"/sched_*.status; do
		f=${f%.status}
		printf 'trace: begin %s\n' "$(basename "$f" | sed 's|_|/|')"
		sed 's/^ID: .*/ID: 1/' "$f"
		printf 'trace: end %s 0\n' "$(basename "$f" | sed 's|_|/|')"
	done >"$OUT/trace-events.txt"
	diff "$TRACE_EVENTS" "$OUT/trace-events.txt" >"$W/out" || true
	empty "trace events" "$W/out" "selftests/trace/events.txt is not what the kernel has: copy build/check/trace-events.txt there"
}
