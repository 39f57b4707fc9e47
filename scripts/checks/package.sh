# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2153
# Sourced by scripts/check: what is installed.

# configured VARIABLE=VALUE...: scripts/package-config, with its output in $W/log and $W/other/.config
configured() {
	env "$@" "$ROOT/scripts/package-config" "$TREE" "$W/other" "$ROOT/config" >"$W/log" 2>&1 && return
	{ echo "$*:"; tail -n 5 "$W/log"; } >>"$W/out"
	return 1
}

# has LINE [FILE]: adds to $W/out unless LINE is in that configuration, or in FILE.
has() { grep -qxF -e "$1" "${2:-$W/other/.config}" || echo "there is no $1" >>"$W/out"; }

declare_check package "PKGBUILD, .SRCINFO, SHA256SUMS and configurations agree, and say what scripts/base.conf says"
check_package() {
	local name value config march
	{
		for name in "pkgver=$VERSION" "pkgrel=$(cut -d - -f 2 <<<"$LOCALVERSION")" "_rtsum=$RT_SHA256" \
			"_rtpatch='$(basename "$RT_URL" .xz)'" "sha256sums=($TARBALL_SHA256 SKIP)" "sha256sums=($DEBIAN_SHA256)"; do
			sed 's/^[[:space:]]*//' PKGBUILD | grep -xF -e "$name" >/dev/null || echo "PKGBUILD does not say $name"
		done
		for value in "$TARBALL_URL" "$RT_URL"; do
			grep -qxF -e "	source = $value" .SRCINFO || echo ".SRCINFO has no source $value"
		done
		[ "${LOCALVERSION##*-}" = "$(sed -n 's/^pkgbase=linux-//p' PKGBUILD)" ] || echo "PKGBUILD: pkgbase does not end as $LOCALVERSION"
	} >"$W/out"
	empty "package PKGBUILD" "$W/out" "it differs from scripts/base.conf"

	"$ROOT/scripts/package" sums | diff SHA256SUMS - >"$W/out" || true
	empty "package SHA256SUMS" "$W/out" "it is old: scripts/package sums >SHA256SUMS"
	if command -v makepkg >/dev/null; then
		"$ROOT/scripts/package" srcinfo 2>&1 | diff .SRCINFO - >"$W/out" || true
		empty "package .SRCINFO" "$W/out" "it is old: scripts/package srcinfo >.SRCINFO"
		"$ROOT/scripts/package" aur >"$OUT/aur.log" 2>&1 || true
		# Every local source is there with the sum that the PKGBUILD gives.
		awk '$1 == "source" && $3 !~ /:/ { s[++n] = $3; at[n] = n + skipped } $1 == "source" && $3 ~ /:/ { skipped++ }
			$1 == "sha256sums" { sum[++m] = $3 } END { for (i = 1; i <= n; i++) print sum[at[i]] "  " s[i] }' "$BUILD/aur/.SRCINFO" >"$W/sums"
		{
			[ "$(wc -l <"$W/sums")" = "$(wc -l <SHA256SUMS)" ] || echo "it does not list what SHA256SUMS lists"
			(cd "$BUILD/aur" && sha256sum --quiet -c "$W/sums") 2>&1 || true
		} >"$W/out"
		empty "package aur" "$W/out" "build/aur is not complete"
	else
		skip "package .SRCINFO" "makepkg is missing: make deps" 2
	fi

	have_tree || { not_ok "package config" "no tree"; return; }
	# The small one must be lane mod's.
	for config in vm defconfig; do
		_config=$config "$ROOT/scripts/package-config" "$TREE" "$W/$config" "$ROOT/config" >"$OUT/package-$config.log" 2>&1 ||
			{ not_ok "package config $config" "scripts/package-config failed" "$OUT/package-$config.log"; return; }
		ok "package config $config"
	done
	have_kernel mod || { not_ok "package config vm is lane mod" "lane mod does not build"; return; }
	diff <(grep -v PAHOLE_VERSION "$BUILD/mod/.config" | grep ^CONFIG) <(grep -v PAHOLE_VERSION "$W/vm/.config" | grep ^CONFIG) >"$W/out" || true
	empty "package config vm is lane mod" "$W/out" "they differ"
	# Only what is loaded: a list in place of lsmod's
	printf '%s\n' 'Module Size Used by' 'ext4 1 0' 'snd_hda_intel 1 0' >"$W/lsmod"
	if LSMOD=$W/lsmod _localmodconfig=yes _config=defconfig "$ROOT/scripts/package-config" "$TREE" "$W/local" "$ROOT/config" >"$W/log" 2>&1 &&
		[ "$(grep -c '=m$' "$W/local/.config")" -lt "$(grep -c '=m$' "$W/defconfig/.config")" ] && [ "$(make -s -C "$TREE" "O=$W/local" LOCALVERSION=-x kernelrelease)" = "$VERSION-x" ]; then
		ok "package config localmodconfig"
	else
		not_ok "package config localmodconfig" "it fails, has all modules, or another version" "$W/log"
	fi
	# A distribution's version, and a driver that can only be built in by now
	printf '%s\n' CONFIG_64BIT=y CONFIG_MODULES=y 'CONFIG_LOCALVERSION="-theirs"' CONFIG_ACPI=y CONFIG_PCI=y CONFIG_USB_SUPPORT=y \
		CONFIG_HYPERVISOR_GUEST=y CONFIG_PARAVIRT=y CONFIG_SMP=y CONFIG_X86_LOCAL_APIC=y CONFIG_HYPERV=m CONFIG_NET=y CONFIG_BPF_SYSCALL=y >"$W/theirs"
	if _config=$W/theirs "$ROOT/scripts/package-config" "$TREE" "$W/other" "$ROOT/config" >"$W/log" 2>&1 &&
		grep -qx CONFIG_HYPERV=y "$W/other/.config" && [ "$(make -s -C "$TREE" "O=$W/other" LOCALVERSION=-x kernelrelease)" = "$VERSION-x" ]; then
		ok "package config of others"
	else
		not_ok "package config of others" "it fails, drops a driver, or keeps their version" "$W/log"
	fi
	# Where auto begins: what is there is taken away, one after the other. And for which processor: this one, with an
	# option; another one, with a flag, and without the option of the kernel to begin with
	: >"$W/out"
	mkdir -p "$W/root/proc" "$W/root/boot" "$W/root/lib/modules/6.1.2/"
	auto() { sed "1i# Linux/x86 $2 Kernel Configuration" "$W/theirs" | sed "\$aCONFIG_LOG_BUF_SHIFT=$1\nCONFIG_X86_NATIVE_CPU=$3"; }
	auto 13 6.2.0 y | gzip >"$W/root/proc/config.gz"
	auto 14 5.0.0 n >"$W/root/boot/config-$(uname -r)"
	auto 15 6.1.10 y >"$W/root/lib/modules/6.1.2/config"
	auto 16 6.1.9 y >"$W/root/boot/config-6.1.9"
	for value in 13:proc/config.gz "14:boot/config-$(uname -r)" 15:lib/modules/6.1.2/config 16:boot/config-6.1.9; do
		case $value in 13:*) march=x86-64-v3 ;; 14:*) march=native ;; *) march=generic ;; esac
		configured _config=auto "_root=$W/root" _march=$march && has "CONFIG_LOG_BUF_SHIFT=${value%%:*}" && has "==> configuration: $W/root/${value#*:}" "$W/log"
		case $march in
		native) has CONFIG_X86_NATIVE_CPU=y ;;
		*) has '# CONFIG_X86_NATIVE_CPU is not set' ;;
		esac
		rm "$W/root/${value#*:}"
	done
	empty "package config auto" "$W/out" "it begins with another one, or is for another processor"
	for value in generic native x86-64-v3; do
		DRYRUN=1 _config=vm _march=$value "$ROOT/scripts/package" deb | sed -n "s/.*'KCFLAGS=\([^']*\)'.*/make deb \1/p"
		# shellcheck disable=SC2016 # for the other shell
		_march=$value bash -c 'make() { printf "%s\n" "$@"; }; . ./PKGBUILD; srcdir=. MAKEFLAGS=-j1; _make all' | sed -n 's/^KCFLAGS=/makepkg /p'
	done >"$W/flags"
	printf '%s\n' 'make deb -march=x86-64-v3' 'makepkg -march=x86-64-v3' | diff - "$W/flags" >"$W/out" || true
	empty "package config march" "$W/out" "the compiler is not told the processor, or another one"
	# Nothing is there for auto any more. Checkers, and all else that config/nspa.config asks for
	: >"$W/out"
	if configured _debug=yes _config=auto "_root=$W/root"; then
		grep -q '^package-config: warning: no configuration' "$W/log" || echo "no warning of x86_64_defconfig" >>"$W/out"
		for value in EXT4_FS=y PREEMPT_RT=y PROVE_LOCKING=y LOCKDEP=y DEBUG_ATOMIC_SLEEP=y DEBUG_RT_MUTEXES=y NTSYNC=m HZ_1000=y SND_HDA_INTEL=m SND_HDA_GENERIC=m; do has "CONFIG_$value"; done
	fi
	empty "package config debug" "$W/out" "it has not what was asked for"
	# What it refuses
	for value in _config=none _march=i386 _debug=maybe _config=/does/not/exist; do
		if env "$value" "$ROOT/scripts/package-config" "$TREE" "$W/refused" "$ROOT/config" >"$W/log" 2>&1; then
			echo "$value is accepted"
		else
			grep -qE '^package-config: _' "$W/log" || echo "$value: no message that names it"
		fi
	done >"$W/out"
	# setsid: no terminal
	setsid -w env _menuconfig=yes _config=vm "$ROOT/scripts/package-config" "$TREE" "$W/refused" "$ROOT/config" >"$W/log" 2>&1 </dev/null && echo "a menu without a terminal is accepted" >>"$W/out"
	grep -qx 'package-config: _menuconfig=yes: there is no terminal here' "$W/log" || echo "a menu without a terminal: no message" >>"$W/out"
	echo CONFIG_NO_SUCH_OPTION=y >"$W/extra"
	mkdir -p "$W/fragments"
	cat config/nspa.config "$W/extra" >"$W/fragments/nspa.config"
	_config=defconfig "$ROOT/scripts/package-config" "$TREE" "$W/refused" "$W/fragments" >"$W/log" 2>&1 && echo "an option that does not exist is accepted" >>"$W/out"
	grep -q 'CONFIG_NO_SUCH_OPTION=y, but' "$W/log" || echo "an option that was dropped is not named" >>"$W/out"
	empty "package config, bad choices" "$W/out" "they are not refused"
}

