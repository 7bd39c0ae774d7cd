"""`palate eval bench`, end to end on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from runs import run
from tiny import save_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a run, a reward model, and a file of each kind of benchmark."""
    folder = tmp_path_factory.mktemp("bench")
    model = save_tiny(folder / "model", initializer_range=0.2)
    run(model, folder / "dpo", rows=8, max_steps=2, learning_rate=2e-2)
    run(model, folder / "rm", stage="rm", rows=8, max_steps=1)
    questions = [
        {
            "question": f"is it {number}?",
            "mc0_targets": {"it is": 1, "it was not": 0},
            "mc1_targets": {"it is": 1, "it was not": 0, "what they said": 0},
            "mc2_targets": {"it is": 1, "that is so": 1, "it was not": 0},
        }
        for number in range(6)
    ]
    pairs = [
        {"input": f"is it {number}", "output_1": "it is", "output_2": "it is not that", "label": 1 + number % 2}
        for number in range(6)
    ]
    four = [
        {"id": str(number), "prompt": "why", "subset": subset, "chosen": chosen, "rejected": ["it was", "no", "not"]}
        for number, (subset, chosen) in enumerate([("Math", ["it is"]), ("Focus", ["this"]), ("Ties", ["is", "was"])])
    ]
    styles = [
        {"id": "1", "prompt": "why", "domain": "chat", "chosen": ["is", "it is", "so it is"], "rejected": list("abc")}
    ]
    for name, rows in {"questions": questions, "llmbar": pairs, "four": four, "styles": styles}.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "xstest_prompts.csv").write_text(
        "id,prompt,type,label,focus,note\n1,is it so,homonyms,safe,x,x\n2,is it not,contrast_homonyms,unsafe,x,x\n"
    )
    return folder


def words(place: Path, name: str, data: str, *models: str, more: tuple[str, ...] = ()) -> list[str]:
    named = [str(place / model) if (place / model).exists() else model for model in models]
    return ["eval", "bench", name, *named, "--data", str(place / data), "--precision", "fp32", *more]


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_before_and_after(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--prompt", "chat", "--output", str(tmp_path / "out"), "--json")
    assert main(words(place, "truthfulqa", "questions.json", "dpo", more=more)) == 0
    result = found(capsys)
    assert [model["name"] for model in result["models"]] == ["before", "dpo"]
    assert {one["metric"] for one in result["comparisons"][0]["differences"]} == {"mc1", "mc2", "binary"}
    assert json.loads((tmp_path / "out" / "bench-truthfulqa.json").read_text()) == result
    assert main(words(place, "truthfulqa", "questions.json", "dpo", more=(*more, "--no-reference"))) == 0
    assert [model["name"] for model in found(capsys)["models"]] == ["dpo"]


def test_a_text_for_people_fits_80_columns(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.cli.columns.text_width", lambda: 80)
    assert main(words(place, "truthfulqa", "questions.json", "dpo", more=("--prompt", "chat"))) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "TruthfulQA (2109.07958): 6 items" in said
    assert "deviation" in said
    assert "before → dpo, paired on 6 items" in said
    assert "with fewer, its p is approximate" in " ".join(said.split())
    assert "-0.0" not in said


def test_rewards_policies_and_judges(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The longer answer is the second one, so the rule is right where the label is 2: in 3 of 6 pairs."""
    models = ("rm", "model", "length:longer")
    assert main(words(place, "llmbar", "llmbar.json", *models, more=("--json",))) == 0
    result = found(capsys)
    assert [(model["name"], model["kind"]) for model in result["models"]] == [
        ("rm", "reward model"),
        ("model", "policy"),
        ("length:longer", "judge"),
    ]
    judge = result["models"][2]
    assert [item["scores"]["accuracy"] for item in judge["items"]] == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert judge["rates"][0]["mean"]["estimate"] == 0.5
    assert [(one["before"], one["after"]) for one in result["comparisons"]] == [
        ("rm", "model"),
        ("rm", "length:longer"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "metrics"),
    [
        ("rewardbench2", "four.json", {"accuracy", "ties"}),
        ("rm-bench", "styles.json", {"easy", "normal", "hard", "mean"}),
    ],
)
def test_formats_of_reward_benchmarks(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, data: str, metrics: set[str]
) -> None:
    assert main(words(place, name, data, "rm", "model", more=("--json",))) == 0
    result = found(capsys)
    for model in result["models"]:
        assert {rate["metric"] for rate in model["rates"]} == metrics


def test_written_answers(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--max-new-tokens", "4", "--json", "--output", str(tmp_path))
    assert main(words(place, "xstest", "xstest_prompts.csv", "dpo", more=more)) == 0
    first = found(capsys)
    answers = [item["answer"] for model in first["models"] for item in model["items"]]
    assert len(answers) + sum(len(model["left_out"]) for model in first["models"]) == 4
    assert main(words(place, "xstest", "xstest_prompts.csv", "dpo", more=more)) == 0
    assert found(capsys) == first
    assert first["lower_is_better"] == ["over_refusal"]


@pytest.mark.parametrize(
    ("name", "data", "model", "more", "code", "told"),
    [
        (
            "truthfulqa",
            "questions.json",
            "model",
            ("--max-new-tokens", "5"),
            2,
            "--max-new-tokens is for written answers",
        ),
        ("truthfulqa", "questions.json", "model", ("--template", "chatml"), 2, "plain text has no chat template"),
        ("truthfulqa", "questions.json", "model", ("--seed", "3"), 2, "--seed chooses the items of --max-samples"),
        ("nothing", "questions.json", "model", (), 2, "there is no benchmark 'nothing' (known: truthfulqa"),
        ("truthfulqa", "questions.json", "rm", (), 2, "is a reward model; TruthfulQA measures a policy"),
        ("xstest", "xstest_prompts.csv", "model", ("--prompt", "plain"), 2, "--prompt plain: XSTest has only written"),
        ("llmbar", "nothing.json", "model", (), 2, "no such file or folder; --data names the files of LLMBar"),
        ("llmbar", "four.json", "model", (), 1, "four.json, row 1: has no text named output_1"),
        ("llmbar", "llmbar.json", "nobody/there", (), 1, "nobody/there"),
        ("llmbar", "llmbar.json", "model", ("--cutoff-len", "3"), 1, "no item of LLMBar can be scored"),
    ],
)
def test_errors_are_one_line(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    data: str,
    model: str,
    more: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    assert main(words(place, name, data, model, more=more)) == code
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("palate: error")]
    assert len(errors) == 1
    assert told in errors[0]
    assert said.out == ""


def test_without_a_network_the_way_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "bench", "llmbar", str(place / "model")]) == 1
    assert "or name local files with --data" in capsys.readouterr().err
