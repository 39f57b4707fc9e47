# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# Sourced by scripts/check: what can be seen by reading the repository.

# Those that are shell scripts or parts of one.
shell_files() {
	local f line
	while read -r f; do
		line=$(head -c 200 "$ROOT/$f" | tr -d '\0' | head -n 2)
		case $line in
		'#!'*sh | '#!'*sh$'\n'* | *'shellcheck shell='*) echo "$f" ;;
		*) [[ $f != *.sh ]] || echo "$f" ;;
		esac
	done < <(repo_files)
}

declare_check shellcheck "every shell script"
check_shellcheck() {
	local f
	need shellcheck shellcheck shellcheck
	while read -r f; do
		shellcheck -f gcc "$f" >"$W/out" 2>&1 || true
		empty "shellcheck $f" "$W/out" "shellcheck complains"
	done < <(shell_files)
}

# Hosts that a file may name: kernel.org as the source of the base, and those in the licence texts.
declare_check hosts "no registry, mirror or path of a machine is named"
check_hosts() {
	local f before='(^|[^A-Za-z0-9._$}*/-])'
	while read -r f; do
		case $f in LICENSES/*) continue ;; esac
		# In a patch only the lines that it adds are ours.
		case $f in *.patch) sed -n 's/^+//p' "$f" ;; *) cat "$f" ;; esac |
			grep -aoE '(https?|ftp|git|ssh)://[^/ ):"]+|[^A-Za-z0-9@_.-](deb|ftp|http|archive|security|mirrors?|registry|proxy|pypi|packages)\.[a-z0-9-]+(\.[a-z0-9-]+)+' |
			grep -vE '://([a-z0-9-]+\.)*kernel\.org$|://(127\.0\.0\.1|localhost)$|://[$%{]' |
			sed "s|^|$f: |" || true
	done < <(repo_files) >"$W/hosts"
	empty hosts "$W/hosts" "only kernel.org may be named"
	repo_files | grep -vE '^LICENSES/' | xargs -d '\n' grep -IHnE -e "$before/(home|root|work|Users)/[A-Za-z]" -e "$before${ROOT//./\\.}/" >"$W/paths" || true
	empty paths "$W/paths" "a path of one machine"
}

declare_check facts "version, sums, targets, lanes and files agree wherever they are named"
check_facts() {
	local f word target name series=${VERSION%.*} docs=()
	for f in README.md docs/*.md; do docs+=("$f"); done

	{
		for name in TARBALL_URL DEBIAN_PATH; do
			[[ ${!name} == *[-_]$VERSION.* ]] || echo "scripts/base.conf: $name is not of version $VERSION"
		done
		grep -qF "Linux $VERSION" README.md || echo "README.md does not say Linux $VERSION"
		rt=$(basename "$RT_URL" .patch.xz)
		repo_files | grep -E '^(README\.md|docs/|config/|scripts/|Makefile|patches/wine/README)' | grep -vE '^scripts/(base\.conf|tests/)' |
			xargs -d '\n' grep -onHE "\b${series//./\\.}\.[0-9]+(-rt[0-9]+)?" |
			awk -F : -v v="$VERSION" -v rt="${rt#patch-}" '$3 != v && $3 != rt && $3 != v "-" substr(rt, index(rt, "rt")) { print $1 ":" $2 ": " $3 " is neither Linux " v " nor " rt }'
		repo_files | grep -vE '\.patch$|^scripts/base\.conf$|^SHA256SUMS$' | xargs -d '\n' grep -IonHE '\b[0-9a-f]{64}\b' |
			grep -vE "$TARBALL_SHA256|$DEBIAN_SHA256|$RT_SHA256" | sed 's/$/: not a sum of scripts\/base.conf/'
	} >"$W/base" || true
	empty "facts base" "$W/base" "base facts differ from scripts/base.conf"

	# `make ...` in the documents: targets and values of LANE. A line of code is indented or in `...`.
	# shellcheck disable=SC2016
	grep -ohE '(`|^    +|^\$ )(make|scripts/[a-z-]+)( [^`#]*)?' "${docs[@]}" | sed 's/^[`$ ]*//' | sort -u >"$W/commands"
	while read -r name word; do
		for word in $word; do
			case $word in
			LANE=*)
				lane_list | grep -xF -e "${word#LANE=}" >/dev/null || [[ ${word#LANE=} =~ ^[A-Z]*$ ]] || echo "$name: lane in '$word'"
				;;
			*=*) ;;
			-* | *[!a-z-]*) break ;;
			*) [ "$name" != make ] || grep -qE "^$word:" Makefile || echo "make: target '$word'" ;;
			esac
		done
	done <"$W/commands" >"$W/docs"
	sed -nE 's/^([a-z-]+):.*##.*/\1/p' Makefile | while read -r target; do
		grep -qE "make( [A-Z_]+=[^ ]*)* $target\b" "${docs[@]}" || echo "make $target is not in the documents"
	done >>"$W/docs"
	grep -onHP '(?<![\w./])(scripts|docs|config|selftests|patches|LICENSES|\.ci)/[A-Za-z0-9_./-]+' "${docs[@]}" |
		while IFS=: read -r f line name; do
			name=${name%%[./]}
			[[ $name == *NNNN* ]] || [ -e "$name" ] || [ -e "build/linux/$name" ] || echo "$f:$line: $name does not exist"
		done >>"$W/docs"
	empty "facts documents" "$W/docs" "what the documents name does not exist"

	# Error messages that README.md explains, in bold: VERSION stands in the scripts for its value.
	repo_files | grep ^scripts/ | xargs -d '\n' sed "s/\$VERSION/$VERSION/g" >"$W/scripts"
	# shellcheck disable=SC2016
	grep -oE '\*\*`[^`]+`\*\*' README.md | sed 's/^..`//; s/`..$//' | while read -r text; do
		grep -qF -e "$text" "$W/scripts" || echo "$text"
	done >"$W/messages"
	empty "facts messages" "$W/messages" "no script prints these messages of README.md"

	grep -oE '^\| *[0-9]{4} ' README.md | tr -dc '0-9\n' >"$W/table" || true
	series_list | cut -c 1-4 >"$W/series"
	diff "$W/series" "$W/table" | sed -n 's/^< /in series only: /p; s/^> /in README.md only: /p' >"$W/diff" || true
	empty "facts patches" "$W/diff" "the table of README.md differs from series"
}

