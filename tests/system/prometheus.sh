#!/bin/sh
# Puts prometheus and promtool into FOLDER/usr/bin: this machine's own, or those of Debian's package, unpacked.
# Unpacked and not installed, so that no service is started and nothing of the machine changes.
set -eu
folder=${1:?usage: prometheus.sh FOLDER}
mkdir -p "$folder/usr/bin"
cd "$folder"
if command -v prometheus promtool >/dev/null; then
    ln -sf "$(command -v prometheus)" "$(command -v promtool)" usr/bin/
elif command -v apt-get dpkg-deb >/dev/null; then
    # A machine that never asked has no list of packages.
    apt-get -qq download prometheus 2>/dev/null || { apt-get -qq update && apt-get -qq download prometheus; }
    dpkg-deb -x prometheus_*.deb .
    rm prometheus_*.deb
else
    echo "prometheus.sh: install prometheus and promtool; only Debian's package is fetched here" >&2
    exit 1
fi
usr/bin/prometheus --version 2>&1 | head -n 1
