"""Writes the emulator's `layout_asserts.h` from the layout facts: `python tests/layout_asserts.py`.

Kept beside the facts; a test compares the header in the package with what this makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FACTS = Path(__file__).with_name("layouts.json")
HEADER = Path(__file__).parents[1] / "rkllm_bindings" / "emulator" / "src" / "layout_asserts.h"
HEAD = """\
/* Generated from tests/layouts.json by tests/layout_asserts.py; do not edit.
 *
 * Every size, offset, type and enum value of the layout facts, checked at compile time. */
#define AT(type, field, offset, size)                                             \\
    _Static_assert(offsetof(type, field) == (offset), #type "." #field " offset"); \\
    _Static_assert(sizeof(((type *)0)->field) == (size), #type "." #field " size")
#define IS(type, field, ctype) \\
    _Static_assert(_Generic(((type *)0)->field, ctype: 1, default: 0), #type "." #field " type")
#define WHOLE(type, size, alignment)                          \\
    _Static_assert(sizeof(type) == (size), #type " size");    \\
    _Static_assert(_Alignof(type) == (alignment), #type " alignment")
"""


def fields(struct: str, members: list[dict[str, Any]], prefix: str = "") -> Iterator[str]:
    for field in members:
        name = field["name"]
        if name is not None:
            path = prefix + name
            yield f"AT({struct}, {path}, {field['offset']}, {field['size']});"
            # An array decays and an unnamed struct has no type to name: their sizes say enough.
            if "members" not in field and "element" not in field:
                yield f"IS({struct}, {path}, {field['ctype']});"
        if "members" in field:
            yield from fields(struct, field["members"], f"{prefix}{name}." if name else prefix)


def render() -> str:
    facts = json.loads(FACTS.read_text())
    lines = [HEAD]
    for number, family in enumerate(facts["families"], start=1):
        lines.append(f"#if RKLLM_ABI == {number} /* {family['id']} */")
        for struct, shape in family["structs"].items():
            lines.append(f"WHOLE({struct}, {shape['size']}, {shape['align']});")
            lines.extend(fields(struct, shape["fields"]))
        for values in family["enums"].values():
            lines.extend(
                f'_Static_assert({name} == {value}, "{name}");' for name, value in values.items()
            )
        lines.append("#endif\n")
    lines.append("#undef AT\n#undef IS\n#undef WHOLE\n")
    return "\n".join(lines)


if __name__ == "__main__":
    HEADER.write_text(render())
