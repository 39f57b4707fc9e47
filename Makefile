# SPDX-License-Identifier: GPL-2.0-only
# Each target calls one script; the scripts have --help.

LANE ?= vm
export LANE CPUS TEST QUICK INIT ICOUNT DRYRUN LINUX_TARBALL RT_PATCH FORCE REPEAT ARGS LIMIT APPEND ACCEL
export KCONFIG_EXTRA LLVM KMAKE COMPILER

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## this list
	@echo "Linux-NSPA. The main job: make boot"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || \
		sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1: \2/p' Makefile
	@echo
	@echo "Variables: LANE=$$(scripts/kernel --known | paste -sd '|') CPUS=2 TEST=name QUICK=1 INIT=/static/binary"
	@echo "  ICOUNT=1 DRYRUN=1 LINUX_TARBALL=/path RT_PATCH=/path|none FORCE=1"
	@echo "  boot: REPEAT=20 LIMIT=seconds ARGS=\"...\" APPEND=\"kernel parameters\" ACCEL=tcg|kvm"
	@echo "  kernel: LLVM=1 KCONFIG_EXTRA=/fragment   selftests: COMPILER=clang"
	@echo "  bench: BASELINE=/old.json NATIVE=1       rebase: VERSION=6.19.y"
	@echo "The scripts of the same names explain theirs: scripts/boot --help"

.PHONY: deps
deps: ## install what is missing (apt or pacman)
	@scripts/deps check

# Silent if nothing is missing.
.PHONY: deps-tree deps-kernel deps-boot deps-install deps-deb deps-check deps-check-all
deps-tree deps-kernel deps-boot deps-install deps-deb deps-check deps-check-all:
	@scripts/deps --quiet $(@:deps-%=%)

.PHONY: fetch
fetch: deps-tree ## download and verify the sources
	@scripts/fetch

.PHONY: tree
tree: fetch ## make build/linux: base, one commit for each patch, overlay
	@scripts/tree

.PHONY: refresh
refresh: ## write the commits of build/linux back to patches/ and selftests/
	@scripts/refresh

.PHONY: kernel
kernel: lane deps-kernel tree ## configure and build the kernel of LANE
	@scripts/kernel $(LANE)

.PHONY: lane
lane:
	@scripts/kernel --check $(LANE)

.PHONY: selftests
selftests: deps-boot tree ## build the test programs for the guest
	@scripts/selftests

.PHONY: args
args:
	@scripts/boot --check

.PHONY: boot
boot: args deps-boot kernel selftests ## boot LANE in QEMU and run the kselftests
	@scripts/boot

.PHONY: shell
shell: deps-boot kernel selftests ## an interactive guest
	@scripts/shell

.PHONY: check
check: deps-check fetch ## everything that CI runs
	@scripts/check

.PHONY: check-all
check-all: deps-check-all fetch ## check, each prefix of the series, cross builds, more runs
	@scripts/check --all

.PHONY: mutants
mutants: deps-boot kernel selftests ## show that each planted bug is caught
	@scripts/mutants

.PHONY: bench
bench: deps-check tree ## what operations cost here and upstream, in instructions
	@[ "$(NATIVE)" = 1 ] || { scripts/kernel base && scripts/kernel vm; }
	@scripts/selftests
	@scripts/bench

.PHONY: deb
deb: deps-deb tree ## Debian packages of the kernel: build/deb/*.deb
	@scripts/package deb

.PHONY: install
install: deps-install tree ## build the kernel and install it on this machine
	@scripts/package install

.PHONY: aur
aur: ## build/aur: the PKGBUILD with its files side by side, to be published
	@scripts/package aur

.PHONY: rebase
rebase: deps-tree ## which patches apply to another release (VERSION=6.19.y)
	@VERSION='$(VERSION)' scripts/rebase

.PHONY: doctor
doctor: ## is this machine right for real-time audio?
	@scripts/nspa-doctor

.PHONY: clean
clean: ## remove what was built; build/linux and downloads stay
	@scripts/clean

.PHONY: distclean
distclean: ## remove build/ altogether; downloads stay
	@scripts/clean --all
