"""The table of architectures: some of its rows are made again, and a difference would be seen."""

from __future__ import annotations

from pathlib import Path

import architectures
import pytest
import tables
import torch

from palate.models.attention import varlen
from palate.models.probe.probe import probe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
QUICK = ["Llama", "Gemma 2", "Mixtral", "LFM2 (hybrid)"]


def line(name: str) -> str:
    return tables.markdown([], [architectures.row(name)]).splitlines()[-1]


@pytest.mark.parametrize("name", QUICK)
def test_the_page_says_what_is_found(name: str) -> None:
    assert line(name) in PAGE.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in architectures.ARCHITECTURES if name not in QUICK])
def test_the_page_says_what_is_found_for_the_others(name: str) -> None:
    assert line(name) in PAGE.splitlines()


def test_a_difference_is_a_cell_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    model = architectures.tiny(*architectures.ARCHITECTURES["Llama"])
    found = probe(model)
    pack = architectures.pack
    # The last group is left out of the packed row, and twice in it instead of it stands the first.
    monkeypatch.setattr(architectures, "pack", lambda groups: pack([*groups[:-1], groups[0]]))
    assert architectures.compared(model, "llama", found).startswith("differs: loss by ")


def test_without_a_kernel_a_gpu_is_offered_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: object) -> torch.Tensor:
        return q + 0 * (k.sum() + v.sum())

    monkeypatch.setattr(architectures, "eager_kernel", architectures.spans_only)
    monkeypatch.setattr(varlen, "varlen_kernel", lambda: ("wrong", wrong))
    assert architectures.on_cuda(*architectures.ARCHITECTURES["Llama"]) == "flex"
