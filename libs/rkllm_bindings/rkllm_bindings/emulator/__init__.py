"""A librkllmrt.so of our own: the vendor's C interface over a scripted model, on any machine.

    library = load_library(emulator.build("abi-1.3.0", cache_dir))
    path = ModelScript(replies=[Reply(text="Hello.")], decode_tokens_per_s=16.7).write(path)

README.md beside this file says what it does, and where that follows what is known of the vendor's.
"""

from __future__ import annotations

from rkllm_bindings.emulator._build import EmulatorBuildError, build
from rkllm_bindings.emulator.script import ModelScript, Reply, read_trace
from rkllm_bindings.emulator.tokenizer import byte_level_tokenizer

__all__ = [
    "EmulatorBuildError",
    "ModelScript",
    "Reply",
    "build",
    "byte_level_tokenizer",
    "read_trace",
]
