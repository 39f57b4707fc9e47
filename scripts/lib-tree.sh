# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Sourced by tree and refresh: patches and overlay into commits, without a working tree.

export GIT_CONFIG_GLOBAL=$ROOT/scripts/gitconfig GIT_CONFIG_NOSYSTEM=1
export GIT_COMMITTER_NAME=Linux-NSPA GIT_COMMITTER_EMAIL=nspa@localhost
export LC_ALL=C.UTF-8
# Never the repository around build/.
export GIT_CEILING_DIRECTORIES=$BUILD
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_NAMESPACE

EPOCH='1767225600 +0000'
OVERLAY_SUBJECT='overlay: selftests/ntsync'
NOTES=refs/notes/nspa

need git git git
need python3 python3 python
need patch patch patch
tmpdir TMP "$BUILD"

g() { git -C "$TREE" "$@"; }

# The files of the overlay, relative to $1: no build products, no editor backups.
overlay_files() {
	[ -d "$1" ] || return 0
	[ -d "$TMP/empty" ] || git init -q "$TMP/empty"
	GIT_INDEX_FILE=$TMP/no-index git --git-dir="$TMP/empty/.git" --work-tree="$1" -C "$1" ls-files -o --exclude-standard \
		-x '*~' -x '*.orig' -x '*.rej' -x '*.sw?' | sort
}

# What decides about the tree, in two parts that are compared separately.
patches_sum() {
	local f
	while read -r f; do
		echo "$f"
		sha256sum <"$PATCHES/$f"
	done < <(series_list) | sha256sum | cut -d ' ' -f 1
}

overlay_sum() {
	local f
	while read -r f; do
		echo "$f $([ ! -x "$OVERLAY_SRC/$f" ] || echo x)"
		sha256sum <"$OVERLAY_SRC/$f"
	done < <(overlay_files "$OVERLAY_SRC") | sha256sum | cut -d ' ' -f 1
}

# build/linux/.git/nspa/ holds what the tree was made from: base, patches, overlay, tip.
made() { cat "$TREE/.git/nspa/$1" 2>/dev/null || true; }

# Series and directory must agree.
check_series() {
	local f dup
	dup=$(series_list | sort | uniq -d | head -n 1)
	[ -z "$dup" ] || die "series names $dup twice"
	while read -r f; do
		[ -f "$PATCHES/$f" ] || die "series names $f, but patches/linux/$f does not exist"
	done < <(series_list)
}

# Says which file and hunk of a patch do not apply to the index. $1: git repository, $2: patch.
explain() {
	local dir=$TMP/explain file
	mkdir -p "$dir"
	while read -r file; do
		git -C "$1" checkout-index -q -f --prefix="$dir/" -- "$file" 2>/dev/null || true
	done < <(git -C "$1" apply --numstat "$2" 2>/dev/null | cut -f 3)
	patch -d "$dir" -p1 -f -N --dry-run --fuzz=0 <"$2" 2>&1 |
		grep -E "FAILED|can't find file|^(checking|patching) file|already exists|malformed|garbage" |
		awk '/^(checking|patching) file/ {file = $3; next} {print "  " (file ? file ": " : "") $0}'
	rm -rf "$dir"
}

# apply_patch REPO PARENT FILE: prints the commit. The index is $GIT_INDEX_FILE.
apply_patch() {
	local repo=$1 parent=$2 file=$3 name author email date subject
	name=$(basename "$file")
	if ! git -C "$repo" mailinfo -b --encoding=UTF-8 "$TMP/body" "$TMP/diff" <"$file" >"$TMP/info"; then
		die "patch $name is not a mail as git format-patch writes it"
	fi
	author=$(sed -n 's/^Author: //p' "$TMP/info")
	email=$(sed -n 's/^Email: //p' "$TMP/info")
	date=$(sed -n 's/^Date: //p' "$TMP/info")
	subject=$(sed -n 's/^Subject: //p' "$TMP/info")
	if [ -z "$author" ] || [ -z "$email" ] || [ -z "$date" ] || [ -z "$subject" ]; then
		die "patch $name lacks one of From:, Date: and Subject:"
	fi
	if ! git -C "$repo" apply --cached --whitespace=nowarn "$file" 2>"$TMP/err"; then
		die "patch $name does not apply:
$(explain "$repo" "$file")
$(sed 's/^error: /  git: /' "$TMP/err")"
	fi
	{
		printf '%s\n' "$subject"
		[ ! -s "$TMP/body" ] || { echo; cat "$TMP/body"; }
	} | git stripspace >"$TMP/message"
	GIT_AUTHOR_NAME=$author GIT_AUTHOR_EMAIL=$email GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date \
		git -C "$repo" commit-tree -p "$parent" -F "$TMP/message" \
		"$(git -C "$repo" write-tree)"
}

# build_tip REPO: commits of all patches and of the overlay on top of nspa-base. Sets TIP and
# PATCHES_TIP and leaves the names of the patches in $TMP/notes. Nothing in REPO points to it yet.
build_tip() {
	local repo=$1 name file blob mode
	export GIT_INDEX_FILE=$TMP/index
	git -C "$repo" read-tree nspa-base
	TIP=$(git -C "$repo" rev-parse nspa-base)
	: >"$TMP/notes"
	while read -r name; do
		TIP=$(apply_patch "$repo" "$TIP" "$PATCHES/$name") || exit 1
		echo "$TIP $name" >>"$TMP/notes"
	done < <(series_list)
	PATCHES_TIP=$TIP
	overlay_files "$OVERLAY_SRC" >"$TMP/overlay"
	if [ -s "$TMP/overlay" ]; then
		while read -r file; do
			mode=100644
			[ ! -x "$OVERLAY_SRC/$file" ] || mode=100755
			blob=$(git -C "$repo" hash-object -w --no-filters "$OVERLAY_SRC/$file")
			echo "$mode $blob	$OVERLAY_DST/$file"
		done <"$TMP/overlay" | git -C "$repo" update-index --add --index-info
		TIP=$(GIT_AUTHOR_NAME=$GIT_COMMITTER_NAME GIT_AUTHOR_EMAIL=$GIT_COMMITTER_EMAIL \
			GIT_AUTHOR_DATE=$EPOCH GIT_COMMITTER_DATE=$EPOCH git -C "$repo" \
			commit-tree -p "$TIP" -m "$OVERLAY_SUBJECT" "$(git -C "$repo" write-tree)")
	fi
	unset GIT_INDEX_FILE
}

# record_tip REPO BASE-KEY: notes, tag and nspa/ say what build_tip built.
record_tip() {
	local repo=$1 commit name
	git -C "$repo" update-ref -d "$NOTES"
	while read -r commit name; do
		git -C "$repo" notes --ref="$NOTES" add -m "$name" "$commit"
	done <"$TMP/notes"
	git -C "$repo" tag -f nspa-patches "$PATCHES_TIP" >/dev/null
	mkdir -p "$repo/.git/nspa"
	echo "$2" >"$repo/.git/nspa/base"
	patches_sum >"$repo/.git/nspa/patches"
	overlay_sum >"$repo/.git/nspa/overlay"
	echo "$TIP" >"$repo/.git/nspa/tip"
}

# Has somebody worked in build/linux since it was made from the patches?
edited() {
	[ "$(g symbolic-ref -q HEAD)" = refs/heads/nspa ] || return 0
	[ "$(g rev-parse HEAD)" = "$(made tip)" ] || return 0
	[ -z "$(g status --porcelain -uno)" ] || return 0
	[ -z "$(g ls-files -o --exclude-standard -- "$OVERLAY_DST")" ] || return 0
	return 1
}
