"""`palate loop gate`, from recorded answers, votes of people and a benchmark to the verdict and its exit code."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from model_folders import fake_model
from palate.artifacts import read_jsonl
from palate.cli.arguments import opened_store
from palate.cli.loop.gate import _prompts_files
from palate.cli.main import main
from palate.registry.evaluations import known_evaluations
from runs import write_rows

PROMPTS = 120
CONFIG = """
prompts: {prompts}
n: 120
judge: people
guards:
  - {{metric: truthfulqa/binary, margin: 0.1, n: 200, discordant: 0.1}}
"""


def benchmark(path: Path, lost: int, *, names: tuple[str, str] = ("sft", "dpo"), identities: str = "ba") -> Path:
    """Scores of 200 items: both have 100 right, the second has 10 more and `lost` less."""
    before = [1.0] * 100 + [0.0] * 10 + [1.0] * lost + [0.0] * (90 - lost)
    after = [1.0] * 110 + [0.0] * 90
    models = [
        {
            "name": name,
            "identity": identity * 2,
            "items": [{"id": f"t{at}", "scores": {"binary": score}} for at, score in enumerate(scores)],
            "left_out": [],
        }
        for name, identity, scores in zip(names, identities, (before, after), strict=True)
    ]
    content = {
        "format": 1,
        "benchmark": "truthfulqa",
        "metrics": {"binary": "share right"},
        "data": [],
        "models": models,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A win rate of 75 %: 90 of 120 votes of people are for A; a benchmark of equal models; the gate's config."""
    folder = tmp_path_factory.mktemp("gate")
    prompts = [{"prompt": f"question {n}"} for n in range(PROMPTS)]
    write_rows(folder / "prompts.jsonl", prompts)
    for side, identity in (("dpo", "aa"), ("sft", "bb")):
        rows = [
            {
                "id": f"p{n}",
                **row,
                "completions": [sha256(f"{side}{n}".encode()).hexdigest()[: 20 + n % 7]],
            }
            for n, row in enumerate(prompts)
        ]
        write_rows(folder / f"{side}.jsonl", [{**row, "identity": identity} for row in rows])
    words = ["eval", "winrate", str(folder / "dpo.jsonl"), str(folder / "sft.jsonl"), "--judge", "people"]
    words += ["--prompts", str(folder / "prompts.jsonl"), "--output", str(folder / "winrate")]
    assert main(words) == 0
    asked = read_jsonl(folder / "winrate" / "candidates.jsonl")
    votes = [
        {
            "item": row["id"],
            "left": 0,
            "right": 1,
            "outcome": "right" if at % 4 == 3 else "left",
            "who": "ann",
            "when": "2026-01-01T00:00:00Z",
            "shown": "left_first" if at // 4 % 2 else "right_first",
            "kind": "person",
        }
        for at, row in enumerate(asked)
    ]
    write_rows(folder / "votes.jsonl", votes)
    assert main([*words, "--votes", str(folder / "votes.jsonl")]) == 0
    benchmark(folder / "bench" / "bench-truthfulqa.json", lost=10)
    (folder / "gate.yaml").write_text(CONFIG.format(prompts=folder / "prompts.jsonl"))
    return folder


def gate(place: Path, output: Path, *words: str, results: tuple[str, ...] = ("winrate", "bench")) -> int:
    paths = [str(place / result) for result in results]
    return main(["loop", "gate", *paths, "--config", str(place / "gate.yaml"), "-o", str(output), *words])


def test_a_pass(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert gate(place, tmp_path / "gate.json", "--json") == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "gate.json").read_text())
    assert printed == written
    assert (written["outcome"], written["attempt"], written["reasons"]) == ("PASS", 1, [])
    assert (written["candidate"], written["incumbent"]) == (str(place / "dpo.jsonl"), str(place / "sft.jsonl"))
    assert written["raw"]["estimate"] == pytest.approx(0.75)
    assert len(written["config_hash"]) == 64
    assert sorted(Path(path).name for path in written["inputs"]) == ["bench-truthfulqa.json", "winrate.json"]
    assert gate(place, tmp_path / "gate.json") == 0  # the same results are the same attempt
    shown = capsys.readouterr().out
    assert shown.startswith("PASS: ")
    assert "truthfulqa/binary" in shown


