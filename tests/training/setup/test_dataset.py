"""What a config's mixture draws is what a run trains on, with the counts of each source in its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.config.load import config_from_values
from palate.errors import ConfigError, DataError
from palate.models.loading.load import load_tokenizer
from palate.text.template import load_template
from palate.training.methods import build_method
from palate.training.setup.dataset import RunData, build_data
from runs import BASE, pairs, write_rows


def built(model: Path, folder: Path, **changed: Any) -> RunData:
    small = write_rows(folder / "small.jsonl", pairs(4, seed=1))
    large = write_rows(folder / "large.jsonl", pairs(20, seed=2))
    given = {"model_name_or_path": str(model), "output_dir": str(folder / "run"), "dataset": [str(small), str(large)]}
    config = config_from_values({**BASE, **given, **changed}, origin="test").config
    return build_data(config, build_method(config), load_template(load_tokenizer(str(model))))


@pytest.mark.parametrize(
    ("changed", "used"),
    [
        ({}, {"small": 4, "large": 20}),
        ({"mix_caps": {"large.jsonl": 5}}, {"small": 4, "large": 5}),
        ({"mix_temperature": 1e9}, {"small": 4, "large": 4}),
        ({"mix_temperature": 1e9, "mix_caps": {"small": 3}}, {"small": 3, "large": 3}),
    ],
)
def test_temperature_and_caps(model: Path, tmp_path: Path, changed: dict[str, Any], used: dict[str, int]) -> None:
    data = built(model, tmp_path, **changed)
    assert {name: source["rows_used"] for name, source in data.report["sources"].items()} == used
    assert len(data.train) == sum(used.values())
    assert data.report["dropped_by_reason"].get("not_drawn", 0) == 24 - sum(used.values())
    again = built(model, tmp_path, **changed)
    assert [group.id for group in again.train] == [group.id for group in data.train]


def votes(folder: Path) -> str:
    rows = [
        {"prompt": row["prompt"], "response_1": row["chosen"], "response_2": row["rejected"], "label": n % 2}
        for n, row in enumerate(pairs(8, seed=3))
    ]
    return str(write_rows(folder / "votes.jsonl", rows))


def test_what_labels_mean_is_in_the_report(model: Path, tmp_path: Path) -> None:
    data = built(model, tmp_path, dataset=votes(tmp_path))
    line = "label: 0 → response_1 (4), 1 → response_2 (4)"
    assert data.report["sources"]["votes"]["labels"] == line
    assert f"labels    votes: {line}" in data.summary
    other = built(model, tmp_path, dataset=votes(tmp_path), labels={0: "response_2", 1: "response_1"})
    assert other.report["sources"]["votes"]["labels"] == "label: 0 → response_2 (4), 1 → response_1 (4)"
    assert other.facts["identity"] != data.facts["identity"]


def test_who_compared_is_said(model: Path, tmp_path: Path) -> None:
    assert "comparisons" not in built(model, tmp_path).report
    kinds = [{"source": "people", "source_kind": "human"}] * 3 + [{"source": "judge", "source_kind": "machine"}]
    rows = [{**row, **kinds[n % 4], "source_weight": 2, "weight": 2} for n, row in enumerate(pairs(8))]
    rows += [{**row, "lineage": {"voters": [{"kind": "judge"}, {"kind": "person"}]}} for row in pairs(2, seed=1)]
    data = built(model, tmp_path, dataset=str(write_rows(tmp_path / "k.jsonl", rows)))
    shares = [tuple(share.values()) for share in data.report["comparisons"]]
    assert shares == [
        ("people", "human", 6, 0.6, 2.0, pytest.approx(12 / 18)),
        ("judge", "machine", 2, 0.2, 2.0, pytest.approx(4 / 18)),
        ("k", "both", 2, 0.2, 1.0, pytest.approx(2 / 18)),
    ]
    assert "compared  by: 6 human, 2 machine, 2 both; comparisons of people and of machines are mixed" in data.summary
    assert "          judge (machine): 2 examples, weight 2, 22.2% of the loss" in data.summary


def test_meanings_of_labels_that_no_dataset_has(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels is set, but no label column is read there"):
        built(model, tmp_path, labels={0: "response_2"})


def test_two_ways_to_mix_are_refused(model: Path, tmp_path: Path) -> None:
    weights = {str(tmp_path / "small.jsonl"): 1, str(tmp_path / "large.jsonl"): 2}
    with pytest.raises(ConfigError, match="mix_temperature and the weights of dataset both set the shares"):
        built(model, tmp_path, dataset=weights, mix_temperature=2)


TURNS = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": "B"},
]


def imitated(model: Path, folder: Path, turns: list[dict[str, Any]], **changed: Any) -> tuple[str, str, RunData]:
    """(the prompt's text, what is trained, the data) of one conversation in stage sft."""
    rows = write_rows(folder / "talk.jsonl", [{"messages": turns}, {"messages": TURNS[:2]}])
    paths = {"model_name_or_path": str(model), "output_dir": str(folder / "run"), "dataset": str(rows)}
    config = config_from_values({"stage": "sft", "max_dropped": 1, **paths, **changed}, origin="test").config
    tokenizer = load_tokenizer(str(model))
    data = build_data(config, build_method(config), load_template(tokenizer))
    (answer,) = data.train[0].completions
    return tokenizer.decode(data.train[0].prompt_ids), tokenizer.decode(answer.ids[answer.trained]), data


def test_sft_trains_every_answer(model: Path, tmp_path: Path) -> None:
    prompt, trained, _ = imitated(model, tmp_path, TURNS)
    assert prompt == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert trained == "A<|im_end|>B<|im_end|>"


def test_mask_history_trains_the_last_answer(model: Path, tmp_path: Path) -> None:
    prompt, trained, _ = imitated(model, tmp_path, TURNS, mask_history=True)
    assert prompt.endswith("A<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n")
    assert trained == "B<|im_end|>"


def test_mask_history_and_a_last_answer_that_is_context(model: Path, tmp_path: Path) -> None:
    turns = [*TURNS[:3], {**TURNS[3], "train": False}]
    _, trained, data = imitated(model, tmp_path, turns, mask_history=True)
    assert trained == "A<|im_end|>"  # of the other row
    assert [(row["id"], row["reason"]) for row in data.report["dropped"]] == [("talk.jsonl:1", "not_trained")]


def test_train_on_prompt_trains_every_token(model: Path, tmp_path: Path) -> None:
    prompt, trained, data = imitated(model, tmp_path, TURNS, train_on_prompt=True)
    assert prompt == ""
    assert data.facts["train_prompts"] == len(data.train) == 2  # rows whose prompt is trained are not one prompt
    assert trained == (
        "user\na<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nb<|im_end|>\n"
        "<|im_start|>assistant\nB<|im_end|>"
    )


def test_an_online_run_on_pairs_says_that_it_reads_their_prompts_alone(model: Path, tmp_path: Path) -> None:
    template = load_template(load_tokenizer(str(model)))
    for name, rows, expected in (
        ("pairs", pairs(4), ["pairs: the policy answers its prompts; not trained on: chosen, rejected"]),
        ("prompts", [{"prompt": f"{n} what is it"} for n in range(4)], []),
    ):
        path = write_rows(tmp_path / f"{name}.jsonl", rows)
        given = {**BASE, "stage": "grpo", "rewards": "length:longer", "cutoff_len": 64, "max_new_tokens": 8}
        given |= {"model_name_or_path": str(model), "dataset": str(path), "output_dir": str(tmp_path / "out")}
        del given["reference_cache"]
        config = config_from_values(given).config
        data = build_data(config, build_method(config), template)
        assert data.report.get("notices", []) == expected
        assert ("not trained on: chosen, rejected" in data.summary) is bool(expected)
