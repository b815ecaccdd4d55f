#!/usr/bin/env bash
# Build the images and run compose.yaml with them, on an engine of our own where none runs.
# Exit code 77: this machine can have none, and why was told.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/compose/with-engine.sh sh -euc '
    docker buildx bake --progress quiet
    .venv/bin/python -m pytest -m compose tests/compose'
