"""Groups in a file are the groups that were written, in any order and any process, and take no memory."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.errors import ArtifactError
from palate.text.batch import Batch, micro_batches, pack
from palate.text.group_file import GroupFile, GroupSubset, GroupWriter, JoinedGroups, lengths_of
from palate.text.groups import EncodedGroup
from tiny import random_groups


def stored(folder: Path, groups: Sequence[EncodedGroup]) -> GroupFile:
    with GroupWriter(folder) as writer:
        writer.extend(groups)
        return writer.close()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    plain = [*random_groups(3, 2), *random_groups(2, 1, seed=1), *random_groups(2, 4, seed=2, prompt=(0, 1))]
    odd = replace(plain[0], id="é\ud83d:1", source="s", weight=2, labels=(1.0, 0.1), margin=-0.5)
    given = [*plain, replace(odd, dimensions={"true": (1.0, 2.5), "kind": (3, 4)}), replace(plain[1], weight=0.25)]
    for read, group in zip(stored(tmp_path / "g", given), given, strict=True):
        for name in ("id", "source", "weight", "labels", "margin", "dimensions", "content_hash", "prompt_key"):
            assert getattr(read, name) == getattr(group, name)
        assert repr(read.weight) == repr(group.weight)  # part of a run's identity
        assert read.prompt_ids.dtype == np.int32
        for one, other in zip(read.completions, group.completions, strict=True):
            assert one.ids.tolist() == other.ids.tolist()
            assert one.trained.tolist() == other.trained.tolist()


def test_slices_subsets_and_copies_of_other_processes(tmp_path: Path) -> None:
    groups = random_groups(9)
    file = stored(tmp_path / "g", groups)
    ids = [group.id for group in groups]
    assert [group.id for group in file[2:7:2]] == ids[2:7:2]
    assert [file[-1].id, len(file[3:])] == [ids[-1], 6]
    assert [group.id for group in GroupSubset(file, [4, 0])] == [ids[4], ids[0]]
    assert [group.id for group in JoinedGroups(file[7:], groups[:2])] == [*ids[7:], *ids[:2]]
    assert [group.id for group in pickle.loads(pickle.dumps(file))] == ids
    with pytest.raises(IndexError):
        file[9]
    assert not list(stored(tmp_path / "none", []))


def test_the_index_has_the_lengths_and_batches_are_those_of_groups_in_memory(tmp_path: Path) -> None:
    groups = random_groups(40, seed=3)
    file = stored(tmp_path / "g", groups)
    assert lengths_of(file).packed.tolist() == lengths_of(groups).packed.tolist() == [g.packed_tokens for g in groups]
    assert lengths_of(file).longest.tolist() == [group.longest_row for group in groups]

    def ids(batches: Sequence[Batch]) -> list[list[str]]:
        return [[group.id for group in batch.groups] for batch in batches]

    assert ids(micro_batches(file, 70, pack, packed=True)) == ids(micro_batches(groups, 70, pack, packed=True))


def test_a_damaged_group_is_named_and_a_short_file_refused(tmp_path: Path) -> None:
    file = stored(tmp_path / "g", random_groups(5))
    data = tmp_path / "g" / "groups.bin"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"tokenised row 3 is damaged; delete the folder"):
        list(file)
    data.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="incomplete"):
        GroupFile(tmp_path / "g")
    (tmp_path / "g" / "index.bin").unlink()
    with pytest.raises(ArtifactError, match="incomplete"):
        GroupFile(tmp_path / "g")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    few = random_groups(20, prompt=(300, 300), answer=(200, 200))

    def peak(repeats: int) -> int:
        tracemalloc.start()
        writer = GroupWriter(tmp_path / str(repeats))
        for _ in range(repeats):
            writer.extend(few)
        file = writer.close()
        assert sum(group.packed_tokens for group in file) == 700 * len(few) * repeats
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # 3.5 kB a group: 2,000 groups in memory would take 7 MB.
    assert peak(100) - peak(10) < 200_000
