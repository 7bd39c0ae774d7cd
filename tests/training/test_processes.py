"""The group of a run's processes."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
import torch

from palate.training import processes

NCCL_AND_GLOO = "cuda:nccl,cpu:gloo"


@pytest.mark.parametrize(
    ("device", "environment", "fsdp", "backend"),
    [
        ("cuda", {"LOCAL_RANK": "0"}, True, NCCL_AND_GLOO),  # torchrun with one process
        ("cuda", {"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, True, NCCL_AND_GLOO),
        ("cuda", {"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, False, None),
        ("cpu", {"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, True, None),
        ("cuda", {"LOCAL_RANK": "0"}, False, "no group"),
        ("cpu", {"LOCAL_RANK": "0"}, True, "no group"),
        ("cuda", {}, True, "no group"),
    ],
)
def test_fsdp_on_gpus_has_a_group_also_of_one_process_that_adds_up_on_the_cpu(
    device: str, environment: dict[str, str], fsdp: bool, backend: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(processes, "PartialState", lambda **given: made.append(given))
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ, **environment})
    processes.join_processes(torch.device(device), 60, fsdp=fsdp)
    group = {"cpu": device == "cpu", "timeout": timedelta(seconds=60), "backend": backend}
    assert made == ([] if backend == "no group" else [group])
