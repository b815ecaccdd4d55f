"""Text comes at character boundaries, and all of it, with every kind of decoder."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rkllama_worker.engine.detokenizer import Detokenizer
from rkllama_worker.engine.model_files import special_tokens
from tokenizers import AddedToken, Tokenizer, decoders, models

TEXTS = [
    "plain words, nothing else",
    "  leading and trailing  ",
    "🦜é🧑\u200d🚀 漢字 x\u0301\n\n",
    "<|im_start|>user\nhi<|im_end|>",
    "a\ufffdb \ufffd",
]


@pytest.fixture(scope="module")
def byte_fallback() -> Tokenizer:
    """As Llama's and Gemma's: words with a mark for the space, bytes as tokens of their own."""
    words = ["<s>", "</s>", "▁the", "▁parrot", "s", "▁", "é", "漢", "\ufffd"]
    vocabulary = {word: i for i, word in enumerate([*words, *(f"<0x{b:02X}>" for b in range(256))])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token=None))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    return tokenizer


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer, special_tokens(tokenizer))
    return [*(detokenizer.feed([token]) for token in ids), detokenizer.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_joined_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids

    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_character_made_of_several_tokens_comes_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🦜", add_special_tokens=False).ids
    assert len(ids) > 1

    assert pieces(tokenizer, ids) == [*[""] * (len(ids) - 1), "🦜", ""]


def test_a_character_that_never_becomes_whole_is_shown_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🦜", add_special_tokens=False).ids[:-1]

    assert pieces(tokenizer, ids) == [*[""] * len(ids), "\ufffd"]


def test_special_tokens_in_between_do_not_eat_the_space_of_the_next_word(
    byte_fallback: Tokenizer,
) -> None:
    ids = [byte_fallback.token_to_id(t) for t in ("▁the", "</s>", "<s>", "▁parrot", "s")]

    assert "".join(pieces(byte_fallback, ids)) == "the parrots"


@settings(max_examples=100, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_any_ids_give_what_decoding_them_at_once_gives(
    tokenizer: Tokenizer, byte_fallback: Tokenizer, kind: str, data: st.DataObject
) -> None:
    """Also ids that no tokenizer makes: half characters, runs of bytes, ids out of the vocabulary."""
    chosen = tokenizer if kind == "byte level" else byte_fallback
    # The low ids are specials and single bytes: what breaks windows.
    low = st.integers(0, min(chosen.get_vocab_size() + 2, 300))
    ids = data.draw(st.lists(low | st.integers(0, chosen.get_vocab_size()), max_size=24))

    assert "".join(pieces(chosen, ids)) == chosen.decode(ids, skip_special_tokens=True)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_a_special_token_that_is_to_be_seen_comes_out_in_its_place(
    tokenizer: Tokenizer, byte_fallback: Tokenizer, kind: str, data: st.DataObject
) -> None:
    """Marks of calls are special tokens in some models; the text on both sides stays whole."""
    chosen, mark = (tokenizer, "<|im_start|>") if kind == "byte level" else (byte_fallback, "<s>")
    seen = chosen.token_to_id(mark)
    low = st.sampled_from([seen]) | st.integers(0, min(chosen.get_vocab_size() + 2, 300))
    ids = data.draw(st.lists(low, max_size=24))
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == seen:
            parts.append([])
        else:
            parts[-1].append(token)
    detokenizer = Detokenizer(chosen, special_tokens(chosen), seen={mark, "no token at all"})
    text = "".join([*(detokenizer.feed([token]) for token in ids), detokenizer.flush()])

    assert text == mark.join(chosen.decode(part, skip_special_tokens=True) for part in parts)
    assert detokenizer.seen == {mark}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_ids_that_come_together_complete_what_they_complete_one_by_one(
    tokenizer: Tokenizer, byte_fallback: Tokenizer, kind: str, data: st.DataObject
) -> None:
    """After every group as much has been shown: a board that goes on says nothing twice, and leaves nothing out."""
    chosen, mark = (tokenizer, "<|im_start|>") if kind == "byte level" else (byte_fallback, "<s>")
    low = st.integers(0, min(chosen.get_vocab_size() + 2, 300))
    token = low | st.just(chosen.token_to_id(mark)) | st.integers(0, chosen.get_vocab_size())
    groups = data.draw(st.lists(st.lists(token, max_size=8), max_size=6))
    special = special_tokens(chosen)
    together = Detokenizer(chosen, special, seen={mark})
    apart = Detokenizer(chosen, special, seen={mark})

    for group in groups:
        assert together.feed(group) == "".join([apart.feed([one]) for one in group])
    assert together.flush() == apart.flush()