declare_check licences "each file says its licence, and the texts are there"
check_licences() {
	local f id
	for f in COPYING LICENSES/GPL-2.0-only.txt LICENSES/LGPL-2.1-or-later.txt; do
		[ -s "$f" ] || echo "$f is missing"
	done >"$W/out"
	while read -r f; do
		case $f in
		scripts/tests/*) continue ;;
		scripts/*.list | scripts/*.conf | scripts/gitconfig | scripts/*.ignore) continue ;;
		scripts/* | selftests/*.[ch] | selftests/*/Makefile | Makefile | .ci/run) ;;
		*) continue ;;
		esac
		id=$(head -n 3 "$f" | sed -n 's/.*SPDX-License-Identifier: *\([^ ]*\).*/\1/p')
		[ "$id" = GPL-2.0-only ] || [[ $f == selftests/* && $id == GPL-2.0-or-later ]] ||
			echo "$f: SPDX-License-Identifier is '$id'"
	done < <(repo_files) >>"$W/out"
	empty licences "$W/out" "licence lines"
}

declare_check help "--help of every script, unknown options, make help"
check_help() {
	local f status
	while read -r f; do
		# shellcheck disable=SC2016 # to be found as it is
		if [ ! -x "$f" ] || ! grep -qF '"$(dirname "$0")/lib.sh"' "$f"; then continue; fi
		status=0
		"./$f" --help >"$W/out" 2>"$W/err" </dev/null || status=$?
		if [ "$status" -ne 0 ] || [ -s "$W/err" ] || ! grep -q '^Usage: ' "$W/out"; then
			not_ok "help $f --help" "status $status; wanted 0 and a usage on stdout" "$W/err"
			continue
		fi
		status=0
		"./$f" --no-such-option >"$W/out" 2>"$W/err" </dev/null || status=$?
		if [ "$status" -ne 2 ] || [ -s "$W/out" ] || ! [ -s "$W/err" ]; then
			not_ok "help $f --no-such-option" "status $status; wanted 2 and a message on stderr" "$W/err"
			continue
		fi
		ok "help $f"
	done < <(shell_files | grep ^scripts/)
	make -s help >"$W/out"
	for target in deps fetch tree refresh kernel boot shell check check-all mutants clean distclean; do
		grep -qwF -e "$target" "$W/out" || echo "$target"
	done >"$W/missing"
	empty "help make help" "$W/missing" "targets that are not in it"
}

declare_check deps "a package that is missing is noticed, one after the other"
check_deps() {
	local dir command package
	mkdir -p "$W/bin" "$W/away"
	while read -r dir; do
		find -L "$dir" -maxdepth 1 -type f -executable -exec ln -s -t "$W/bin" {} + 2>/dev/null || true
	done < <(tr ':' '\n' <<<"$PATH")
	while read -r command package; do
		if [ ! -e "$W/bin/$command" ]; then
			skip "deps $command" "it is not there to be taken away"
			continue
		fi
		mv "$W/bin/$command" "$W/away/"
		PATH=$W/bin DRYRUN=1 scripts/deps check >"$W/out" 2>&1 || true
		if [ -n "$package" ] && grep -qE "[ ]$package( |$)" "$W/out"; then
			ok "deps $command"
		else
			not_ok "deps $command" "without it, '$package' is not to be installed" "$W/out"
		fi
		mv "$W/away/$command" "$W/bin/"
	done <<-END
		patch patch
		bison bison
		ccache ccache
		busybox busybox(-static)?
		qemu-system-x86_64 qemu-system-x86
		shellcheck shellcheck
	END
}

declare_check runner "the judges of guests, on saved logs"
check_runner() {
	local status=0
	"$ROOT/scripts/tests/run" >"$OUT/runner.log" 2>&1 || status=$?
	relay runner "$OUT/runner.log" "$status"
}
