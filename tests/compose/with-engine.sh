#!/usr/bin/env bash
# with-engine.sh COMMAND ...: run it with a container engine and the images' base; an engine that was started for it is stopped.
# Exit code 77: this machine can have none, and why was told.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usable() { docker info && docker compose version && docker buildx version; } >/dev/null 2>&1

if ! usable; then
    export DOCKER_HOST=unix:///run/rkllama-engine.sock
    if ! usable; then
        "$here/engine.sh" up
        trap '"$here/engine.sh" down' EXIT
    fi
fi
"$here/base-image.sh"
"$@"
