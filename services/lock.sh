#!/usr/bin/env bash
# What the images install, by hash: the extras of each service at the versions of constraints.txt. `make lock` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${1:?the path of uv}
options=(--constraints constraints.txt --generate-hashes --python-version 3.11 --python-platform linux
    --no-annotate --no-header --quiet)
lock() {
    local file=$1
    shift
    "$uv" pip compile "$@" "${options[@]}" --output-file "$file.new"
    { echo "# Made by \`make lock\`."; cat "$file.new"; } >"$file"
    rm "$file.new"
}
lock services/gateway/requirements.txt pyproject.toml --extra gateway --extra cli
lock services/model-store/requirements.txt pyproject.toml --extra store --extra cli
lock services/npu-worker/requirements.txt pyproject.toml --extra worker --extra cpu --extra cli
# Builds the wheel of the project itself.
echo hatchling | lock services/requirements-build.txt -
