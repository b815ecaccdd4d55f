"""Names and manifests on a real disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rkllama_protocol.errors import (
    InvalidJobError,
    InvalidModelError,
    ModelNotFoundError,
    RkllamaError,
)
from rkllama_protocol.names import Digest, InvalidNameError, ModelName
from rkllama_store.blobs import Blobs
from rkllama_store.library import Library
from rkllama_store.manifests import LIMIT_BYTES, Manifest

Make = Callable[..., Manifest]


def name(text: str) -> ModelName:
    return ModelName.parse(text)


def manifest_path(root: Path, text: str) -> Path:
    parsed = name(text)
    return root / "manifests" / parsed.host / parsed.namespace / parsed.model / parsed.tag


def test_a_name_is_found_in_any_case_and_keeps_its_own(library: Library, manifest_of: Make) -> None:
    library.publish(name("Foo:Bar"), manifest_of(b"w"))

    assert library.resolve(name("fOO:bAR")).name == "Foo:Bar"


def test_a_name_in_another_case_is_overwritten(library: Library, manifest_of: Make) -> None:
    library.publish(name("Foo"), manifest_of(b"one"))
    kept = library.publish(name("foo"), manifest_of(b"two"))

    assert kept.display == "Foo:latest"
    assert [model.name for model in library.tags()] == ["Foo:latest"]


def test_the_layers_texts_are_resolved(library: Library, manifest_of: Make) -> None:
    texts = {
        "system": b"be brief",
        "template": b"{{ x }}",
        "parameters": b'{"stop":["a"]}',
        "messages": b'[{"role":"user","content":"hi"}]',
        "license": b"MIT",
    }
    library.publish(name("m"), manifest_of(b"weights", **texts))
    model = library.resolve(name("m"))

    assert (
        model.system,
        model.template,
        model.parameters,
        model.license,
    ) == ("be brief", "{{ x }}", {"stop": ["a"]}, ("MIT",))
    assert model.messages[0].content == "hi"
    assert model.size > sum(map(len, texts.values())) + len(b"weights")


def test_a_copy_has_the_same_digest(library: Library, manifest_of: Make) -> None:
    library.publish(name("a"), manifest_of(b"w"))
    library.copy(name("A"), name("ns/b:1"))

    assert library.resolve(name("a")).digest == library.resolve(name("ns/b:1")).digest


def test_a_copy_onto_itself_changes_nothing(library: Library, manifest_of: Make) -> None:
    library.publish(name("Foo"), manifest_of(b"w"))

    assert library.copy(name("foo"), name("FOO")) is None
    assert library.resolve(name("foo")).name == "Foo:latest"


def test_deleting_frees_what_nobody_else_needs(
    library: Library, blobs: Blobs, manifest_of: Make
) -> None:
    shared, alone = manifest_of(b"w", system=b"s"), manifest_of(b"w", system=b"t")
    library.publish(name("a"), shared)
    library.publish(name("b"), alone)
    library.delete(name("b"))

    assert shared.digests() == set(blobs.ages_s())


def test_overwriting_frees_what_only_the_old_one_needed(
    library: Library, blobs: Blobs, manifest_of: Make
) -> None:
    library.publish(name("a"), manifest_of(b"old"))
    new = manifest_of(b"new")
    library.publish(name("a"), new)

    assert new.digests() == set(blobs.ages_s())


def test_an_upload_that_waits_for_its_create_survives_a_delete(
    library: Library, blobs: Blobs, manifest_of: Make
) -> None:
    """A client uploads, somebody else deletes, and only then the client creates."""
    library.publish(name("a"), manifest_of(b"w"))
    with blobs.incoming() as incoming:
        incoming.write(b"upload")
        upload, _ = incoming.commit()
    library.delete(name("a"))

    assert {upload} == set(blobs.ages_s())


def test_a_blob_that_a_client_was_told_is_there_survives_its_models_delete(
    library: Library, blobs: Blobs, manifest_of: Make
) -> None:
    """It was not uploaded, because it was there; the create comes after the delete."""
    manifest = manifest_of(b"w")
    library.publish(name("a"), manifest)
    weights = Digest.parse(manifest.layers[0].digest)
    blobs.expect(weights)
    library.delete(name("a"))

    assert {weights} == set(blobs.ages_s())


def test_an_upload_that_nobody_came_for_goes(
    library: Library, blobs: Blobs, manifest_of: Make
) -> None:
    for digest in manifest_of(b"upload").digests():
        os.utime(blobs.path(digest), (0, 0))
    library.collect()

    assert blobs.ages_s() == {}


def test_deleting_the_last_tag_leaves_no_empty_folders(
    library: Library, root: Path, manifest_of: Make
) -> None:
    library.publish(name("ns/a"), manifest_of(b"w"))
    library.delete(name("ns/a"))

    assert list((root / "manifests").iterdir()) == []


def test_names_are_read_while_others_come_and_go(library: Library, manifest_of: Make) -> None:
    """A model's folder goes with its last tag, perhaps between being seen and being read."""
    library.publish(name("stays"), manifest_of(b"w"))
    passing = manifest_of(b"w")

    def come_and_go() -> None:
        for _ in range(100):
            library.publish(name("passes"), passing)
            library.delete(name("passes"))

    with ThreadPoolExecutor(1) as other:
        going = other.submit(come_and_go)
        while not going.done():
            assert "stays:latest" in {found.display for found in library.names()}
        going.result()