def test_a_worse_benchmark_fails_with_exit_code_1_and_is_the_next_attempt(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = tmp_path / "gate.json"
    assert gate(place, verdict) == 0
    worse = benchmark(tmp_path / "bench.json", lost=70)
    results = ("winrate", str(worse))
    capsys.readouterr()
    assert gate(place, verdict, results=results) == 2
    assert "this is --attempt 2, with half its alpha" in capsys.readouterr().err
    assert gate(place, verdict, "--attempt", "2", results=results) == 1
    assert json.loads(verdict.read_text())["alpha"] == 0.025
    assert "the candidate is worse" in capsys.readouterr().out


def test_what_is_missing_is_inconclusive_with_exit_code_3(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(place, tmp_path / "a.json", results=("winrate",)) == 3
    assert "no result of `palate eval bench` has both models" in capsys.readouterr().out
    write_rows(tmp_path / "other.jsonl", [{"prompt": f"other {n}"} for n in range(PROMPTS)])
    (tmp_path / "gate.yaml").write_text(CONFIG.format(prompts=tmp_path / "other.jsonl"))
    words = [str(place / "winrate"), str(place / "bench"), "--config", str(tmp_path / "gate.yaml")]
    assert main(["loop", "gate", *words, "-o", str(tmp_path / "b.json")]) == 3
    assert "other prompts were measured" in capsys.readouterr().out


def test_the_config_alone_is_checked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loop", "gate", "--config", str(place / "gate.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Φ(0.1 / √(0.1/200) − 1.645) = Φ(2.827)
    assert found["chances"]["truthfulqa/binary"] == pytest.approx(0.9977, abs=1e-3)
    assert main(["loop", "gate", "--config", str(place / "gate.yaml")]) == 0
    assert "an equal model passes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("results", "words", "message"),
    [
        (("bench",), [], "a gate needs one win rate, here are 0"),
        (("winrate", "prompts.jsonl"), [], "not valid JSON"),
        (("winrate", "absent"), [], "no such file"),
        (("winrate", "bench"), ["--latency", "0", "1"], "two numbers above 0"),
    ],
)
def test_wrong_usage_is_one_line(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    results: tuple[str, ...],
    words: list[str],
    message: str,
) -> None:
    assert gate(place, tmp_path / "gate.json", *words, results=results) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_verdict_is_not_overwritten(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gate.json").write_text("{}")
    assert gate(place, tmp_path / "gate.json") == 2
    assert "is no verdict of a gate" in capsys.readouterr().err


def test_the_files_of_the_prompts_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held").mkdir()
    files = [str(write_rows(tmp_path / "held" / f"{name}.jsonl", [{"prompt": name}])) for name in "ab"]
    assert _prompts_files("held/a.jsonl") == files[:1]
    assert sorted(_prompts_files("held/*.jsonl")) == sorted(_prompts_files("held")) == files
    [built_in] = _prompts_files("palate-demo-heldout")
    assert Path(built_in).is_file(), "a name is no path"


def test_a_verdict_on_versions_is_recorded_and_a_retry_is_counted(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        assert main(["model", "add", str(fake_model(tmp_path / f"m{number}", number)), "--name", f"v1.{number}"]) == 0
    assert gate(place, tmp_path / "a.json") == 0
    assert "not recorded: the results are not of two versions" in capsys.readouterr().err
    named = ("--candidate", "v1.1", "--incumbent", "v1.0", "--json")
    assert gate(place, tmp_path / "a.json", *named) == 0
    assert json.loads((tmp_path / "a.json").read_text())["versions"] == {"candidate": "v1.1", "incumbent": "v1.0"}
    assert "attempt 1 of v1.1 against v1.0" in capsys.readouterr().err
    [prompts] = map(Path, json.loads((tmp_path / "a.json").read_text())["prompts_files"])
    with opened_store(None) as opened:
        assert opened.read(known_evaluations) == ([prompts], []), "they are left out where data is sampled"
    results = ("winrate", str(benchmark(tmp_path / "bench.json", lost=70)))
    assert gate(place, tmp_path / "b.json", "--attempt", "1", *named, results=results) == 2
    assert "--attempt 1: is used up" in capsys.readouterr().err
    for _ in range(2):  # the same results again are the same attempt
        assert gate(place, tmp_path / "b.json", *named, results=results) == 1
        assert json.loads(capsys.readouterr().out)["alpha"] == 0.025
    assert gate(place, tmp_path / "c.json", "--candidate", "v9", "--json") == 2
    assert "there is no version or alias v9" in capsys.readouterr().err

    assert main(["model", "promote", "v1.1", "--reason", "r"]) == 2
    assert "the last verdict on v1.1" in capsys.readouterr().err
    assert main(["loop", "sign", "v1.1", "--reason", "r"]) == 2
    assert "only a PASS is signed" in capsys.readouterr().err
    assert main(["loop", "force", "v1.1", "--reason", "fixes a leak", "--who", "ann"]) == 0
    assert main(["model", "promote", "v1.1", "--reason", "r", "--who", "ann"]) == 0
    assert main(["loop", "reject", "production", "--reason", "refuses", "--who", "bob"]) == 0
    capsys.readouterr()
    assert main(["model", "show", "v1.1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "PASS against v1.0, attempt 1" in shown
    assert "FAIL against v1.0, attempt 2" in shown
    assert "force by ann: fixes a leak" in shown
    assert "reject by bob: refuses" in shown
    assert main(["loop", "sign", "v1.0", "--reason", "r"]) == 2
    assert "there is no verdict on v1.0" in capsys.readouterr().err
