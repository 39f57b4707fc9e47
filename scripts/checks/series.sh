# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# Sourced by scripts/check: the patches, and the ways to apply them.

# Makes build/linux, once in a run.
have_tree() {
	[ ! -e "$HAVE/tree" ] || return 0
	"$ROOT/scripts/tree" || return 1
	"$ROOT/scripts/tree" --base || return 1
	: >"$HAVE/tree"
}

t() { git -C "$TREE" "$@"; }

declare_check series "series and directory agree, names and heads of the patches"
check_series() {
	local name from kind file
	series_list >"$W/series"
	{
		[ -s "$W/series" ] || echo "series is empty"
		sort "$W/series" | uniq -d | sed 's/$/ is named twice/'
		sort -c "$W/series" 2>&1 | sed 's/.*disorder: \(.*\)/\1 is not in the order of its number/'
		cut -c 1-4 "$W/series" | sort | uniq -d | sed 's/.*/two patches have the number &/'
		grep -vE '^[0-9]{4}-[A-Za-z0-9._-]+\.patch$' "$W/series" | sed 's/$/ is not NNNN-subject.patch/'
		find patches/linux -mindepth 1 -printf '%P\n' | sort >"$W/files"
		sort "$W/series" | diff - "$W/files" |
			sed -n 's/^< \(.*\)/\1 is in series, but not in patches\/linux/p; s/^> \(.*\)/\1 is in patches\/linux, but not in series/p'
		sed 's/#.*//; /^[[:space:]]*$/d' patches/wine/series | while read -r file; do
			[ -f "patches/wine/$file" ] || echo "patches/wine/series names $file, which does not exist"
		done
	} >"$W/out" || true
	empty series "$W/out" "the series is not in order"

	while read -r name; do
		file=patches/linux/$name
		[ -f "$file" ] || continue
		{
			git mailinfo -b "$W/body" "$W/diff" <"$file" >"$W/info" || echo "is not a mail"
			from=$(sed -n 's/^Author: //p' "$W/info") from+=" <$(sed -n 's/^Email: //p' "$W/info")>"
			for kind in Author Email Date Subject; do
				grep -q "^$kind: ." "$W/info" || echo "has no $kind"
			done
			sed -n 's/^Subject: //p' "$W/info" | grep -E '^[A-Za-z0-9_/:, .-]+: .*[^.]$' >/dev/null || echo "the subject is not 'component: what it does'"
			grep -qxF "Signed-off-by: $from" "$W/body" || echo "has no Signed-off-by of its author, $from"
			[ "$(sed '/^[A-Z][a-z-]*-by: /,$d' "$W/body" | wc -w)" -ge 12 ] || echo "the body does not say why"
			! grep -nE '^(rename|copy|similarity) |^Binary files|^GIT binary|^-- $|^old mode' "$file" || echo "(quilt and patch cannot apply these lines, or git format-patch --no-signature does not write them)"
		} >"$W/out"
		empty "head $name" "$W/out" "the head of the patch"
	done <"$W/series"
}

declare_check checkpatch "checkpatch --strict on every patch"
check_checkpatch() {
	local name ignore
	have_tree
	cd "$TREE" || return
	while read -r name; do
		# scripts/checkpatch.ignore: TYPE PATTERN-OF-PATCHES REASON
		ignore=$(while read -r type glob reason; do
			case $type in '' | '#'*) continue ;; esac
			[ -n "$reason" ] || die "scripts/checkpatch.ignore: $type $glob has no reason"
			# shellcheck disable=SC2053 # it is a pattern
			[[ $name != $glob ]] || echo "$type"
		done <"$ROOT/scripts/checkpatch.ignore" | paste -sd ,)
		# What it says on stderr is that its licence checker lacks a Python module.
		if scripts/checkpatch.pl --strict --show-types --no-summary --color=never --max-line-length=100 \
			${ignore:+--ignore "$ignore"} "$PATCHES/$name" >"$W/out" 2>"$W/err"; then
			: >"$W/out"
		elif [ ! -s "$W/out" ]; then
			cp "$W/err" "$W/out"
		fi
		empty "checkpatch $name" "$W/out" "checkpatch complains"
	done < <(series_list)
}

