"""`python -m rkllama_store.gguf_facts PATH`: what a GGUF file says, as a `Report` in JSON.

With `whole` after the path: all of its metadata, as a JSON object.

A process of its own, with its memory and time limited: the file may have been made to break whoever
reads it. Exit code 3 says that it is no GGUF file that can be read; the sentence is on stdout.

`gguf.GGUFReader` makes some array objects for every word of the vocabulary, which takes seconds;
`Metadata` reads a whole array at once and leaves the tensors' data alone (6 s -> 0.15 s).
"""

from __future__ import annotations

import resource
import struct
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import orjson

from rkllama_store.facts import Report, of_gguf, whole
from rkllama_store.gguf_tokenizer import UnknownTokenizerError, rebuild, settings

NOT_GGUF = 3
WHOLE = "whole"
DATA_BYTES = 2 * 2**30
CPU_S = 60
TENSORS = 8192
"""A file that lists more is refused."""
KEYS = 1024
RECORDED_BYTES = 512 * 1024
"""What `show` can be told has to fit into one message on the bus."""

BROKEN = (ValueError, KeyError, IndexError, OverflowError, MemoryError, struct.error)
"""What reading a file that is no GGUF file, or a damaged one, ends in."""

_LENGTH = struct.Struct("<Q")


class Metadata(gguf.GGUFReader):
    """The reader, but quick: an array is one part, and the tensors' data are not looked at."""

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[gguf.GGUFValueType]]:
        if raw_type != gguf.GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        if self.byte_order != "I":
            raise ValueError("big-endian")
        item = gguf.GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        start = orig_offs + 12
        values: list[Any]
        if item == gguf.GGUFValueType.STRING:
            values, end = self._strings(start, count)
        elif item in self.gguf_scalar_to_np:
            array = self._get(start, self.gguf_scalar_to_np[item], count)
            if len(array) != count:
                raise ValueError("an array is cut short")
            values, end = array.tolist(), start + int(array.nbytes)
        else:
            raise ValueError("arrays in arrays")
        return end - orig_offs, [values], [0], [gguf.GGUFValueType.ARRAY, item]

    def _strings(self, at: int, count: int) -> tuple[list[str], int]:
        data = self.data.data
        found = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += 8
            # The memory a damaged length asks for is bounded by the file.
            raw = bytes(data[at : at + length])
            if len(raw) != length:
                raise ValueError("a string is cut short")
            found.append(raw.decode("utf-8", "replace"))
            at += length
        return found, at

    def _build_fields(self, offs: int, count: int) -> int:
        if count > KEYS:
            raise ValueError("too many keys")
        return int(super()._build_fields(offs, count))

    def _build_tensor_info(self, offs: int, count: int) -> tuple[int, list[gguf.ReaderField]]:
        if count > TENSORS:
            raise ValueError("too many tensors")
        return super()._build_tensor_info(offs, count)

    def _build_tensors(self, start_offs: int, fields: list[gguf.ReaderField]) -> None:
        self.shapes = [
            (field.name, gguf.GGMLQuantizationType(int(kind[0])), [int(n) for n in dims])
            for field in fields
            for _, _, _, dims, kind, _ in [field.parts]
        ]

    def values(self) -> dict[str, Any]:
        """Every key with its value."""
        return {
            key: _value(field) for key, field in self.fields.items() if not key.startswith("GGUF.")
        }


def read(path: Path) -> Report:
    """The report of one file.

    Raises:
        One of `BROKEN`: It is no GGUF file, or a damaged one.
    """
    metadata = Metadata(path)
    fields = metadata.values()
    count = 0
    tensors = []
    for name, kind, dims in metadata.shapes:
        size = 1
        for dim in dims:
            size *= dim
        count += size
        tensors.append({"name": name, "type": kind.name, "shape": dims})
    details, recorded = of_gguf(
        fields,
        parameters=count,
        file_type_name=_file_type_name(fields.get("general.file_type")),
        tensors=tensors,
    )
    if len(recorded.model_dump_json()) > RECORDED_BYTES:
        recorded = recorded.model_copy(update={"tensors": ()})
    if len(recorded.model_dump_json()) > RECORDED_BYTES:
        raise ValueError("it says too much about itself")
    files = settings(fields)
    no_tokenizer = ""
    try:
        files |= rebuild(fields)
    except UnknownTokenizerError as error:
        no_tokenizer = str(error)
    return Report(
        details=details,
        recorded=recorded,
        template=str(fields.get("tokenizer.chat_template") or ""),
        files=files,
        parts=_parts(fields.get("split.count")),
        no_tokenizer=no_tokenizer,
    )


def _value(field: gguf.ReaderField) -> Any:
    match field.types[0]:
        case gguf.GGUFValueType.ARRAY:
            return field.parts[-1]
        case gguf.GGUFValueType.FLOAT32:
            # 1e-05, where the nearest double would be shown as 9.999999747378752e-06.
            return float(str(field.parts[-1][0]))
        case _:
            return field.contents()


def _parts(said: Any) -> int:
    return said if isinstance(said, int) and said > 1 else 1


def _file_type_name(number: Any) -> str:
    try:
        return gguf.LlamaFileType(number).name
    except ValueError:
        return "GUESSED"


def main() -> int:
    """Read the file that the command line names."""
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        said = _said(*sys.argv[1:])
    except BROKEN as error:
        sys.stdout.write(f"not a GGUF file that can be read: {error}"[:300])
        return NOT_GGUF
    sys.stdout.buffer.write(said)
    return 0


def _said(path: str, form: str = "") -> bytes:
    if form == WHOLE:
        # What JSON has no word for, such as a NaN, becomes null.
        return orjson.dumps(whole(Metadata(Path(path)).values()))
    return read(Path(path)).model_dump_json().encode()


if __name__ == "__main__":
    raise SystemExit(main())
