"""Stored reference values: keyed by content, refused when they are damaged or somebody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from palate.errors import ArtifactError
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.reference.kinds import FrozenCopy
from palate.models.reference.precomputed import PrecomputedReference, fill, verify
from palate.models.reference.store import ReferenceStore
from palate.text.batch import Batch, pack
from palate.text.groups import EncodedGroup
from tiny import random_groups, tiny_model

CPU = torch.device("cpu")


@pytest.fixture
def live() -> FrozenCopy:
    model = tiny_model("llama")
    probe(model)
    return FrozenCopy(model, FP32, CPU, "start")


@pytest.fixture
def groups() -> list[EncodedGroup]:
    return random_groups(6, seed=3)


@pytest.fixture
def store(tmp_path: Path, live: FrozenCopy, groups: list[EncodedGroup]) -> ReferenceStore:
    """A saved file with the values of all groups."""
    store = ReferenceStore(tmp_path / "values.safetensors", "start")
    fill(store, live, groups, in_twos, CPU)
    store.save()
    return store


def in_twos(groups: list[EncodedGroup]) -> list[Batch]:
    return [pack(groups[i : i + 2]) for i in range(0, len(groups), 2)]


def test_a_key_is_content_and_nothing_else(groups: list[EncodedGroup]) -> None:
    group = groups[0]
    assert replace(group, id="elsewhere", weight=0.5).content_hash == group.content_hash
    completion = group.completions[0]
    changes = [
        replace(group, prompt_ids=group.prompt_ids[1:]),
        replace(group, prompt_ids=np.append(group.prompt_ids[:-1], group.prompt_ids[-1] + 1)),
        replace(group, completions=group.completions[::-1]),
        replace(group, completions=(replace(completion, trained=~completion.trained), *group.completions[1:])),
        replace(group, completions=(replace(completion, ids=completion.ids[::-1].copy()), *group.completions[1:])),
    ]
    assert len({changed.content_hash for changed in [group, *changes]}) == 1 + len(changes)
    # Where one part ends and the next begins belongs to the content.
    joined = np.append(group.prompt_ids, completion.ids[:1])
    shifted = replace(
        group,
        prompt_ids=joined,
        completions=(
            replace(completion, ids=completion.ids[1:], trained=completion.trained[1:]),
            *group.completions[1:],
        ),
    )
    assert shifted.content_hash != group.content_hash


def test_values_outlive_order_rows_and_other_batches(
    store: ReferenceStore, live: FrozenCopy, groups: list[EncodedGroup]
) -> None:
    found = ReferenceStore.open(store.path, "start")
    more = [*groups[::-1], *random_groups(2, seed=77)]
    assert [group.id for group in found.missing(more)] == [group.id for group in more[-2:]]
    stored = PrecomputedReference(found, live)
    batch = pack([groups[5], groups[2]])
    torch.testing.assert_close(stored.logps([batch])[0].logps, live.logps([batch])[0].logps, atol=1e-5, rtol=1e-5)


def test_a_group_that_occurs_twice_is_scored_once(store: ReferenceStore, groups: list[EncodedGroup]) -> None:
    twin = replace(groups[0], id="twin")
    assert not store.missing([groups[0], twin])
    assert len(ReferenceStore(store.path, "start").missing([groups[0], twin])) == 1


def test_another_reference_is_refused_by_name(store: ReferenceStore) -> None:
    with pytest.raises(
        ArtifactError, match=r"values.safetensors: belongs to the reference start, this run's is other; name"
    ):
        ReferenceStore.open(store.path, "other")


def test_any_damaged_byte_is_noticed(store: ReferenceStore) -> None:
    whole = store.path.read_bytes()
    for place in (9, len(whole) // 2, len(whole) - 3):
        store.path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(ArtifactError, match=r"values\.safetensors: "):
            ReferenceStore.open(store.path, "start")


def test_half_a_file_is_damaged(store: ReferenceStore) -> None:
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"the reference cache is damaged .*; delete it, it is rebuilt"):
        ReferenceStore.open(store.path, "start")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3, dtype=np.float32)}, str(tmp_path / "model.safetensors"))
    with pytest.raises(ArtifactError, match="is not a reference cache; name another file as reference_cache"):
        ReferenceStore.open(tmp_path / "model.safetensors", "start")
    with pytest.raises(ArtifactError, match="must name a file, this is a folder"):
        ReferenceStore.open(tmp_path, "start")


def test_values_that_are_not_the_references_are_found_by_scoring_a_sample(
    store: ReferenceStore, live: FrozenCopy, groups: list[EncodedGroup]
) -> None:
    verify(store, live, groups, in_twos, CPU, "fp32")
    key = groups[0].content_hash
    store[key] = store[key] + np.float32(0.01)
    with pytest.raises(
        ArtifactError, match=rf"differ from the reference by 0\.01 .*\(row {groups[0].id}\); delete the file"
    ):
        verify(store, live, groups, in_twos, CPU, "fp32")


def test_bf16_rounding_of_an_unlikely_token_is_no_other_reference(
    store: ReferenceStore, live: FrozenCopy, groups: list[EncodedGroup]
) -> None:
    key = groups[0].content_hash
    values = store[key].copy()
    values[0] += 0.36  # seen with AMX, where a group was scored in another batch
    store[key] = values
    together = lambda some: [pack(some)]  # noqa: E731
    verify(store, live, groups, together, CPU, "bf16")
    store[key] = store[key] - 1.0
    with pytest.raises(ArtifactError, match=r"differ from the reference by 1"):
        verify(store, live, groups, together, CPU, "bf16")


def test_not_a_number_is_no_value(store: ReferenceStore, live: FrozenCopy, groups: list[EncodedGroup]) -> None:
    key = groups[0].content_hash
    store[key] = np.full_like(store[key], np.nan)
    with pytest.raises(ArtifactError, match="differ from the reference by nan"):
        verify(store, live, groups, in_twos, CPU, "fp32")


def test_nothing_new_is_nothing_written(store: ReferenceStore) -> None:
    before = store.path.stat().st_mtime_ns
    found = ReferenceStore.open(store.path, "start")
    found.save()
    assert found.path.stat().st_mtime_ns == before


def test_values_of_an_earlier_version_are_not_taken_for_those_of_this_model(
    store: ReferenceStore, tmp_path: Path
) -> None:
    """Its identities were of weights alone."""
    tensors = load_file(store.path)
    facts = {"format": "palate reference log-probabilities 1", "identity": "start", "checksum": ""}
    save_file(tensors, tmp_path / "old.safetensors", metadata=facts)
    with pytest.raises(ArtifactError, match="earlier version of palate; delete it, it is rebuilt"):
        ReferenceStore.open(tmp_path / "old.safetensors", "start")


def test_the_longest_group_is_always_scored_again(
    store: ReferenceStore, live: FrozenCopy, groups: list[EncodedGroup]
) -> None:
    """What differs at length only would pass a sample of short ones."""
    more = [*groups * 8, *random_groups(1, seed=5, prompt=(60, 60)), *groups * 8]
    fill(store, live, more, in_twos, CPU)
    longest = max(more, key=lambda group: group.longest_row)
    key = longest.content_hash
    store[key] = store[key] + 0.5
    with pytest.raises(ArtifactError, match=r"differ from the reference by 0\.5"):
        verify(store, live, more, in_twos, CPU, "fp32")
