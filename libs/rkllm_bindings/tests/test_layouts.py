"""The declarations agree with the layout facts, field by field.

A size cannot tell an int from a float: types are compared here, and values cross the border in
test_border.py.
"""

from __future__ import annotations

import ctypes as c
import runpy
from pathlib import Path
from typing import Any

import pytest
from rkllm_bindings import FAMILIES
from rkllm_bindings._abi import enums
from rkllm_bindings._abi.family import Family

PLAIN: dict[str, Any] = {
    "bool": c.c_bool,
    "int": c.c_int,
    "int8_t": c.c_int8,
    "int32_t": c.c_int32,
    "uint8_t": c.c_uint8,
    "uint32_t": c.c_uint32,
    "uint64_t": c.c_uint64,
    "size_t": c.c_size_t,
    "float": c.c_float,
    "void*": c.c_void_p,
    "char*": c.c_char_p,
    "LLMHandle": c.c_void_p,
    "LLMCallState": c.c_int,
    "RKLLMInputType": c.c_int,
    "RKLLMInferMode": c.c_int,
}


def ctype_of(family: Family, name: str) -> Any:
    name = name.removeprefix("const ")
    if name in PLAIN:
        return PLAIN[name]
    if name.endswith("*"):
        return c.POINTER(ctype_of(family, name[:-1]))
    if name.endswith("]"):
        element, count = name[:-1].split("[")
        return PLAIN[element] * int(count)
    if name == "LLMResultCallback":
        return family.result_callback
    return family.structs[name]


def check_fields(
    family: Family, struct: Any, fields: list[dict[str, Any]], base: int = 0
) -> list[str]:
    """Check, and return the names in order."""
    declared = {name: kind for name, kind, *_ in struct._fields_}
    names = []
    for fact in fields:
        name = fact["name"] or "input"  # the one unnamed member is RKLLMInput's union
        names.append(name)
        descriptor = getattr(struct, name)
        assert (name, descriptor.offset + base) == (name, fact["offset"])
        assert (name, descriptor.size) == (name, fact["size"])
        if "members" in fact:
            inner = check_fields(family, declared[name], fact["members"], fact["offset"])
            assert [field for field, *_ in declared[name]._fields_] == inner
        elif not name.endswith("_callback"):
            assert (name, declared[name]) == (name, ctype_of(family, fact["ctype"]))
    return names


def test_every_structure_is_as_measured(family: str, facts: dict[str, Any]) -> None:
    declared = FAMILIES[family].structs
    measured = facts[family]["structs"]

    assert set(declared) == set(measured)
    for name, fact in measured.items():
        struct = declared[name]
        assert (name, c.sizeof(struct), c.alignment(struct)) == (name, fact["size"], fact["align"])
        names = check_fields(FAMILIES[family], struct, fact["fields"])
        assert [field for field, *_ in struct._fields_] == names


def test_every_function_is_as_measured(family: str, facts: dict[str, Any]) -> None:
    declared = FAMILIES[family].prototypes
    measured = facts[family]["functions"]

    assert set(declared) == set(measured)
    for name, fact in measured.items():
        result, arguments = declared[name]
        wanted = [ctype_of(FAMILIES[family], kind) for kind in fact["params"]]
        assert (name, list(arguments)) == (name, wanted)
        assert (name, result) == (name, ctype_of(FAMILIES[family], fact["returns"]))


def test_every_callback_is_as_measured(family: str, facts: dict[str, Any]) -> None:
    """All return an int: where the header says void it is ignored."""
    known = FAMILIES[family]
    types: dict[str, Any] = {"LLMResultCallback": known.result_callback}
    if known.callback_struct:
        fields = {name: kind for name, kind, *_ in known.structs["RKLLMCallback"]._fields_}
        types["LLMTokenizerCallback"] = fields["tokenizer_callback"]
        types["LLMGetEmbedCallback"] = fields["embed_callback"]
        assert fields["result_callback"] is known.result_callback

    assert set(types) == set(facts[family]["callbacks"])
    for name, fact in facts[family]["callbacks"].items():
        assert types[name]._restype_ is c.c_int
        wanted = [ctype_of(known, kind) for kind in fact["params"]]
        assert (name, list(types[name]._argtypes_)) == (name, wanted)


def test_every_enum_value_is_as_measured(family: str, facts: dict[str, Any]) -> None:
    for name, values in facts[family]["enums"].items():
        declared = {member.name: member.value for member in getattr(enums, name)}
        assert values.items() <= declared.items()


def test_the_versions_are_those_of_the_facts(family: str, facts: dict[str, Any]) -> None:
    assert list(FAMILIES[family].versions) == facts[family]["runtime_versions"]


def test_the_emulators_assertions_are_made_from_the_facts() -> None:
    """So that the C side is checked against the same facts, and not against the Python side."""
    made = runpy.run_path(str(Path(__file__).with_name("layout_asserts.py")))

    assert made["HEADER"].read_text() == made["render"]()


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_new_structure_is_zero(name: str) -> None:
    param = FAMILIES[name].new("RKLLMParam")

    assert bytes(param) == bytes(c.sizeof(param))
