"""Preference accuracy of runs and bare models, against log-probabilities that transformers computes row by row."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.artifacts import plain as as_plain
from palate.cli.main import main
from palate.data import load_records, split_records
from palate.errors import ArtifactError, DataError, UsageError
from palate.evaluation.accuracy.evaluate import evaluate, implied_beta
from palate.evaluation.accuracy.preference import Accuracy
from palate.evaluation.subject import read_run
from palate.records import PreferencePair
from runs import pairs, write_rows


def summed(model: Any, tokenizer: Any, pair: PreferencePair) -> list[tuple[float, int]]:
    """(Σ log π, tokens) of chosen and rejected, from the whole logits of one row at a time."""
    found = []
    for answer in (pair.chosen, pair.rejected):
        turns = [{"role": turn.role, "content": turn.content} for turn in (*pair.prompt, *answer)]
        before = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        whole = before + turns[-1]["content"] + tokenizer.eos_token
        start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].double().log_softmax(-1)
        taken = logps.gather(-1, ids[0, 1:, None])[start - 1 :, 0]
        found.append((float(taken.sum()), len(taken)))
    return found


@pytest.mark.parametrize("average", ["mean", "sum"])
def test_a_run_is_enough(finished: Path, model: Path, average: Any) -> None:
    config = json.loads((finished / "run.json").read_text())["config"]
    records = load_records(config["dataset"], kind=PreferencePair).records
    held_out = split_records(records, 0.5, seed=config["seed"])[1]
    tokenizer = AutoTokenizer.from_pretrained(model)
    scores = []
    for place in (model, finished):
        scorer = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
        scores.append([summed(scorer, tokenizer, pair) for pair in held_out])

    def share(rows: list[list[tuple[float, int]]]) -> float:
        per = [[total / (tokens if average == "mean" else 1) for total, tokens in row] for row in rows]
        return sum(chosen > rejected for chosen, rejected in per) / len(per)

    margins = [(c[0] - c0[0]) - (r[0] - r0[0]) for (c0, r0), (c, r) in zip(*scores, strict=True)]
    measured = evaluate(finished, average=average, precision="fp32")
    assert isinstance(measured, Accuracy)
    assert measured.n == len(held_out) == 8
    assert measured.reference.estimate == share(scores[0])
    assert measured.policy.estimate == share(scores[1])
    assert measured.implied.estimate == sum(margin > 0 for margin in margins) / 8
    assert measured.margin.estimate == pytest.approx(sum(margins) / 8, abs=1e-3)
    assert abs(measured.margin.estimate) > 0.1  # the run moved: the two models are not mixed up


def test_two_bare_models_are_compared_on_named_pairs(finished: Path, model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "pairs.jsonl", pairs(6, seed=5))
    there = evaluate(finished, rows.as_posix(), reference=model, precision="fp32")
    back = evaluate(model, rows.as_posix(), reference=finished, precision="fp32")
    assert isinstance(there, Accuracy)
    assert isinstance(back, Accuracy)
    assert (there.policy, there.reference) == (back.reference, back.policy)
    assert there.margin.estimate == pytest.approx(-back.margin.estimate)


def test_named_pairs_are_read_with_the_options_of_a_dataset(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = pairs(6, seed=5)
    plain = evaluate(finished, write_rows(tmp_path / "pairs.jsonl", given).as_posix(), precision="fp32")
    votes = []
    for number, row in enumerate(given):
        first, second = (row["chosen"], row["rejected"]) if number % 2 == 0 else (row["rejected"], row["chosen"])
        votes.append({"ask": row["prompt"], "response_1": first, "response_2": second, "label": number % 2})
    words = ["--dataset", str(write_rows(tmp_path / "votes.jsonl", votes)), "--column", "prompt=ask"]
    words += ["--label", "0=response_1", "--label", "1=response_2", "--precision", "fp32", "--json"]
    assert main(["eval", "accuracy", str(finished), *words]) == 0
    printed, measured = json.loads(capsys.readouterr().out), as_plain(plain.to_json())
    items = [found.pop("items") for found in (printed, measured)]
    assert printed == measured
    # The ids name the file; everything else of the pairs is equal.
    assert [list(found["hashes"].values()) for found in items] == [list(items[0]["hashes"].values())] * 2
    assert [list(found["metrics"]["margin"].values()) for found in items] == [
        list(items[0]["metrics"]["margin"].values())
    ] * 2


def test_pairs_of_one_prompt_are_a_cluster(finished: Path, model: Path, tmp_path: Path) -> None:
    """Two copies of every pair, the second in other letters of the prompt, say no more than one does."""
    once = pairs(6, seed=5)
    twice = [*once, *({**row, "prompt": row["prompt"].upper()} for row in once)]
    # The copies are scored apart, so that their prompts count as one though the model sees other tokens.
    rows = write_rows(tmp_path / "twice.jsonl", twice)
    found = evaluate(finished, str(rows), reference=model, precision="fp32")
    assert isinstance(found, Accuracy)
    assert (found.n, found.prompts) == (12, 6)
    assert {one.n for one in (found.reference, found.policy, found.implied, found.margin)} == {6}
    same = evaluate(finished, str(write_rows(tmp_path / "same.jsonl", [*once, *once])), reference=model)
    single = evaluate(finished, str(write_rows(tmp_path / "once.jsonl", once)), reference=model)
    assert isinstance(same, Accuracy)
    assert isinstance(single, Accuracy)
    for name in ("policy", "implied", "margin"):
        one, two = getattr(single, name), getattr(same, name)
        assert (two.low, two.high, two.n) == pytest.approx((one.low, one.high, one.n), abs=1e-2)


def test_pairs_that_do_not_fit_are_counted_and_left_out(finished: Path, model: Path, tmp_path: Path) -> None:
    long = {"prompt": "p", "chosen": "yes " * 400, "rejected": "no"}
    rows = write_rows(tmp_path / "pairs.jsonl", [*pairs(3, seed=5), long])
    said: list[str] = []
    measured = evaluate(finished, str(rows), on_progress=said.append)  # the run's own cutoff_len, 200
    assert measured.n == 3
    assert any("1 of 4 pairs are left out" in line and "200 tokens" in line for line in said)
    with pytest.raises(DataError, match="no pair can be scored: too_long 4; raise --cutoff-len"):
        evaluate(finished, str(rows), cutoff_len=2)


def test_what_is_compared_must_be_said(model: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory: name --dataset and --reference"):
        evaluate(model)
    (tmp_path / "run.json").write_text('{"status": "stopped"}')
    with pytest.raises(ArtifactError, match="the run is stopped, only a completed one has a model"):
        evaluate(tmp_path)


def test_the_command_prints_and_records_a_runs_own_figure_only(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = finished / "accuracy.json"
    assert main(["eval", "accuracy", str(finished), "--max-samples", "1", "--json"]) == 0
    one = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (one["n"], one["margin"]["low"]) == (1, None)  # the interval of one pair is infinite
    assert not record.exists()
    assert main(["eval", "accuracy", str(finished)]) == 0
    out = capsys.readouterr().out
    assert "Reference Accuracy: " in out
    assert "log-probabilities per token, on 8 held-out pairs of 8 prompts (intervals from 10 prompts or fewer" in out
    assert json.loads(record.read_text())["n"] == 8


def test_the_calibration_uses_the_beta_of_the_run(finished: Path, model: Path, tmp_path: Path) -> None:
    config = json.loads((finished / "run.json").read_text())["config"]
    measured = evaluate(finished, precision="fp32")
    assert isinstance(measured, Accuracy)
    assert measured.beta == config["pref_beta"]
    assert measured.items is not None
    assert measured.calibration is not None
    margins = measured.items.metrics["margin"].values()
    probabilities = [1 / (1 + math.exp(-config["pref_beta"] * margin)) for margin in margins if margin is not None]
    assert len(probabilities) == 8
    assert measured.calibration.brier.estimate == pytest.approx(sum((1 - p) ** 2 for p in probabilities) / 8)
    rows = write_rows(tmp_path / "pairs.jsonl", pairs(6, seed=5))
    said: list[str] = []
    other = evaluate(finished, str(rows), reference=model, on_progress=said.append)
    assert isinstance(other, Accuracy)
    assert other.calibration is None
    assert any("no calibration" in line and "--beta" in line for line in said)
    named = evaluate(finished, str(rows), reference=model, beta=0.3)
    assert isinstance(named, Accuracy)
    assert named.beta == 0.3
    assert named.calibration is not None


def test_objectives_without_a_reference_have_no_implied_beta(finished: Path) -> None:
    run = read_run(finished)
    assert implied_beta(run) == run.config["pref_beta"]
    for loss in ("simpo", "orpo"):
        config = {key: value for key, value in run.config.items() if not key.startswith("pref_")}
        assert implied_beta(replace(run, config={**config, "pref_loss": loss})) is None


def test_accuracies_by_column_and_length_are_printed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "topic": "odd" if number % 2 else "even"} for number, row in enumerate(pairs(8, seed=5))]
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    command = ["eval", "accuracy", str(finished), "--dataset", str(path), "--precision", "fp32"]
    assert main([*command, "--by", "topic", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: group["n"] for name, group in found["groups"]["topic"].items()} == {"even": 4, "odd": 4}
    assert sum(group["n"] for group in found["groups"]["length gap, tokens"].values()) == 8
    assert main([*command, "--by", "topic"]) == 0
    out = capsys.readouterr().out
    assert "topic  pairs  prompts" in out
    assert "Calibration of the preference probability, β" in out
    assert "confidence" in out
    assert main([*command, "--by", "tpic"]) == 2
    said = capsys.readouterr().err
    assert "--by tpic: no row has the column; the rows have topic" in said
    assert "scoring" not in said  # before a model is loaded


def test_a_run_is_compared_with_itself(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "accuracy", str(finished)]) == 0
    capsys.readouterr()
    assert main(["eval", "compare", str(finished), str(finished / "accuracy.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 8
    assert {one["metric"]: one["found"]["p_value"] for one in found["metrics"]} == {
        "policy": 1,
        "implied": 1,
        "margin": 1,
    }
