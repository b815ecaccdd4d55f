#!/usr/bin/env bash
# The worker's image for arm64, built from its own Dockerfile under qemu-user, in which then everything is imported.
#
# It proves that each hashed requirement has a wheel for arm64, that the Dockerfile's steps run there, and that every module
# of ours and every native library of others loads. It does not prove that anything works on a board: there is no NPU, no
# vendor's kernel and no vendor's library (none is built in, none is run), and no model is run; the processor is an emulated
# Cortex-A76, which says nothing of speed, of memory or of real silicon; and the base is made of Debian's packages and not
# the official image, for it has to carry the emulated processor's name into each step.
#
# The image and its base stay in the engine; what was started or registered for them is stopped again.
set -euo pipefail
cd "$(dirname "$0")/../.."
export BASE=rkllama-test-base:arm64 BASE_ARCH=arm64 RKLLAMA_NO_PULL=1
tests/arm64/with-qemu.sh tests/compose/with-engine.sh bash -euo pipefail -c '
    docker buildx build --load --platform linux/arm64 --build-arg BASE="$BASE" --build-arg RKLLM_VERSION= \
        --file services/npu-worker/Dockerfile --tag rkllama-npu-worker:arm64 .
    inside=(docker run --rm --interactive --platform linux/arm64 --read-only --tmpfs /tmp --network none --env HF_HOME=/tmp rkllama-npu-worker:arm64)
    "${inside[@]}" python - <tests/arm64/imports.py
    "${inside[@]}" env RKLLAMA_WORKER_RUNTIME=cpu python -m rkllama_worker.doctor
    docker image inspect --format "{{index .RepoTags 0}}, {{.Architecture}}: {{.Size}} bytes" "$BASE" rkllama-npu-worker:arm64'
