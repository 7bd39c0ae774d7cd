"""New tokens: what is added, what trains, what is saved, and that all who load it again score the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.artifacts import read_jsonl
from palate.errors import ConfigError
from palate.evaluation.accuracy.rewards import is_reward_model, load_reward_model
from palate.evaluation.subject import Subject, read_run
from palate.models.precision import default_device, resolve
from palate.models.reward_model import RewardModel
from palate.records import Message, PreferencePair
from palate.text.encode import encode_record
from palate.text.groups import EncodedGroup
from palate.text.template import load_template
from runs import config, distance, metrics, run, run_json, weights, write_rows
from tiny import save_tiny, stock_score

TOKENS = "<face>,</face>"
LORA: dict[str, Any] = {
    "finetuning_type": "lora",
    "lora_rank": 4,
    "learning_rate": 2e-2,
    "per_device_train_batch_size": 2,
}
ROWS = [
    {"prompt": f"{i} is it", "chosen": f"<face>yes {i}</face>", "rejected": "no <face>that</face> is not"}
    for i in range(6)
]
PAIR = PreferencePair(
    id="pair",
    prompt=(Message("user", "is it"),),
    chosen=(Message("assistant", "<face>it is</face>"),),
    rejected=(Message("assistant", "no"),),
)


@pytest.fixture(scope="module", params=["llama", "qwen2"], ids=["tied", "untied"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / request.param, request.param, initializer_range=0.2)


def train(model: Path, folder: Path, **changed: Any) -> Path:
    data = write_rows(folder.parent / "faces.jsonl", ROWS)
    run(model, folder, **{"dataset": str(data), "add_special_tokens": TOKENS, **LORA, **changed})
    return folder


def score(spec: Any) -> list[float]:
    """Σ log π of both answers of a pair that has the new tokens, as `palate eval` loads the model."""
    device = default_device()
    subject = Subject(spec, resolve("fp32", device), device)
    return subject.score([group_of(subject.template.tokenizer)])[0][0]


def group_of(tokenizer: Any) -> EncodedGroup:
    group = encode_record(PAIR, load_template(tokenizer))
    assert isinstance(group, EncodedGroup)
    return group


@pytest.mark.filterwarnings("ignore:.*ensure_weight_tying:UserWarning")  # PEFT 0.19 says so of untied models
def test_the_whole_way_with_lora(base: Path, tmp_path: Path) -> None:
    folder = train(base, tmp_path / "run", save_strategy="steps", save_steps=2)
    record, first = run_json(folder), metrics(folder)[0]
    before = len(AutoTokenizer.from_pretrained(base))
    # The reference is the enlarged model: nothing is lost or won before the first step.
    assert record["reference"]["kind"] == "adapter"
    assert (first["rewards/margins"], first["loss"]) == (0.0, pytest.approx(0.693147, abs=1e-6))
    assert first["ref_logps/chosen"] == first["logps/chosen"]
    assert metrics(folder)[1]["rewards/margins"] != 0.0
    assert (
        f"embedding: {before} rows became {before + 2}; the new ones begin as the mean of the others"
        in record["notices"]
    )
    assert "new tokens: embed_tokens and lm_head train as a whole (additional_target)" in record["notices"]
    # What is saved: the tokenizer with the tokens, the matrices, and each whole module once.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("<face>it is</face>", add_special_tokens=False).input_ids
    assert (ids[0], ids[-1]) == (before, before + 1)
    whole = {name: value for name, value in weights(folder).items() if "lora_" not in name}
    assert {name.rpartition("model.")[2] for name in whole} == {"embed_tokens.weight", "lm_head.weight"}
    start = weights(base)["model.embed_tokens.weight"]
    trained = whole["base_model.model.model.embed_tokens.weight"]
    assert trained.shape[0] == before + 2
    assert float((trained[before:] - start.mean(0)).abs().max()) > 1e-3, "the new rows do not train"
    tied = json.loads((base / "config.json").read_text())["tie_word_embeddings"]
    assert torch.equal(trained, whole["base_model.model.lm_head.weight"]) is tied
    # PEFT on a resized base, PEFT's own way from the folder alone, and palate score the same.
    loaded = AutoModelForCausalLM.from_pretrained(base)
    loaded.resize_token_embeddings(before + 2)
    group, adapted = group_of(tokenizer), PeftModel.from_pretrained(loaded, folder)
    expected = [stock_score(adapted, group, answer) for answer in range(2)]
    alone = AutoPeftModelForCausalLM.from_pretrained(folder)
    assert [stock_score(alone, group, answer) for answer in range(2)] == expected
    assert score(read_run(folder).policy) == pytest.approx(expected, abs=1e-3)
    assert score(read_run(folder).reference) != pytest.approx(score(read_run(folder).policy), abs=1e-3)


def test_all_weights_train_and_load_again(base: Path, tmp_path: Path) -> None:
    folder = train(base, tmp_path / "run", finetuning_type="full", learning_rate=5e-3)
    assert metrics(folder)[0]["rewards/margins"] == 0.0
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().num_embeddings
    expected = [stock_score(model, group_of(tokenizer), answer) for answer in range(2)]
    assert score(read_run(folder).policy) == pytest.approx(expected, abs=1e-3)
    assert len(score(read_run(folder).reference)) == 2


def test_the_next_run_knows_the_tokens_of_the_adapter(base: Path, tmp_path: Path) -> None:
    """No key of the second run names them: they are in the tokenizer that was saved with the adapter."""
    first = train(base, tmp_path / "first")
    second = train(base, tmp_path / "second", add_special_tokens=None, adapter_name_or_path=str(first))
    assert metrics(second)[0]["rewards/margins"] == 0.0
    assert len(AutoTokenizer.from_pretrained(second)) == len(AutoTokenizer.from_pretrained(first))
    assert score(read_run(second).reference) == pytest.approx(score(read_run(first).policy), abs=1e-4)
    third = train(
        base, tmp_path / "third", add_special_tokens=None, adapter_name_or_path=str(first), create_new_adapter=True
    )
    assert metrics(third)[0]["rewards/margins"] == 0.0
    assert score(read_run(third).reference) == pytest.approx(score(read_run(first).policy), abs=1e-4)
    assert score(read_run(third).policy) != pytest.approx(score(read_run(first).policy), abs=1e-3)


def test_a_run_that_is_resumed_ends_as_one_that_was_not(base: Path, tmp_path: Path) -> None:
    changed = {"save_strategy": "steps", "save_steps": 1}
    whole = train(base, tmp_path / "whole", **changed)
    again = train(base, tmp_path / "again", **changed, max_steps=3)
    named = str(again / "checkpoint-2")
    more = train(base, tmp_path / "more", **changed, resume_from_checkpoint=named)
    assert distance(whole, more) == 0.0


def test_an_adapter_without_the_embedding_does_not_train_the_tokens(base: Path, tmp_path: Path) -> None:
    frozen = "warning: the new tokens' embeddings are frozen"

    def warned(folder: Path) -> bool:
        return any(line.startswith(frozen) for line in run_json(folder)["notices"])

    first = train(base, tmp_path / "first", add_special_tokens=None)
    assert warned(train(base, tmp_path / "on", adapter_name_or_path=str(first)))
    assert not warned(train(base, tmp_path / "new", adapter_name_or_path=str(first), create_new_adapter=True))
    assert not warned(train(base, tmp_path / "again", adapter_name_or_path=str(tmp_path / "new")))


def test_an_embedding_that_may_not_grow_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resize_vocab: false, but .* the tokenizer has \d+ and the embedding \d+"):
        train(base, tmp_path / "run", resize_vocab=False)


def test_a_name_that_no_module_has_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="additional_target: the model has no module named embeddings"):
        train(base, tmp_path / "run", additional_target="embeddings,lm_head")
    with pytest.raises(ConfigError, match="q_proj is in lora_target and in additional_target"):
        train(base, tmp_path / "run", additional_target="q_proj", lora_target="q_proj,v_proj")


def test_where_nothing_grows_it_is_said(base: Path, tmp_path: Path) -> None:
    folder = train(base, tmp_path / "run", add_special_tokens=None, resize_vocab=True)
    assert any(line.startswith("resize_vocab has no effect") for line in run_json(folder)["notices"])
    assert "embed_tokens" not in " ".join(weights(folder))


def test_tokens_are_read_as_a_list_and_ask_for_their_rows(base: Path, tmp_path: Path) -> None:
    given = config(base, tmp_path / "run", new_special_tokens="<a>, </a>", add_tokens=["b c"])
    assert given.add_special_tokens == ["<a>", "</a>"]
    assert given.add_tokens == ["b c"]
    assert given.resize_vocab
    assert not config(base, tmp_path / "run").resize_vocab


def test_a_reward_model_learns_the_tokens_too(base: Path, tmp_path: Path) -> None:
    """With tokens of its own, and with those of the adapter that it starts from."""
    first = train(base, tmp_path / "first")
    rate = {"stage": "rm", "learning_rate": 5e-3, "num_train_epochs": 2}
    alone = train(base, tmp_path / "alone", **rate)
    after = train(base, tmp_path / "after", **rate, add_special_tokens=None, adapter_name_or_path=str(first))
    merged = train(
        base,
        tmp_path / "merged",
        **rate,
        add_special_tokens=None,
        adapter_name_or_path=str(first),
        create_new_adapter=True,
    )
    for folder in (alone, after, merged):
        assert any("embed_tokens" in name for name in weights(folder))
        rewards = RewardModel(folder)([PAIR.prompt] * 2, ["<face>it is</face>", "no"])
        assert len(set(rewards)) == 2
        # What is read here is what was trained: the last step's order of chosen and rejected.
        spec = read_run(folder).policy
        assert is_reward_model(spec)
        scored = load_reward_model(spec, resolve("fp32", default_device()), default_device())
        assert scored.score([group_of(scored.template.tokenizer)])[0] == pytest.approx(rewards, abs=1e-4)


def test_answers_are_sampled_and_the_best_checkpoint_is_loaded(base: Path, tmp_path: Path) -> None:
    held_out = {"eval_dataset": str(tmp_path / "faces.jsonl"), "sample_prompts": 2, "sample_max_new_tokens": 4}
    best = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    worst = {"metric_for_best_model": "rewards/margins", "greater_is_better": False, "load_best_model_at_end": True}
    folder = train(base, tmp_path / "run", **held_out, **best, **worst, health_max_new_tokens=8)
    margins = {row["step"]: row["rewards/margins"] for row in metrics(folder, "eval")}
    lowest = min(margins, key=lambda step: margins[step])
    assert lowest < max(margins)
    assert distance(folder, folder / f"checkpoint-{lowest}") == 0.0
    assert len(read_jsonl(folder / "samples.jsonl")) == 4
    assert "health/kl" in metrics(folder, "eval")[0]
