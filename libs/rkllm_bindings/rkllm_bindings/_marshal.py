"""Turns values into the structures of a family.

Who owns what: a `Marshalled` holds the structure and every buffer that it points to, and must live
as long as the library may read it, which is until `rkllm_run` returned (for a run) or the handle is
destroyed (for init). Nothing the library gets is memory that it may keep or free.

Arrays are assigned to pointer fields as they are: `ctypes.cast` would make a reference cycle with
each of them, and megabytes would wait for the garbage collector.
"""

from __future__ import annotations

import ctypes as c
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from rkllm_bindings._abi.enums import RKLLMInputType
from rkllm_bindings._abi.family import Family
from rkllm_bindings.errors import UnsupportedError
from rkllm_bindings.values import (
    Embeddings,
    Images,
    ImageTags,
    Input,
    Mode,
    ModelConfig,
    Multimodal,
    Sampling,
    Text,
    Tokens,
    Videos,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@dataclass(slots=True)
class Marshalled:
    """A structure, and what keeps its pointers valid."""

    struct: Any
    kept: list[object] = field(default_factory=list)


def text_bytes(text: str) -> bytes:
    """UTF-8 for a C string.

    Raises:
        ValueError: It has a NUL, at which C would cut it off.
    """
    data = text.encode()
    if b"\0" in data:
        raise ValueError("text for the library cannot contain NUL")
    return data


def floats(data: ReadableBuffer, at_least: int = 1) -> c.Array[c.c_float]:
    """A copy of float32 data that C may read.

    Raises:
        ValueError: It is no whole number of float32, or fewer than `at_least`.
    """
    raw = memoryview(data).cast("B")
    count, rest = divmod(len(raw), 4)
    if rest or count < max(at_least, 1):
        raise ValueError(f"float32 data of {len(raw)} bytes, at least {at_least} values needed")
    return (c.c_float * count).from_buffer_copy(raw)


def int32s(values: Sequence[int]) -> c.Array[c.c_int32]:
    """A copy of ids that C may read.

    Raises:
        ValueError: There are none.
        OverflowError: One does not fit.
    """
    if not values:
        raise ValueError("no token ids")
    return (c.c_int32 * len(values)).from_buffer(array("i", values))


def init_param(family: Family, config: ModelConfig) -> Marshalled:
    """RKLLMParam from zero with every field set, as the vendor's demos do."""
    if config.ignore_eos_token and not family.ignores_eos:
        raise UnsupportedError("ignore_eos_token", family.id)
    if config.use_cross_attn and not family.has_field("RKLLMExtendParam", "use_cross_attn"):
        raise UnsupportedError("use_cross_attn", family.id)
    param = family.new("RKLLMParam")
    param.model_path = os.fsencode(config.path)
    param.max_context_len = config.max_context_len
    param.max_new_tokens = config.max_new_tokens
    set_sampling(param, config.sampling)
    param.skip_special_token = config.skip_special_token
    # Never asynchronous: no data, hangs or empty text in 1.1.4, 1.2.1, 1.2.2 (#190, #320, #396).
    param.is_async = False
    if family.has_field("RKLLMParam", "n_keep"):
        param.n_keep = config.n_keep
    if family.ignores_eos:
        param.ignore_eos_token = config.ignore_eos_token
    if family.has_field("RKLLMParam", "img_start"):
        # Never NULL: the library's own defaults are empty strings.
        param.img_start = text_bytes(config.image_tags.start)
        param.img_end = text_bytes(config.image_tags.end)
        param.img_content = text_bytes(config.image_tags.content)
    extend = param.extend_param
    extend.base_domain_id = config.base_domain_id
    if family.has_field("RKLLMExtendParam", "enabled_cpus_mask"):
        extend.embed_flash = int(config.embed_flash)
        extend.enabled_cpus_mask = config.enabled_cpus_mask
        extend.enabled_cpus_num = config.enabled_cpus_mask.bit_count()
    if family.has_field("RKLLMExtendParam", "n_batch"):
        extend.n_batch = 1
        extend.use_cross_attn = int(config.use_cross_attn)
    return Marshalled(param)


def set_sampling(struct: Any, sampling: Sampling) -> None:
    """The nine values, which RKLLMParam and RKLLMSamplingParam name alike."""
    struct.top_k = sampling.top_k
    struct.top_p = sampling.top_p
    struct.temperature = sampling.temperature
    struct.repeat_penalty = sampling.repeat_penalty
    struct.frequency_penalty = sampling.frequency_penalty
    struct.presence_penalty = sampling.presence_penalty
    struct.mirostat = sampling.mirostat
    struct.mirostat_tau = sampling.mirostat_tau
    struct.mirostat_eta = sampling.mirostat_eta


def run_input(
    family: Family, source: Input, config: ModelConfig, *, role: str, enable_thinking: bool
) -> Marshalled:
    """RKLLMInput for any kind of input.

    Raises:
        UnsupportedError: The family has no such kind, role or thinking.
        ValueError: The input is empty or not as its type says.
    """
    made = Marshalled(family.new("RKLLMInput"))
    if family.has_role:
        made.struct.role = text_bytes(role)
        made.struct.enable_thinking = enable_thinking
    elif role != "user" or enable_thinking:
        raise UnsupportedError("role or enable_thinking", family.id)
    match source:
        case Text():
            made.struct.input_type = RKLLMInputType.RKLLM_INPUT_PROMPT
            made.struct.prompt_input = text_bytes(source.prompt)
        case Tokens():
            ids = int32s(source.ids)
            made.kept.append(ids)
            made.struct.input_type = RKLLMInputType.RKLLM_INPUT_TOKEN
            made.struct.token_input.input_ids = ids
            made.struct.token_input.n_tokens = len(ids)
        case Embeddings():
            rows = floats(source.data, source.n_tokens)
            made.kept.append(rows)
            made.struct.input_type = RKLLMInputType.RKLLM_INPUT_EMBED
            made.struct.embed_input.embed = rows
            made.struct.embed_input.n_tokens = source.n_tokens
        case Multimodal():
            _multimodal(family, source, config, made)
        case _:
            assert_never(source)
    return made


def infer_param(
    family: Family,
    *,
    mode: Mode,
    sampling: Sampling | None,
    max_new_tokens: int | None,
    keep_history: bool,
    lora: str | None,
    save_prompt_cache: Path | None,
) -> Marshalled:
    """RKLLMInferParam; pointers are NULL unless asked for, so that nothing of an earlier run stays.

    Raises:
        UnsupportedError: The family cannot do what was asked.
    """
    if mode is Mode.LOGITS and not family.gives_logits:
        raise UnsupportedError("logits", family.id)
    if keep_history and not family.keeps_history:
        raise UnsupportedError("keep_history", family.id)
    if (sampling is not None or max_new_tokens is not None) and not family.samples_per_run:
        raise UnsupportedError("sampling or max_new_tokens of a run", family.id)
    made = Marshalled(family.new("RKLLMInferParam"))
    made.struct.mode = mode
    if family.keeps_history:
        made.struct.keep_history = int(keep_history)
    if family.samples_per_run:
        made.struct.max_new_tokens = max_new_tokens or 0
    if sampling is not None:
        values = family.new("RKLLMSamplingParam")
        set_sampling(values, sampling)
        made.struct.sampling_params = c.pointer(values)
    if lora is not None:
        adapter = family.new("RKLLMLoraParam")
        adapter.lora_adapter_name = text_bytes(lora)
        made.struct.lora_params = c.pointer(adapter)
    if save_prompt_cache is not None:
        cache = family.new("RKLLMPromptCacheParam")
        cache.save_prompt_cache = 1
        cache.prompt_cache_path = os.fsencode(save_prompt_cache)
        made.struct.prompt_cache_params = c.pointer(cache)
    return made


def _multimodal(family: Family, source: Multimodal, config: ModelConfig, made: Marshalled) -> None:
    made.struct.input_type = RKLLMInputType.RKLLM_INPUT_MULTIMODAL
    target = made.struct.multimodal_input
    target.prompt = text_bytes(source.prompt)
    images, videos = source.images, source.videos
    if images is None and videos is None:
        raise ValueError("multimodal input needs images or videos")
    if videos is not None and not family.has_video:
        raise UnsupportedError("video input", family.id)
    if images is not None and images.count != 1 and not family.counts_images:
        raise UnsupportedError("more than one image", family.id)
    if not family.has_video:
        if images is not None:
            _images(target, images, made)
            if family.counts_images:
                _image_counts(target, images)
        return
    if images is not None:
        _images(target.image, images, made)
        _image_counts(target.image, images)
    if videos is not None:
        _videos(target.video, videos, made)
    # Never NULL, as at init.
    _tags(target.image, "image", config.image_tags)
    _tags(target.video, "video", config.video_tags)


def _images(target: Any, images: Images, made: Marshalled) -> None:
    rows = floats(images.data, images.n_tokens * images.count)
    made.kept.append(rows)
    target.image_embed = rows
    target.n_image_tokens = images.n_tokens


def _image_counts(target: Any, images: Images) -> None:
    target.n_image = images.count
    target.image_width = images.width
    target.image_height = images.height


def _videos(target: Any, videos: Videos, made: Marshalled) -> None:
    rows = floats(videos.data, videos.n_frame_tokens * videos.n_frames * videos.count)
    made.kept.append(rows)
    target.video_embed = rows
    target.n_frame_tokens = videos.n_frame_tokens
    target.n_frame_per_video = videos.n_frames
    target.n_video = videos.count
    target.frame_width = videos.width
    target.frame_height = videos.height


def _tags(target: Any, kind: str, tags: ImageTags) -> None:
    setattr(target, f"{kind}_start", text_bytes(tags.start))
    setattr(target, f"{kind}_end", text_bytes(tags.end))
    setattr(target, f"{kind}_content", text_bytes(tags.content))
