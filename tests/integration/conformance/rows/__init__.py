"""The table: every row, by subject."""

from __future__ import annotations

from tests.integration.conformance.rows import (
    bodies,
    chat,
    copy_delete,
    cors_host,
    cpu,
    create,
    embed,
    errors,
    generate,
    keep_alive,
    names,
    options,
    pull,
    routes,
    show,
    tags_ps,
    tools,
)
from tests.integration.conformance.table import Row

SUBJECTS = (
    routes, bodies, errors, names, cors_host, keep_alive, options, chat, generate, tools, embed,
    show, tags_ps, create, copy_delete, pull, cpu,
)  # fmt: skip

ROWS: tuple[Row, ...] = tuple(row for subject in SUBJECTS for row in subject.ROWS)
