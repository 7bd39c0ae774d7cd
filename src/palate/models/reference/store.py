"""Reference log-probabilities on disk, keyed by the scored tokens.

Values depend only on the weights, the precision, and a group's token ids and trained mask. So a file stays valid for
any learning rate, β, loss, seed, adapter and row order, and when rows are added. It has a value for each token, because
some objectives weight tokens.

One file per reference, in safetensors: `keys` uint8 [N, 16], `lengths` int64 [N], `logps` float32 [Σ lengths].
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from palate.artifacts import write_bytes
from palate.errors import ArtifactError
from palate.models.upstream import first_line
from palate.text.group_file import GroupSubset
from palate.text.groups import EncodedGroup

_FORMAT = "palate reference log-probabilities 2"
# The old identities were hashes of the weights only, so models that differ in their sliding window had the same one.
_OLD_FORMAT = "palate reference log-probabilities 1"


class ReferenceStore(dict[bytes, npt.NDArray[np.float32]]):
    """Token log-probabilities of groups under one reference: content hash → [trained tokens of all its completions].

    Attributes:
        identity: content hash of the reference's weights and config, with the precision that it scored in.
        path: the file.
    """

    def __init__(self, path: Path, identity: str) -> None:
        super().__init__()
        self.path, self.identity = path, identity
        self._saved = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str], identity: str) -> ReferenceStore:
        """Read a file, or create an empty store if there is none.

        Raises:
            ArtifactError: the file is damaged, is something else, or belongs to another reference.
        """
        store = cls(Path(path), identity)
        if store.path.exists():
            store._read()
        return store

    def _read(self) -> None:
        if not self.path.is_file():
            raise ArtifactError(f"{self.path}: reference_cache must name a file, this is a folder")
        try:
            with safe_open(str(self.path), framework="numpy") as file:
                facts = file.metadata() or {}
                if facts.get("format") == _OLD_FORMAT:
                    raise ArtifactError(
                        f"{self.path}: written by an earlier version of palate; delete it, it is rebuilt"
                    )
                if facts.get("format") != _FORMAT:
                    raise ArtifactError(f"{self.path}: is not a reference cache; name another file as reference_cache")
                tensors = {name: file.get_tensor(name) for name in ("keys", "lengths", "logps")}
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ArtifactError(
                f"{self.path}: the reference cache is damaged ({first_line(error)}); delete it, it is rebuilt"
            ) from error
        if facts.get("identity") != self.identity:
            raise ArtifactError(
                f"{self.path}: belongs to the reference {facts.get('identity')}, this run's is {self.identity}; "
                "name another file, or reference_cache: auto"
            )
        if facts.get("checksum") != _checksum(tensors):
            raise ArtifactError(f"{self.path}: the reference cache is damaged (checksum); delete it, it is rebuilt")
        ends = np.cumsum(tensors["lengths"])
        for key, end, length in zip(tensors["keys"], ends, tensors["lengths"], strict=True):
            self[key.tobytes()] = tensors["logps"][end - length : end]
        self._saved = len(self)

    def missing(self, groups: Sequence[EncodedGroup]) -> Sequence[EncodedGroup]:
        """The groups without stored values, without duplicates."""
        first: dict[bytes, int] = {}
        for number, group in enumerate(groups):
            if group.content_hash not in self:
                first.setdefault(group.content_hash, number)
        return GroupSubset(groups, [*first.values()])

    def gather(self) -> None:
        """Exchange values between ranks, so that each has all of them; does nothing in a single process."""
        if not dist.is_initialized():
            return
        parts: list[dict[bytes, npt.NDArray[np.float32]]] = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(parts, dict(self))
        for part in parts:
            self.update(part)

    def save(self) -> None:
        """Write the file atomically if anything was added."""
        if self._saved == len(self):
            return
        keys = sorted(self)
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16),
            "lengths": np.array([len(self[key]) for key in keys], dtype=np.int64),
            "logps": np.concatenate([self[key] for key in keys]).astype(np.float32),
        }
        facts = {"format": _FORMAT, "identity": self.identity, "checksum": _checksum(tensors)}
        write_bytes(self.path, save(tensors, metadata=facts))
        self._saved = len(self)


def _checksum(tensors: Mapping[str, npt.NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for name in ("keys", "lengths", "logps"):
        digest.update(json.dumps([name, list(tensors[name].shape)]).encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
