#!/usr/bin/env bash
# The binding tests on aarch64, in what with-qemu.sh gives: Debian packages only, as root, some ten minutes.
# It proves that the layouts and the calls are right on that architecture; it says nothing of an NPU.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
root=${1:-/var/cache/rkllama-arm64}

[ -e "$root/ready" ] || {
    rm -rf "$root"
    . /etc/os-release
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" 'Created-By: Packages' | head -n 1)
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
