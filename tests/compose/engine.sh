#!/usr/bin/env bash
# engine.sh up | down: a container engine of our own, for a Debian 12 machine that has none.
#
# Debian packages only (Docker 26 with compose and buildx from trixie, for 20.10 of bookworm cannot run privileged
# containers where CAP_SYS_RESOURCE is missing); the machine's package sources stay as they are. The engine has a socket, a folder
# and a pid file of its own under /run and /var/lib, so that it meets no other; images stay for the next time, until `down --all`.
#
# Exit codes: 0, the engine answers; 77, this machine cannot have one, and the sentence says why.
set -euo pipefail
name=rkllama-engine
socket=/run/$name.sock
pidfile=/run/$name.pid
root=/var/lib/$name
log=/var/log/$name.log

cannot() {
    echo "no container engine here: $1" >&2
    exit 77
}

answers() { DOCKER_HOST=unix://$socket docker info >/dev/null 2>&1; }

install_packages() {
    . /etc/os-release
    [ "${VERSION_CODENAME:-}" = bookworm ] || cannot "none runs, and only on Debian 12 can one be installed by this script"
    local mirror apt
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    [ -n "$mirror" ] || cannot "apt knows no mirror of bookworm"
    apt=$(mktemp -d)
    mkdir -p "$apt/sources" "$apt/preferences" "$apt/lists/partial"
    cp -r /etc/apt/sources.list.d/. "$apt/sources/"
    echo "deb $mirror trixie main" >"$apt/sources/trixie.list"
    printf 'Package: *\nPin: release n=trixie\nPin-Priority: -1\n\nPackage: %s\nPin: release n=trixie\nPin-Priority: 700\n' \
        'docker.io docker-cli docker-compose docker-buildx' >"$apt/preferences/trixie"
    local options=(-qq -o APT::Sandbox::User=root -o "Dir::Etc::SourceParts=$apt/sources" -o "Dir::Etc::PreferencesParts=$apt/preferences" -o "Dir::State::Lists=$apt/lists")
    apt-get "${options[@]}" update || cannot "Debian's mirror does not answer"
    DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --no-install-recommends \
        -o Dpkg::Options::=--force-confold docker.io docker-cli docker-compose docker-buildx iptables mmdebstrap >/dev/null ||
        cannot "its packages cannot be installed"
    rm -rf "$apt"
}

up() {
    ! answers || return 0
    [ "$(id -u)" = 0 ] || cannot "none runs, and to start one takes root"
    if ! { command -v dockerd && docker compose version && docker buildx version && command -v mmdebstrap; } >/dev/null 2>&1; then
        install_packages >&2
    fi
    rm -f "$socket" "$pidfile"
    setsid dockerd --host "unix://$socket" --pidfile "$pidfile" --data-root "$root/data" --exec-root "/run/$name" \
        >"$log" 2>&1 </dev/null &
    for _ in $(seq 120); do
        ! answers || return 0
        kill -0 $! 2>/dev/null || break
        sleep 0.25
    done
    tail -n 3 "$log" >&2
    cannot "dockerd does not start (its log is $log)"
}

down() {
    if [ -s "$pidfile" ]; then
        local pid
        pid=$(cat "$pidfile")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi
    if [ "${1:-}" = --all ]; then rm -rf "$root" "$log"; fi
}

case "${1:-}" in
up) up ;;
down) down "${2:-}" ;;
*)
    echo "usage: engine.sh up | down [--all]" >&2
    exit 2
    ;;
esac