declare_check maintainers "every new file of the series has a maintainer"
check_maintainers() {
	local file
	have_tree
	cd "$TREE" || return
	[ -z "$(t status --porcelain -uno)" ] || warn "build/linux has uncommitted changes"
	t diff --name-only --no-renames --diff-filter=A nspa-base nspa-patches | while read -r file; do
		[ ! -e "$file" ] || scripts/get_maintainer.pl --no-git --no-git-fallback --no-tree -f "$file" |
			grep -qE '\((maintainer|supporter|reviewer):' || echo "$file"
	done >"$W/out"
	empty maintainers "$W/out" "new files without a maintainer in MAINTAINERS"
}

declare_check tree "build/linux is what patches and overlay give"
check_tree() {
	have_tree
	{
		t status --porcelain -uno
		[ "$(t log -1 --format=%s)" = "overlay: selftests/ntsync" ] || t log -1 --format='the last commit is "%s", not the overlay'
		t rev-list --count nspa-patches..HEAD | grep -vx 1 | sed 's/.*/& commits above the patches/'
	} >"$W/out" || true
	empty tree "$W/out" "build/linux was edited: make refresh, or throw it away with make tree FORCE=1"
	t ls-tree -r --name-only "HEAD:tools/testing/selftests/drivers/ntsync" | while read -r f; do
		[ ! -e "$ROOT/selftests/ntsync/$f" ] || t show "HEAD:tools/testing/selftests/drivers/ntsync/$f" | cmp -s - "$ROOT/selftests/ntsync/$f" || echo "$f"
	done >"$W/out"
	empty "tree overlay" "$W/out" "selftests/ntsync differs from build/linux"
}

declare_check refresh "in another clone, make tree refresh changes no byte"
check_refresh() {
	local c=$W/clone
	have_tree
	copy_repo "$c"
	sums() { (cd "$c" && find series patches selftests -type f -print0 | sort -z | xargs -0 sha256sum); }
	sums >"$W/before"
	step "make tree refresh" "$OUT/refresh.log" make -C "$c" tree refresh || {
		not_ok refresh "make tree refresh failed" "$OUT/refresh.log"
		return
	}
	sums >"$W/after"
	diff "$W/before" "$W/after" >"$W/out" || true
	empty refresh "$W/out" "make tree refresh changed files"

	# Some other clone must end at the very same commits.
	if [ "$(git -C "$c/build/linux" rev-parse nspa-patches)" = "$(t rev-parse nspa-patches)" ]; then
		ok "refresh commits"
	else
		not_ok "refresh commits" "two clones have different commits for the same patches"
	fi

	# A fixup, folded in and written back, changes its patch and no other one.
	step "fixup and refresh" "$OUT/refresh-fixup.log" fixup_and_refresh "$c" || {
		not_ok "refresh fixup" "commit --fixup, rebase --autosquash, refresh failed" "$OUT/refresh-fixup.log"
		return
	}
	sums | diff "$W/after" - | sed -n 's/^> [0-9a-f]*  //p' >"$W/changed" || true
	if [ "$(cat "$W/changed")" = "patches/linux/$(series_list | tail -n 1)" ]; then
		ok "refresh fixup"
	else
		not_ok "refresh fixup" "the last patch was edited, but other files changed" "$W/changed"
	fi
}

fixup_and_refresh() {
	local l=$1/build/linux file
	file=$(git -C "$l" diff --name-only --diff-filter=AM nspa-patches^ nspa-patches | head -n 1)
	echo >>"$l/$file"
	export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@localhost GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@localhost
	git -C "$l" commit -q -a --fixup nspa-patches
	GIT_SEQUENCE_EDITOR=: git -C "$l" rebase -q -i --autosquash nspa-base
	"$1/scripts/refresh"
}

