#!/usr/bin/env bash
# The base of our images for this engine, pulled, or made from Debian's packages where no registry answers.
#
# BASE is its name, BASE_ARCH its architecture, amd64 or arm64; the one of the machine if empty.
# What is made stands in for the official image: the same Debian release, Python and paths (`python3`, /usr/local/bin), and
# none of its layers. It trusts the certificates that this machine trusts, so that a build reaches what the machine reaches.
set -euo pipefail
arch=${BASE_ARCH:-$(dpkg --print-architecture)}
tag=${BASE:-python:3.11-slim-bookworm}
[ "$(docker image inspect --format '{{.Architecture}}' "$tag" 2>/dev/null)" = "$arch" ] && exit 0
if [ -z "${RKLLAMA_NO_PULL:-}" ] && timeout 120 docker pull --quiet --platform "linux/$arch" "$tag" 2>/dev/null; then exit 0; fi

echo "no registry gives $tag; making it of Debian packages" >&2
command -v mmdebstrap >/dev/null || { echo "mmdebstrap is needed to make it (apt install mmdebstrap)" >&2; exit 77; }
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
mirror=${mirror%/}
work=$(mktemp -d /var/tmp/rkllama-base.XXXXXX)
trap 'rm -rf "$work"' EXIT

# The official image has its Python in /usr/local/bin, and lets pip install beside it.
cat >"$work/finish" <<'HOOK'
#!/bin/sh
set -eu
for name in python python3 python3.11; do ln -sf /usr/bin/python3.11 "$1/usr/local/bin/$name"; done
rm -f "$1/usr/lib/python3.11/EXTERNALLY-MANAGED"
cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/ca-certificates.crt"
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ndisable-pip-version-check = true\n' >"$1/etc/pip.conf"
HOOK
chmod +x "$work/finish"
mmdebstrap --quiet --mode=root --variant=minbase --architectures="$arch" \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=ca-certificates,netbase,tzdata,python3,python3-pip,python3-venv \
    --customize-hook="$work/finish" bookworm "$work/base.tar" \
    "deb $mirror bookworm main" "deb $mirror bookworm-updates main" "deb $mirror-security bookworm-security main"
changes=(-c 'ENV LANG=C.UTF-8' -c 'CMD ["python3"]')
# The emulated processor: the default one of qemu 7.2 and later crashes on what such boards have.
if [ "$arch" = arm64 ] && [ "$(dpkg --print-architecture)" != arm64 ]; then changes+=(-c 'ENV QEMU_CPU=cortex-a76'); fi
docker import --platform "linux/$arch" "${changes[@]}" "$work/base.tar" "$tag" >/dev/null
