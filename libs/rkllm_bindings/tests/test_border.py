"""Values that cross the border arrive as what they are: the emulator writes down what it read.

Every field has a value of its own, and ints and floats have values whose bits differ, so that a
field with the right size and offset but the wrong type shows (`top_k` as a float would arrive as
1109655552).
"""

from __future__ import annotations

import struct
from array import array
from typing import Any

import pytest
from rkllm_bindings import (
    FAMILIES,
    Embeddings,
    Images,
    ImageTags,
    Library,
    Mode,
    Multimodal,
    Sampling,
    Text,
    Tokens,
    Videos,
)

SAMPLING = Sampling(
    top_k=41,
    top_p=0.91,
    temperature=0.82,
    repeat_penalty=1.13,
    frequency_penalty=0.24,
    presence_penalty=0.35,
    mirostat=2,
    mirostat_tau=4.6,
    mirostat_eta=0.17,
)
SAMPLED = {
    "top_k": 41,
    "top_p": 0.91,
    "temperature": 0.82,
    "repeat_penalty": 1.13,
    "frequency_penalty": 0.24,
    "presence_penalty": 0.35,
    "mirostat": 2,
    "mirostat_tau": 4.6,
    "mirostat_eta": 0.17,
}


def near(values: dict[str, Any]) -> dict[str, Any]:
    """The same, as far as float32 goes; ints are exact."""
    return {
        name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        for name, value in values.items()
    }


def rows(count: int, width: int = 64, first: float = 0.5) -> bytes:
    return array("f", [first + i for i in range(count * width)]).tobytes()


def test_every_value_of_init_arrives(stage: Any, library: Library) -> None:
    known = FAMILIES[library.family.id]
    config: dict[str, Any] = {
        "max_context_len": 2049,
        "max_new_tokens": 33,
        "sampling": SAMPLING,
        "n_keep": 7,
        "skip_special_token": False,
        "base_domain_id": 5,
        "embed_flash": False,
        "enabled_cpus_mask": 0b0111_0000,
        "image_tags": ImageTags(start="<s>", end="<é>", content="<c>"),
    }
    if known.ignores_eos:
        config["ignore_eos_token"] = True
    if known.has_role:
        config["use_cross_attn"] = True
    stage.load(library, config=config)
    line = stage.trace("init")[0]
    param = line["param"]
    extend = param["extend_param"]

    assert line["status"] == 0
    assert {name: param[name] for name in SAMPLED} == near(SAMPLED)
    assert (param["max_context_len"], param["max_new_tokens"]) == (2049, 33)
    assert param["model_path"] == str(stage.folder / "model.rkllm")
    assert param["skip_special_token"] is False
    assert param["is_async"] is False
    assert extend["base_domain_id"] == 5
    assert extend["reserved_is_zero"] is True
    assert param.get("n_keep", 7) == 7
    assert param.get("ignore_eos_token", True) is True
    if not known.has_video:
        assert [param[f"img_{tag}"] for tag in ("start", "end", "content")] == ["<s>", "<é>", "<c>"]
    assert ("enabled_cpus_mask" in extend) is known.keeps_history
    assert extend.get("enabled_cpus_mask", 0x70) == 0x70
    assert extend.get("enabled_cpus_num", 3) == 3
    assert extend.get("embed_flash", 0) == 0
    assert extend.get("n_batch", 1) == 1
    assert extend.get("use_cross_attn", 1) == 1


def test_booleans_of_init_are_not_swapped(stage: Any, library: Library) -> None:
    """The neighbours is_async, ignore_eos_token and skip_special_token are all bytes."""
    stage.load(library, config={"skip_special_token": True})
    param = stage.trace("init")[0]["param"]

    assert param["skip_special_token"] is True
    assert param["is_async"] is False
    assert param.get("ignore_eos_token", False) is False


def test_callbacks_that_are_not_given_are_null(stage: Any, library: Library) -> None:
    stage.load(library)
    line = stage.trace("init")[0]

    assert (line["tokenizer_callback"], line["embed_callback"]) == (False, False)


def test_every_value_of_a_run_arrives(stage: Any, newest: Library, steps: Any) -> None:
    model = stage.load(newest, answer_tokens=50)
    model.run(
        Text(prompt="Grüße"),
        steps,
        sampling=SAMPLING,
        max_new_tokens=3,
        keep_history=True,
        role="tool",
        enable_thinking=True,
        save_prompt_cache=stage.folder / "a cache",
    )
    line = stage.trace("run")[0]

    assert line["sampling"] == near(SAMPLED)
    assert (line["max_new_tokens"], line["keep_history"], line["mode"]) == (3, 1, 0)
    assert (line["role"], line["enable_thinking"]) == ("tool", True)
    assert (line["input"], line["prompt"]) == ("text", "Grüße")
    assert (line["save_prompt_cache"], line["prompt_cache_path"]) == (
        True,
        str(stage.folder / "a cache"),
    )
    assert len(stage.trace("run_end")[0]["generated"]) == 3


def test_nothing_of_a_run_is_left_for_the_next(stage: Any, newest: Library, steps: Any) -> None:
    """The predecessor's save flag stayed set and overwrote a conversation's file."""
    model = stage.load(newest, answer_tokens=2)
    model.run(
        Tokens(ids=[1]),
        steps,
        sampling=SAMPLING,
        max_new_tokens=1,
        keep_history=True,
        save_prompt_cache=stage.folder / "cache",
    )
    model.run(Tokens(ids=[2]), steps)
    line = stage.trace("run")[1]

    assert line["sampling"] is None
    assert (line["max_new_tokens"], line["keep_history"]) == (0, 0)
    assert (line["save_prompt_cache"], line["prompt_cache_path"]) == (False, None)


