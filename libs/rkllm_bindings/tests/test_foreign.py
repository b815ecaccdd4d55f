"""A library that somebody else wrote: few functions, the vendor's marker, its own habits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rkllm_bindings import Model, ModelConfig, Tokens, UnsupportedError, load_library

# Knows only offsets: RKLLMCallback.result_callback at 0, RKLLMInput.token_input at 16,
# RKLLMResult.text at 0 and token_id at 8. Loses userdata, and leaves the rest of the result as it is.
SOURCE = r"""
#include <stdint.h>
#include <string.h>
typedef int (*callback_t)(void *, void *, int);
static callback_t callback;
const char *rkllm_about(void) {
    return "RKLLM SDK (version: 1.3.0 | target: Linux | build: abcdef01 2026-02-03 04:05:06)";
}
int rkllm_init(void **handle, char *param, callback_t *callbacks) {
    callback = callbacks[0];
    *handle = &callback;
    return *(int32_t *)(param + 16) == 40 ? 0 : -1;
}
int rkllm_run(void *handle, char *input, char *infer, void *userdata) {
    int32_t *ids = *(int32_t **)(input + 16);
    size_t count = *(size_t *)(input + 24);
    char result[72];
    memset(result, 0xee, sizeof result);
    for (size_t i = 0; i < count; i++) {
        char text[2] = {(char)ids[i], 0};
        *(char **)result = text;
        *(int32_t *)(result + 8) = ids[i];
        if (callback(result, 0, 0) != 0) return -1;
    }
    return callback(result, 0, 2);
}
int rkllm_abort(void *handle) { return 0; }
int rkllm_destroy(void *handle) { return 0; }
"""


def test_a_small_foreign_library_works_unchanged(tmp_path: Path, steps: Any) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs cc")
    path = tmp_path / "librkllmrt.so"
    source = tmp_path / "stand_in.c"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True)
    weights = tmp_path / "any.rkllm"
    weights.write_bytes(b"anything")
    library = load_library(path)
    with Model(library, ModelConfig(path=weights)) as model:
        result = model.run(Tokens(ids=list(b"echo")), steps)
        with pytest.raises(UnsupportedError, match="rkllm_clear_kv_cache"):
            model.clear_kv_cache()

    assert not library.identity.emulator
    assert steps.text == b"echo"
    assert result.finished
