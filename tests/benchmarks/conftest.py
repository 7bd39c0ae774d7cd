"""The benchmarks are scripts in a folder of their own: tests import them from there."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import pytest

from tiny import save_tiny

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

WORDS = re.findall(
    r"\w+", "the answer is that it was not a question of what they said and this is why we go on from here"
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tied head, as a user has one."""
    return save_tiny(tmp_path_factory.mktemp("bench") / "tiny", max_position_embeddings=2048)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pairs in ShareGPT's form, some with several turns, most of them longer than the tests' cutoffs."""
    choose = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(choose.choices(WORDS, k=choose.randint(low, high)))

    rows = []
    for number in range(40):
        turns = [{"from": "human", "value": f"{number} {text(5, 60)}"}]
        if number % 3 == 0:
            turns += [{"from": "gpt", "value": text(5, 60)}, {"from": "human", "value": text(5, 30)}]
        answers = {name: {"from": "gpt", "value": f"{name} {text(30, 90)}"} for name in ("chosen", "rejected")}
        rows.append({"conversations": turns, **answers})
    path = tmp_path_factory.mktemp("source") / "pairs.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path
