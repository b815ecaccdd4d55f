"""Paths of images in a prompt."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from rkllama_cli import images
from rkllama_cli.errors import CliError


@pytest.mark.parametrize(
    ("prompt", "rest", "found"),
    [
        ("What is in ./cat.png?", "What is in ?", ["cat.png"]),
        ("/home/me/my\\ cat.JPG", "", ["/home/me/my cat.JPG"]),
        ("compare 'a b.png' and \"c d.webp\" now", "compare and now", ["a b.png", "c d.webp"]),
        ("file:///home/x.jpeg what?", "what?", ["/home/x.jpeg"]),
        ("what is a .png file", "what is a .png file", []),
        ("cat.png.txt", "cat.png.txt", []),
        ("no images", "no images", []),
    ],
)
def test_paths_are_found_and_taken_out(prompt: str, rest: str, found: list[str]) -> None:
    shown, paths = images.find(prompt, exists=lambda path: path.name != ".png")

    assert (shown, paths) == (rest, tuple(map(Path, found)))


def test_a_path_that_is_no_file_stays_in_the_prompt() -> None:
    prompt = "Write a program that makes out.png"

    assert images.find(prompt, exists=lambda _: False) == (prompt, ())


def test_an_image_is_sent_in_base64(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")

    assert base64.b64decode(images.read(tmp_path / "a.png")) == b"\x89PNG"
    with pytest.raises(CliError, match=r"b\.png: No such file"):
        images.read(tmp_path / "b.png")
