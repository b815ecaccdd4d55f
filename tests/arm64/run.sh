#!/usr/bin/env bash
# The binding tests on aarch64, under qemu-user: Debian packages only, as root, some ten minutes.
# It proves that the layouts and the calls are right on that architecture; it says nothing of an NPU.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
root=${1:-/var/cache/rkllama-arm64}
[ "$(id -u)" = 0 ] || { echo "test-arm64 needs root, to install packages and make a root file system" >&2; exit 2; }

# qemu-user 7.2 of bookworm crashes on Python; the backport does not.
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" 'Created-By: Packages' | head -n 1)
echo "deb $mirror $VERSION_CODENAME-backports main" >/etc/apt/sources.list.d/rkllama-backports.list
apt-get update -qq
apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
apt-get install -y -qq --no-install-recommends -t "$VERSION_CODENAME-backports" qemu-user-static >/dev/null

mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] ||
    echo ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F" >/proc/sys/fs/binfmt_misc/register
export QEMU_CPU=cortex-a76

[ -e "$root/ready" ] || {
    rm -rf "$root"
    mmdebstrap --quiet --architectures=arm64 --variant=apt \
        --include=ca-certificates,python3-venv,gcc,libc6-dev "$VERSION_CODENAME" "$root" "$mirror"
    touch "$root/ready"
}
# How this machine reaches its package index is its own affair.
mkdir -p "$root/etc/ssl/certs"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
mkdir -p "$root/src"
mountpoint -q "$root/src" || mount --bind "$repository" "$root/src"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/src" "$root/proc"' EXIT

inside() {
    chroot "$root" env -i PATH=/venv/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 QEMU_CPU="$QEMU_CPU" \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt PYTHONDONTWRITEBYTECODE=1 \
        PYTHONPATH=/src/libs/rkllm_bindings "$@"
}
inside test -x /venv/bin/pytest || {
    inside python3 -m venv /venv
    inside pip install --quiet -c /src/constraints.txt pytest pytest-timeout tokenizers
}
inside pytest -q -c /dev/null --rootdir /src/libs/rkllm_bindings --confcutdir /src/libs/rkllm_bindings \
    -p no:cacheprovider --import-mode=importlib --timeout 600 /src/libs/rkllm_bindings/tests