def test_token_ids_arrive_unchanged(stage: Any, library: Library, steps: Any) -> None:
    ids = [0, 1, 255, 256, 151_668, 2**31 - 1]
    stage.load(library, answer_tokens=1).run(Tokens(ids=ids), steps)
    line = stage.trace("run")[0]

    assert (line["input"], line["n_tokens"], line["ids"]) == ("tokens", 6, ids)
    assert line.get("role", "user") == "user"
    assert line.get("keep_history", 0) == 0


def test_token_ids_of_a_full_context_arrive(stage: Any, library: Library, steps: Any) -> None:
    ids = [number % 50_000 for number in range(16_380)]
    model = stage.load(library, answer_tokens=1, config={"max_context_len": 16384})
    model.run(Tokens(ids=ids), steps)

    assert stage.trace("run")[0]["ids"] == ids


def test_embeddings_arrive_whole(stage: Any, library: Library, steps: Any) -> None:
    data = rows(3)
    stage.load(library, answer_tokens=1).run(Embeddings(data=data, n_tokens=3), steps)
    line = stage.trace("run")[0]

    assert (line["input"], line["n_tokens"]) == ("embeddings", 3)
    assert (line["first"], line["last"]) == (0.5, 3 * 64 - 0.5)
    assert len(line["ids"]) == 3


def test_images_arrive_with_their_marks(stage: Any, library: Library, steps: Any) -> None:
    known = FAMILIES[library.family.id]
    count = 2 if known.counts_images else 1
    size = (448, 336) if known.counts_images else (0, 0)
    tags = ImageTags(start="<s>", end="<e>", content="<c>")
    model = stage.load(library, answer_tokens=1, config={"image_tags": tags})
    images = Images(data=rows(4 * count), n_tokens=4, count=count, width=size[0], height=size[1])
    model.run(Multimodal(prompt="a" + "<image>b" * count, images=images), steps)
    line = stage.trace("run")[0]
    image = line["image"]

    assert (line["input"], line["prompt"]) == ("multimodal", "a" + "<image>b" * count)
    assert (image["n_tokens"], image["count"], image["first"]) == (4, count, 0.5)
    assert (image["width"], image["height"]) == size
    assert len(line["ids"]) == 1 + 5 * count
    if known.has_video:
        assert [image[tag] for tag in ("start", "end", "content")] == ["<s>", "<e>", "<c>"]
        assert line["video"]["given"] is False


def test_videos_arrive(stage: Any, newest: Library, steps: Any) -> None:
    tags = ImageTags(start="<v>", end="</v>", content="<p>")
    model = stage.load(newest, answer_tokens=1, config={"video_tags": tags})
    videos = Videos(data=rows(6, first=2.5), n_frame_tokens=2, n_frames=3, width=10, height=20)
    model.run(Multimodal(prompt="<video>?", videos=videos), steps)
    line = stage.trace("run")[0]
    video = line["video"]

    assert (video["n_tokens"], video["frames"], video["count"]) == (2, 3, 1)
    assert (video["width"], video["height"], video["first"]) == (10, 20, 2.5)
    assert [video[tag] for tag in ("start", "end", "content")] == ["<v>", "</v>", "<p>"]
    assert len(line["ids"]) == 7


def test_a_lora_adapter_arrives(stage: Any, library: Library, steps: Any) -> None:
    adapter = stage.folder / "adapter.rkllm"
    adapter.write_bytes(b"weights")
    model = stage.load(library, answer_tokens=8)
    model.load_lora(adapter, "tuned", scale=0.75)
    model.run(Tokens(ids=[1, 2]), steps)
    model.run(Tokens(ids=[1, 2]), steps, lora="tuned")
    line = stage.trace("load_lora")[0]
    plain, tuned = stage.trace("run_end")

    assert (line["path"], line["name"], line["scale"]) == (str(adapter), "tuned", 0.75)
    assert stage.trace("run")[1]["lora"] == "tuned"
    assert plain["generated"] != tuned["generated"]


def test_cross_attention_arrives(stage: Any, newest: Library) -> None:
    def floats(*values: float) -> bytes:
        return struct.pack(f"{len(values)}f", *values)

    model = stage.load(newest, config={"use_cross_attn": True})
    model.set_cross_attention(
        k_cache=floats(1.5, 2, 3),
        v_cache=floats(2.5, 1, 1),
        mask=floats(0, 1, 0),
        positions=[4, 5, 6],
    )
    line = stage.trace("set_cross_attn_params")[0]

    assert (line["num_tokens"], line["k"], line["v"]) == (3, 1.5, 2.5)
    assert (line["mask"], line["pos"]) == ([0, 1, 0], [4, 5, 6])


def test_templates_and_tools_arrive(stage: Any, newest: Library) -> None:
    model = stage.load(newest)
    model.set_chat_template("system é", "<|user|>", "<|end|>")
    model.set_function_tools("Use them.", '[{"name": "f"}]', "tool_response")
    template = stage.trace("set_chat_template")[0]
    tools = stage.trace("set_function_tools")[0]

    assert [template[key] for key in ("system", "prefix", "postfix")] == [
        "system é",
        "<|user|>",
        "<|end|>",
    ]
    assert [tools[key] for key in ("system_prompt", "tools", "tool_response")] == [
        "Use them.",
        '[{"name": "f"}]',
        "tool_response",
    ]


def test_the_mode_of_a_run_arrives(stage: Any, newest: Library, steps: Any) -> None:
    model = stage.load(newest, vocab_size=300, answer_tokens=1)
    for mode in Mode:
        model.run(Tokens(ids=[1]), steps, mode=mode)

    assert [line["mode"] for line in stage.trace("run")] == [0, 1, 2]