# The files that the patches change, out of the tarball. $1: where to.
unpack_touched() {
	local tarball top
	tarball=$("$ROOT/scripts/fetch" --print)
	t ls-tree -r --name-only nspa-base | sort >"$W/base"
	series_list | sed "s|^|$PATCHES/|" | xargs -d '\n' sed -n 's|^--- a/||p' | sort -u |
		comm -12 - "$W/base" >"$W/touched"
	# The first entry has the name of the top directory.
	top=$( (xz -dc "$tarball" 2>/dev/null || true) | tar -tf - 2>/dev/null | sed -n '1{s|/.*||p;q}')
	mkdir -p "$1"
	sed "s|^|$top/|" "$W/touched" |
		tar -xJf "$tarball" --no-recursion --no-anchored --strip-components=1 -C "$1" -T -
}

# like_tree DIR: what came out in DIR is what build/linux has at nspa-patches. Files that the -rt
# queue changes too are left out.
like_tree() {
	local file
	t diff --no-renames --name-status nspa-base nspa-patches | while read -r kind file; do
		if [ "$kind" = D ]; then
			[ ! -e "$1/$file" ] || echo "$file should have gone"
		elif [ "$kind" = A ] || t show "nspa-base:$file" | cmp -s - "$W/plain/$file"; then
			t show "nspa-patches:$file" | cmp -s - "$1/$file" || echo "$file differs from build/linux"
		fi
	done
}

declare_check apply "quilt push -a and patch -Np1 without fuzz, in an unpacked tarball"
check_apply() {
	local name
	have_tree
	need quilt quilt quilt
	need patch patch patch
	step "unpacking what the patches change" "$OUT/unpack.log" unpack_touched "$W/plain"

	cp -r "$W/plain" "$W/patch"
	: >"$W/out"
	while read -r name; do
		patch -d "$W/patch" -Np1 --fuzz=0 --no-backup-if-mismatch <"$PATCHES/$name" >"$W/log" 2>&1 || {
			{ echo "$name:"; cat "$W/log"; } >"$W/out"
			break
		}
	done < <(series_list)
	[ -s "$W/out" ] || like_tree "$W/patch" >"$W/out"
	empty "apply patch" "$W/out" "patch -Np1 --fuzz=0"

	cp -r "$W/plain" "$W/quilt"
	: >"$W/out"
	if (cd "$W/quilt" && quilt --quiltrc "$ROOT/quiltrc" push -a --fuzz=0) >"$W/log" 2>&1; then
		like_tree "$W/quilt" >"$W/out"
	else
		cp "$W/log" "$W/out"
	fi
	empty "apply quilt" "$W/out" "quilt push -a --fuzz=0"
}

# applies NAME FILE REVISION
applies() {
	rm -f "$W/index"
	GIT_INDEX_FILE=$W/index t read-tree "$3"
	if GIT_INDEX_FILE=$W/index t apply --cached --check "$2" >"$W/out" 2>&1; then : >"$W/out"; fi
	empty "$1 applies" "$W/out" "it does not apply to $3"
}

declare_check mutants-doc "planted bugs and the bench's patches apply, and docs/mutants.md lists the former"
check_mutants_doc() {
	local file
	have_tree
	for file in "$ROOT"/selftests/mutants/*.patch; do
		applies "mutant ${file##*/}" "$file" nspa-patches
	done
	applies "bench section-vm.patch" "$ROOT/selftests/bench/section-vm.patch" nspa-patches
	applies "bench section-base.patch" "$ROOT/selftests/bench/section-base.patch" nspa-base
	"$ROOT/scripts/mutants" --list >"$W/table"
	diff "$W/table" <(grep '^|' "$ROOT/docs/mutants.md") >"$W/out" || true
	empty "mutants documented" "$W/out" "docs/mutants.md is old: scripts/mutants --doc"
}
