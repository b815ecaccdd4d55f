#!/usr/bin/env bash
# with-qemu.sh COMMAND ...: run it while this machine runs programs for aarch64, under qemu-user. As root, on Debian 12.
#
# The emulator comes from Debian's backports, and stays installed; the machine's package sources stay as they are. The
# kernel is told of it for as long as the command runs, unless it knew one before.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "this needs root, to install packages and to tell the kernel of qemu" >&2; exit 2; }

# qemu-user 7.2 of bookworm crashes on Python; the backport does not.
enough() { qemu-aarch64-static --version | grep -q 'version [1-9][0-9]' && command -v mmdebstrap && command -v arch-test; }
if ! enough >/dev/null 2>&1; then
    . /etc/os-release
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" 'Created-By: Packages' | head -n 1)
    list=/etc/apt/sources.list.d/rkllama-backports.list
    trap 'rm -f "$list"' EXIT
    echo "deb $mirror $VERSION_CODENAME-backports main" >"$list"
    options=(-qq -o DPkg::Lock::Timeout=300)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" install -y --no-install-recommends mmdebstrap arch-test >/dev/null
    apt-get "${options[@]}" install -y --no-install-recommends -t "$VERSION_CODENAME-backports" qemu-user-static >/dev/null
    rm -f "$list"
fi

binfmt=/proc/sys/fs/binfmt_misc
mountpoint -q $binfmt || mount -t binfmt_misc none $binfmt
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
if [ ! -e $binfmt/qemu-aarch64 ]; then
    # F: the kernel opens the emulator now, so that it is there in any root file system.
    echo ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F" >$binfmt/register
    trap 'echo -1 >$binfmt/qemu-aarch64' EXIT
fi
QEMU_CPU=cortex-a76 "$@"