# told GUEST ID STATUS: complains unless the doctor said STATUS of ID in that guest.
told() {
	local said
	said=$(tr -d '\r' <"$W/said-$1" | awk -v id="$2" '$2 == id { print $1 }')
	[ "$said" = "$3" ] || echo "$1: $2 is ${said:-not there}, not $3"
}

# seen GUEST RUN LOG: keeps what the doctor said in the guest whose run that was.
seen() {
	cp "$2/status" "$W/said-$1" || : >"$W/said-$1"
	if grep -q 'kernel printed' "$3"; then echo "$1: the kernel printed what it must not"; fi
}

declare_check doctor "nspa-doctor: on trees with one thing wrong, and in guests with and without our patches"
check_doctor() {
	local compiler bits lane id status=0 vm ours='ntsync-mutex-pi ntsync-event-pi ntsync-channel ntsync-tokens ntsync-aggregate'
	local newer='ntsync-try-recv2 ntsync-send-only ntsync-uring-fd'
	for compiler in gcc "clang$(llvm_find | sed 's/^1$//')"; do
		for bits in 64 32; do
			"$compiler" "-m$bits" -O2 -Wall -Wextra -Werror -c -o "$W/doctor.o" scripts/doctor/nspa-doctor.c 2>&1 || true
		done
	done >"$W/out"
	empty "doctor, compilers" "$W/out" "they complain"
	"$ROOT/scripts/tests/doctor" >"$OUT/doctor.log" 2>&1 || status=$?
	relay doctor "$OUT/doctor.log" "$status"

	# With sudo in a clone of somebody: what it builds belongs to him.
	if [ "$(id -u)" = 0 ]; then
		mkdir "$W/clone"
		cp -r scripts "$W/clone/"
		chown -R 65534:65534 "$W/clone"
		"$W/clone/scripts/nspa-doctor" --help >/dev/null
		find "$W/clone" -user root >"$W/out"
		[ -x "$W/clone/build/nspa-doctor" ] || echo "there is no build/nspa-doctor" >>"$W/out"
		empty "doctor, as root" "$W/out" "files of root are left"
	fi

	have_kernel vm base nort mod debug || { not_ok "doctor, guests" "a kernel does not build"; return; }
	have_tests || { not_ok "doctor, guests" "the test programs do not build"; return; }
	"$ROOT/scripts/nspa-doctor" --help >/dev/null
	for lane in vm base nort mod debug; do
		LANE=$lane CPUS=2 INIT=$BUILD/nspa-doctor ARGS='--measure 1' "$ROOT/scripts/boot" >"$OUT/doctor-$lane.log" 2>&1 </dev/null || true
		seen "$lane" "$BUILD/runs/$lane/latest" "$OUT/doctor-$lane.log"
		told "$lane" ntsync ok
		told "$lane" ntsync-base ok
		# How late an emulated machine is, is no matter of ours.
		grep -qa ' measure-wakeup ' "$W/said-$lane" || echo "$lane: no measure-wakeup"
		case $lane in nort) told "$lane" rt problem ;; *) told "$lane" rt ok ;; esac
		for id in $ours measure-inversion; do
			case $lane in base) told base "$id" problem ;; *) told "$lane" "$id" ok ;; esac
		done
		for id in $newer; do
			case $lane in base) told base "$id" warning ;; *) told "$lane" "$id" ok ;; esac
		done
		# Only the kernel of lane debug has its options in it.
		case $lane in
		debug)
			for id in config config-rt config-hz config-hrtimers config-ntsync config-futex-pi config-io-uring config-rt-group; do
				told debug "$id" ok
			done
			told debug config-checkers warning
			grep -qa 'config-checkers .*CONFIG_KASAN, CONFIG_PROVE_LOCKING' "$W/said-debug" || echo "debug: KASAN and lockdep are not named"
			;;
		nort) told nort config-checkers warning ;;
		*) told "$lane" config-checkers unknown ;;
		esac
	done >"$W/out"

	# A module that is not loaded; and a user without rights
	vm=("$ROOT/scripts/vm" --initrd "$BUILD/initramfs.cpio" --program "$BUILD/nspa-doctor" --plan "$W/plan" --rundir "$W/run")
	{
		echo 'nspa-doctor --measure 1' >"$W/plan"
		"${vm[@]}" --kernel "$BUILD/mod/bzImage" >"$OUT/doctor-nodevice.log" 2>&1 </dev/null || true
		seen nodevice "$W/run" "$OUT/doctor-nodevice.log"
		told nodevice ntsync problem
		grep -qa 'there is no /dev/ntsync' "$W/said-nodevice" || echo "nodevice: it does not say so"
		for id in ntsync-base $ours $newer measure-inversion; do told nodevice "$id" unknown; done

		echo 'ada:x:1000:1000::/:/bin/sh' >"$W/passwd"
		echo "file etc/passwd $W/passwd 0644" | "$ROOT/scripts/newc" | cat "$BUILD/initramfs.cpio" - >"$W/initrd"
		echo '../bin/start-stop-daemon -S -c ada -x /prog/nspa-doctor -- --measure 1' >"$W/plan"
		"${vm[@]}" --initrd "$W/initrd" --kernel "$BUILD/vm/bzImage" >"$OUT/doctor-user.log" 2>&1 </dev/null || true
		seen user "$W/run" "$OUT/doctor-user.log"
		for id in ntsync ntsync-base $ours $newer rt; do told user "$id" ok; done
		for id in rtprio measure; do told user "$id" problem; done
		told user fair-server unknown
		grep -qa 'usermod -aG realtime ada' "$W/said-user" || echo "user: it does not say what to do"
		grep -qa 'run nspa-doctor as root' "$W/said-user" || echo "user: it does not say that root sees more"
	} >>"$W/out"
	empty "doctor, guests" "$W/out" "it does not tell the truth"
}

