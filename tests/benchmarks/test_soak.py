"""What the soak calls a difference or a leak."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soak
from tables import soak_table


@pytest.fixture
def hour(tmp_path: Path) -> Iterator[soak.Soak]:
    made = soak.Soak(tmp_path, argparse.Namespace(seed=0, minutes=1.0, stuck=60.0))
    yield made
    made.stop()
    made.engine.server_close()


def sample(mebibytes: float, files: int = 10) -> dict[str, float]:
    return {"mebibytes": mebibytes, "open_files": files, "threads": 4, "children": 0}


def test_growth_beyond_the_noise_is_a_leak(hour: soak.Soak) -> None:
    hour.samples = [sample(500 + (number % 2) * 15, 10 + number % 3) for number in range(60)]
    found = hour.memory()
    assert hour.problems == []
    assert found["mebibytes"] == [507.5, 507.5]
    assert found["open_files"] == [10.0, 10.0]
    hour.samples = [sample(500 + number, 10 + number // 10) for number in range(60)]
    found = hour.memory()
    assert found["mebibytes_per_hour"] == pytest.approx(3600)  # one each second
    assert [problem.partition(":")[2].split()[0] for problem in hour.problems] == ["mebibytes", "open_files"]


def test_results_do_not_depend_on_clocks_or_on_the_order_of_replies(tmp_path: Path) -> None:
    def run(folder: str, runtime: float, loss: float, weight: bytes = b"w") -> str:
        (tmp_path / folder / "run").mkdir(parents=True)
        (tmp_path / folder / "run" / "model.safetensors").write_bytes(weight)
        row = {"step": 1, "loss": loss, "eval_runtime": runtime}
        (tmp_path / folder / "run" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return soak.Training("t").result(tmp_path / folder)

    assert run("a", 1.0, 0.5) == run("b", 2.0, 0.5)
    assert len({run("c", 1.0, 0.5), run("d", 1.0, 0.6), run("e", 1.0, 0.5, b"v")}) == 3
    votes = [{"item": "1", "outcome": "left", "when": "now"}, {"item": "2", "outcome": "right", "when": "later"}]
    hashes = []
    for rows in (votes, votes[::-1], [{**votes[0], "outcome": "tie"}, votes[1]]):
        soak.write_lines(tmp_path / "votes.jsonl", rows)
        hashes.append(soak.Judging("j").result(tmp_path))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_table_shows_jobs_and_server() -> None:
    job = {"name": "generation", "runs": 3, "kills": 7, "resumes": 2, "equal": 3, "seconds": 8.0, "longest": 4.5}
    opened = {"open_files": [10.0, 10.0], "threads": [5.0, 5.0], "children": [0.0, 0.0]}
    server = {"requests": 1234, "cancelled": 5, "failed": 0, "mebibytes": [500.0, 501.0], "mebibytes_per_hour": 1.0}
    result = {"jobs": [job], "server": {**server, **opened}, "leftovers": [], "problems": []}
    table = soak_table([{**result, "settings": {"minutes": 60.0}, "machine": {"cpu": "x"}}])
    assert "| generation | 3 | 7 | 2 | 3 of 3 | 8.0 | 4.5 |" in table
    assert "| requests | 1,234 |" in table
    assert "| least open files | 10 → 10 |" in table
