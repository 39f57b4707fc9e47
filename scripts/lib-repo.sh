# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Sourced by check and mutants: the repository's own files.

# Those that git knows, and new ones that it does not ignore
repo_files() {
	git -C "$ROOT" ls-files -co --exclude-standard --deduplicate | while read -r f; do
		[ ! -f "$ROOT/$f" ] || echo "$f"
	done
}

# copy_repo DIR: makes DIR another clone, as the files are now. Its build/ stays.
copy_repo() {
	mkdir -p "$1/build"
	find "$1" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
	repo_files | tar -C "$ROOT" -cf - --no-recursion --verbatim-files-from -T - | tar -C "$1" -xf -
	# With or without the -rt queue, as here
	[ ! -e "$BUILD/rt" ] || cp "$BUILD/rt" "$1/build/rt"
}