# unprivileged COMMAND...: makepkg refuses to run as root.
unprivileged() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=65534 --regid=65534 --clear-groups env -i "PATH=$PATH" "HOME=$P" "$@"
	else
		env -i "PATH=$PATH" "HOME=$P" "$@"
	fi
}

# packaged NAME DIRECTORY: makepkg in DIRECTORY with the small configuration; packages are left in $P/out.
packaged() {
	local how=() rt=no
	rm -rf "$P/out" "$P/build"
	mkdir -p "$P/out" "$P/build"
	case $(basename "$tarball") in linux_*) how=(_source=debian) ;; *) how=(_source=kernel.org) ;; esac
	[ "$(cat "$BUILD/rt" 2>/dev/null || echo none)" = none ] || rt=yes
	[ "$(id -u)" != 0 ] || chown -R 65534:65534 "$P"
	cd "$2" || return
	unprivileged "SRCDEST=$P/src" "BUILDDIR=$P/build" "PKGDEST=$P/out" "${how[@]}" "_rt=$rt" _config=vm SOURCE_DATE_EPOCH=1767225600 \
		makepkg --config "$P/makepkg.conf" --nodeps --skippgpcheck --holdver "${@:3}"
}

# external NAME DIRECTORY VERSION: builds a module with nothing but the headers there.
external() {
	local dir=$W/module
	mkdir "$dir"
	printf '%s\n' 'obj-m := hello.o' >"$dir/Makefile"
	cat >"$dir/hello.c" <<-'END'
		#include <linux/module.h>
		static int __init hello(void) { pr_info("hello\n"); return 0; }
		static void __exit bye(void) { }
		module_init(hello);
		module_exit(bye);
		MODULE_DESCRIPTION("a module built with the headers package");
		MODULE_LICENSE("GPL");
	END
	if make -C "$2" "M=$dir" modules >"$OUT/$1-module.log" 2>&1 &&
		[ "$(modinfo -F vermagic "$dir/hello.ko" | cut -d ' ' -f 1)" = "$3" ]; then
		ok "$1, external module"
	else
		not_ok "$1, external module" "it does not build" "$OUT/$1-module.log"
	fi
}