def test_an_unknown_name(library: Library) -> None:
    with pytest.raises(ModelNotFoundError, match="model 'nope:latest' not found"):
        library.resolve(name("nope"))
    with pytest.raises(ModelNotFoundError):
        library.delete(name("nope"))


def test_a_name_too_long_for_the_disk_is_refused(library: Library, manifest_of: Make) -> None:
    """A host may have 350 characters (contract 1.6), a folder 255."""
    with pytest.raises(InvalidJobError, match="invalid model name"):
        library.publish(name("h" * 300 + "/n/m"), manifest_of(b"w"))


DAMAGE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"{", id="cut short"),
    pytest.param(b"[1]", id="a list"),
    pytest.param(b'{"schemaVersion":2,"config":{},"layers":[]}', id="no config"),
    pytest.param(b'{"schemaVersion":2,"config":null,"layers":null}', id="nulls"),
    pytest.param(b"\xff\xfe\x00", id="not text"),
    pytest.param(b" " * (LIMIT_BYTES + 1), id="large"),
    pytest.param(
        b'{"schemaVersion":2,"config":{"mediaType":"","digest":"sha256:../x","size":1},"layers":[]}',
        id="a digest that is a path",
    ),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_hides_itself_alone(
    library: Library, root: Path, manifest_of: Make, damage: bytes
) -> None:
    library.publish(name("good"), manifest_of(b"w"))
    library.publish(name("bad"), manifest_of(b"x"))
    manifest_path(root, "bad").write_bytes(damage)

    assert [model.name for model in library.tags()] == ["good:latest"]
    with pytest.raises(InvalidModelError, match="model 'bad:latest' is damaged"):
        library.resolve(name("bad"))


def test_nothing_is_collected_while_a_manifest_cannot_be_read(
    library: Library, blobs: Blobs, root: Path, manifest_of: Make
) -> None:
    """It may need any blob; deleting it mends this."""
    bad = manifest_of(b"x")
    library.publish(name("bad"), bad)
    manifest_path(root, "bad").write_bytes(b"{")
    library.publish(name("other"), manifest_of(b"w"))
    library.delete(name("other"))
    before = set(blobs.ages_s())
    library.delete(name("bad"))

    assert bad.digests() < before
    assert list(library.tags()) == []


def test_a_model_without_its_blob_is_damaged(
    library: Library, blobs: Blobs, manifest_of: Make
) -> None:
    manifest = manifest_of(b"w")
    library.publish(name("m"), manifest)
    blobs.path(Digest.parse(manifest.layers[0].digest)).unlink()

    assert library.tags() == ()
    with pytest.raises(InvalidModelError, match="is missing: pull or create the model again"):
        library.resolve(name("m"))


def test_a_folder_in_a_manifests_place_is_no_internal_error(
    library: Library, root: Path, manifest_of: Make
) -> None:
    library.publish(name("good"), manifest_of(b"w"))
    manifest_path(root, "bad:dir").mkdir(parents=True)

    assert len(library.tags()) == 1
    with pytest.raises(InvalidModelError):
        library.resolve(name("bad:dir"))


HOSTILE = st.text(alphabet="./\\:%-_aA0 \x00\n~@", max_size=40)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=HOSTILE)
def test_no_name_leads_out_of_the_store(
    library: Library, root: Path, manifest_of: Make, text: str
) -> None:
    try:
        parsed = name(text)
    except InvalidNameError:
        return
    outside = {path for path in root.parent.rglob("*") if not path.is_relative_to(root)}
    try:
        library.publish(parsed, manifest_of(b"w"))
        assert parsed.key == name(library.resolve(parsed).full_name).key
        library.delete(parsed)
    except RkllamaError as error:
        pytest.fail(str(error))

    assert outside == {path for path in root.parent.rglob("*") if not path.is_relative_to(root)}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(HOSTILE, st.text(alphabet="sha256:-af0./", min_size=60, max_size=80)))
def test_no_digest_leads_out_of_the_blobs(blobs: Blobs, root: Path, text: str) -> None:
    try:
        path = blobs.path(Digest.parse(text))
    except InvalidNameError:
        return

    assert root / "blobs" == path.resolve().parent


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)
WRONG = st.one_of(
    JSON, st.sampled_from(["sha256:../../../x", "sha256-" + "a" * 64, "/etc/passwd", -1, 2**70])
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_manifest_leads_out_of_the_store_or_to_an_internal_error(
    library: Library, root: Path, manifest_of: Make, data: st.DataObject
) -> None:
    library.publish(name("m"), manifest_of(b"w", system=b"s"))
    path = manifest_path(root, "m")
    content = json.loads(path.read_bytes())
    place = data.draw(st.sampled_from([content, content["config"], *content["layers"]]))
    place[data.draw(st.sampled_from([*place, "x"]))] = data.draw(WRONG)
    path.write_text(json.dumps(content))
    outside = {path for path in root.parent.rglob("*") if not path.is_relative_to(root)}
    for work in (library.resolve, library.show, library.delete):
        with suppress(RkllamaError):
            work(name("m"))
        library.tags()
        library.collect()

    assert outside == {path for path in root.parent.rglob("*") if not path.is_relative_to(root)}


def test_what_was_held_when_its_model_went_goes_when_it_is_let_go(
    library: Library, blobs: Blobs, manifest_of: Make
) -> None:
    manifest = manifest_of(b"w")
    library.publish(name("m"), manifest)
    with blobs.holding() as hold:
        for digest in manifest.digests():
            hold.add(digest)
        library.delete(name("m"))
        kept = set(blobs.ages_s())
    library.release()

    assert (kept, blobs.ages_s()) == (manifest.digests(), {})