declare_check package-build "makepkg: both packages, their contents, a guest that boots them, an external module" all
check_package_build() {
	local tarball version root dir status=0 name lack='' have
	for name in makepkg pacman bsdtar fakeroot zstd; do command -v "$name" >/dev/null || lack+=" $name"; done
	[ -z "$lack" ] || { not_ok package-build "missing:$lack (make deps)"; return; }
	have_tests || { not_ok package-build "the test programs do not build"; return; }
	tarball=$("$ROOT/scripts/fetch" --print)
	# An unprivileged user must be able to get there.
	P=$(mktemp -d "${TMPDIR:-/tmp}/nspa-package.XXXXXX")
	trap 'rm -rf "$P"' EXIT
	chmod 755 "$P"
	mkdir -p "$P/src" "$P/clone"
	cp "$tarball" "$P/src/"
	[ "$(cat "$BUILD/rt" 2>/dev/null || echo none)" = none ] || xz -c "$("$ROOT/scripts/fetch" --print-rt)" >"$P/src/$(basename "$RT_URL")"
	copy_repo "$P/clone"
	cat >"$P/makepkg.conf" <<-CONF
		CARCH=x86_64
		CHOST=x86_64-pc-linux-gnu
		DLAGENTS=()
		OPTIONS=(strip zipman purge !debug)
		BUILDENV=()
		INTEGRITY_CHECK=(sha256)
		PKGEXT=.pkg.tar.zst
		SRCEXT=.src.tar.gz
		COMPRESSZST=(zstd -c -q -T0 -)
		MAKEFLAGS=-j$(nproc)
	CONF

	# What is published: as far as prepare(), which is where it differs
	"$ROOT/scripts/package" aur >"$OUT/aur.log" 2>&1
	cp -r "$BUILD/aur" "$P/aur"
	if (step "makepkg --nobuild of build/aur" "$OUT/package-aur.log" packaged aur "$P/aur" --nobuild); then
		ok "package-build aur"
	else
		not_ok "package-build aur" "it failed" "$OUT/package-aur.log"
	fi
	# A file that is not that of SHA256SUMS
	echo >>"$P/clone/config/vm.config"
	(packaged clone "$P/clone" --nobuild) >"$OUT/package-sums.log" 2>&1 </dev/null || status=$?
	if [ "$status" -ne 0 ] && grep -q 'config/vm.config: FAILED' "$OUT/package-sums.log"; then
		ok "package-build, a changed file is refused"
	else
		not_ok "package-build, a changed file is refused" "status $status" "$OUT/package-sums.log"
	fi
	cp "$ROOT/config/vm.config" "$P/clone/config/vm.config"

	(step makepkg "$OUT/package-build.log" packaged clone "$P/clone") || { not_ok package-build "makepkg failed" "$OUT/package-build.log"; return; }
	ok "package-build makepkg"
	version=$(sed -n 's/^Prepared //p' "$OUT/package-build.log")

	# Installed into an empty root, as pacman does it
	root=$P/root
	mkdir -p "$root/var/lib/pacman"
	(step pacman "$OUT/package-pacman.log" pacman --root "$root" --dbpath "$root/var/lib/pacman" --config /dev/null \
		--noconfirm --noscriptlet -Udd "$P"/out/*.pkg.tar.zst) || { not_ok "package-build pacman" "it failed" "$OUT/package-pacman.log"; return; }
	ok "package-build pacman"
	contents "$root" "$version"

	external package-build "$root/usr/lib/modules/$version/build" "$version"
	printf '#include <sys/ioctl.h>\n#include <linux/ntsync.h>\nint x = NTSYNC_IOC_AGGREGATE_WAIT;\n' >"$P/header.c"
	if gcc -c -o "$P/header.o" -I "$root/usr/include/linux-nspa" "$P/header.c" >"$OUT/package-header.log" 2>&1; then
		ok "package-build, header for programs"
	else
		not_ok "package-build, header for programs" "it does not compile" "$OUT/package-header.log"
	fi

	# That kernel and that module, with all tests
	"$ROOT/scripts/initramfs"
	"$ROOT/scripts/selftests" --list | grep -v -e '-32$' >"$W/plan"
	have="$(series_list | cut -c 1-4 | paste -sd ' ') module"
	dir=$BUILD/runs/package
	rm -rf "$dir"
	status=0
	for name in '' -32; do
		! grep -qsaF io_uring_queue_init "$BUILD/tests/uring$name" || have+=" liburing$name"
	done
	step "guest" "$OUT/package-guest.log" "$ROOT/scripts/vm" --kernel "$root/usr/lib/modules/$version/vmlinuz" \
		--module "$(find "$root/usr/lib/modules/$version" -name 'ntsync.ko')" --initrd "$BUILD/initramfs.cpio" \
		--rundir "$dir" --plan "$W/plan" --expect "$ROOT/selftests/expect.conf" --append NTSYNC_SCALE=30 \
		--have "$have" || status=$?
	judged package-build "$dir" "$status" "$OUT/package-guest.log"
	if file -b "$root/usr/lib/modules/$version/vmlinuz" | grep -F " version $version " >/dev/null; then
		ok "package-build, version of the image"
	else
		not_ok "package-build, version of the image" "it is not $version: $(file -b "$root/usr/lib/modules/$version/vmlinuz")"
	fi
}

# contents ROOT VERSION: files, owners and modes of both packages
contents() {
	local f pkg list=$ROOT/scripts/tests/package.list
	for pkg in "$P"/out/*.pkg.tar.zst; do
		bsdtar -tvf "$pkg" --numeric-owner | awk -v pkg="$(basename "$pkg")" '
			$9 ~ /^\.(BUILDINFO|MTREE|PKGINFO|INSTALL)$/ { next }
			$3 != 0 || $4 != 0 { print pkg ": owner " $3 ":" $4 " of " $9 }
			$1 ~ /^d/ && $1 != "drwxr-xr-x" { print pkg ": mode " $1 " of " $9 }
			$1 ~ /^-/ && $1 != "-rw-r--r--" && $1 != "-rwxr-xr-x" { print pkg ": mode " $1 " of " $9 }
			$9 !~ /^usr\// { print pkg ": outside of usr: " $9 }'
		bsdtar -xOf "$pkg" .PKGINFO >"$W/pkginfo"
		grep -qx 'license = GPL-2.0-only' "$W/pkginfo" || echo "$(basename "$pkg"): no SPDX licence"
		grep -qx 'builddate = 1767225600' "$W/pkginfo" || echo "$(basename "$pkg"): SOURCE_DATE_EPOCH is not its date"
		bsdtar -tf "$pkg" | sed "s/$2/VERSION/" | sed 's|/$||' >"$W/have"
		case $pkg in *-headers-*) f=headers ;; *) f=linux ;; esac
		awk -v f="$f" '$1 == f { print $2 }' "$list" | while read -r name; do
			grep -qxE -e "$name" "$W/have" || echo "$(basename "$pkg"): there is no $name"
		done
		awk -v f="not-$f" '$1 == f { print $2 }' "$list" | while read -r name; do
			! grep -m 1 -xE -e "$name" "$W/have" | sed "s|^|$(basename "$pkg"): |" | grep . || true
		done
	done >"$W/out"
	# Links that lead nowhere, directories with nothing in them, names of the place where it was built
	find "$1/usr" -xtype l -printf 'broken link: %P\n' >>"$W/out"
	find "$1/usr" -type d -empty -printf 'empty directory: %P\n' | grep -v '/build/' >>"$W/out" || true
	grep -rlF -e "$P/build" "$1/usr" | sed 's/^/it names the place where it was built: /' >>"$W/out" || true
	empty "package-build contents" "$W/out" "contents, owners or modes"
}

declare_check package-deb "make deb: both packages, their contents, a guest that boots them, an external module" all
check_package_deb() {
	local version name file root=$W/root
	command -v dpkg-deb >/dev/null || { skip package-deb "this is no machine with dpkg" 6; return; }
	have_tree || { not_ok package-deb "no tree"; return; }
	step "make deb" "$OUT/package-deb.log" env _config=vm "$ROOT/scripts/package" deb ||
		{ not_ok "package-deb build" "it failed" "$OUT/package-deb.log"; return; }
	ok "package-deb build"
	t status --porcelain --ignored >"$W/out"
	empty "package-deb tree" "$W/out" "it leaves something in build/linux"

	version=$(cat "$BUILD/deb/obj/include/config/kernel.release")
	name=linux-image-${version}_$VERSION-$(cut -d - -f 2 <<<"$LOCALVERSION")_amd64.deb
	printf '%s\n' "$name" "${name/image/headers}" | sort >"$W/want"
	{
		(cd "$BUILD/deb" && printf '%s\n' *.deb) | sort | diff "$W/want" - || true
		for file in "$BUILD"/deb/*.deb; do
			dpkg-deb -x "$file" "$root"
			dpkg-deb -c "$file" | awk '$2 != "root/root" { print $2, $6 }'
			[ "$(dpkg-deb -f "$file" Version)" = "$VERSION-$(cut -d - -f 2 <<<"$LOCALVERSION")" ] || echo "$file: another version"
		done
		for file in boot/vmlinuz- boot/config- boot/System.map- lib/modules/; do
			[ -e "$root/$file$version" ] || echo "there is no $file$version"
		done
		for file in Makefile Module.symvers arch/x86/Makefile include/config/auto.conf include/generated/autoconf.h \
			include/uapi/linux/ntsync.h scripts/basic/fixdep scripts/mod/modpost tools/objtool/objtool; do
			[ -e "$root/usr/src/linux-headers-$version/$file" ] || echo "headers: there is no $file"
		done
		[ "$(readlink "$root/lib/modules/$version/build")" = "/usr/src/linux-headers-$version" ] || echo "headers: no link in /lib/modules"
		grep -qx CONFIG_NTSYNC=y "$root/boot/config-$version" || echo "the driver is not built in"
	} >"$W/out" 2>&1
	empty "package-deb contents" "$W/out" "contents, owners or versions"
	external package-deb "$root/usr/src/linux-headers-$version" "$version"

	"$ROOT/scripts/nspa-doctor" --help >/dev/null
	"$ROOT/scripts/initramfs"
	echo nspa-doctor >"$W/plan"
	"$ROOT/scripts/vm" --kernel "$root/boot/vmlinuz-$version" --initrd "$BUILD/initramfs.cpio" --rundir "$W/run" \
		--program "$BUILD/nspa-doctor" --plan "$W/plan" >"$OUT/package-deb-guest.log" 2>&1 </dev/null || true
	{
		seen deb "$W/run" "$OUT/package-deb-guest.log"
		for name in kernel rt ntsync ntsync-aggregate; do told deb "$name" ok; done
	} >"$W/out"
	empty "package-deb guest" "$W/out" "what the doctor says there"
}
