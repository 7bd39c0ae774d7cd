"""The cases of ../shared/cases that are about models, each with the outcome of its README, and siblings of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from conftest import SHARED
from palate.artifacts import read_json
from palate.errors import ArtifactError, ConfigError, DataError, ModelError
from palate.evaluation.subject import Subject, model_spec
from palate.models.generation.decoding import Decoding
from palate.models.loading.load import load_model, load_tokenizer
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.scoring.logps import per_completion
from palate.records import Message
from palate.text.batch import pad
from palate.text.template import load_template
from palate.training.methods import build_method
from palate.training.setup.dataset import build_data
from runs import config, metrics, run, write_rows
from tiny import save_tiny, stock_score, tiny_tokenizer

CPU = torch.device("cpu")
STILL = {"learning_rate": 1e-9, "per_device_train_batch_size": 8, "health": "off"}


def case(name: str) -> str:
    path = SHARED / "cases" / name
    if not path.exists():
        pytest.skip(f"../shared/cases/{name} is not there")
    return str(path)


def notices(folder: Path) -> str:
    return "\n".join(read_json(folder / "run.json")["notices"])


# ---- few_long.jsonl: equal weights, another window


@pytest.fixture(scope="module")
def mistrals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of equal weights; the second sees the last 64 tokens only."""
    folder = tmp_path_factory.mktemp("mistrals")
    return [save_tiny(folder / str(window), "mistral", sliding_window=window) for window in (None, 64)]


def same_weights(one: Path, other: Path) -> bool:
    first, second = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_reference_cache_of_a_model_with_another_window_is_refused(mistrals: list[Path], tmp_path: Path) -> None:
    assert same_weights(*mistrals)
    given = {**STILL, "dataset": case("few_long.jsonl"), "reference_cache": str(tmp_path / "values.safetensors")}
    run(mistrals[0], tmp_path / "full", **given, max_steps=8)
    with pytest.raises(ArtifactError, match="belongs to the reference"):
        run(mistrals[1], tmp_path / "window", **given, max_steps=8)


def test_the_shared_cache_gives_each_of_them_its_own_values(
    mistrals: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing moves, so every margin must be 0; with the other's values those of long rows were 0.3."""
    monkeypatch.setenv("PALATE_REFERENCES", str(tmp_path / "references"))
    for model in mistrals:
        folder = tmp_path / model.name
        run(model, folder, **STILL, dataset=case("few_long.jsonl"), reference_cache="auto")
        assert max(abs(row["rewards/margins"]) for row in metrics(folder)) < 1e-4
    identities = {read_json(tmp_path / model.name / "run.json")["model"]["identity"] for model in mistrals}
    assert len(identities) == len(list((tmp_path / "references").iterdir())) == 2


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}),
        ("llama", {"rms_norm_eps": 0.1}),
        ("gemma2", {"attn_logit_softcapping": 1e-4}),
        ("gemma2", {"query_pre_attn_scalar": 1}),
    ],
)
def test_a_reference_of_equal_weights_that_computes_something_else_is_another_model(
    kind: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    """As ref_model: it was taken for the policy itself."""
    policy, other = save_tiny(tmp_path / "policy", kind), save_tiny(tmp_path / "other", kind, **changed)
    assert same_weights(policy, other)
    run(policy, tmp_path / "run", **STILL, ref_model=str(other), max_steps=1)
    reference = read_json(tmp_path / "run" / "run.json")["reference"]
    assert reference["kind"] == "model"
    assert not reference["is_start"]
    assert metrics(tmp_path / "run")[0]["logps/chosen"] != metrics(tmp_path / "run")[0]["ref_logps/chosen"]


# ---- mixlen.jsonl: rotary positions that depend on the length


@pytest.fixture(scope="module", params=["phi3", "hunyuan_v1_dense"])
def by_length(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger weights than a fresh model's, so that a wrong rotation shows; short rows have less than 64 tokens."""
    texts = Path(case("mixlen.jsonl")).read_text(encoding="utf-8").splitlines()
    tokenizer = tiny_tokenizer(texts=texts, size=400)
    folder = save_tiny(tmp_path_factory.mktemp("length") / request.param, request.param, tokenizer=tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
    model.save_pretrained(folder)
    return folder


def encoded(model: Path, tmp_path: Path, name: str = "mixlen.jsonl") -> list[Any]:
    given = config(model, tmp_path / "unused", dataset=case(name))
    template = load_template(load_tokenizer(str(model)), None)
    return build_data(given, build_method(given), template).train


def test_each_score_is_what_the_row_has_alone(by_length: Path, tmp_path: Path) -> None:
    groups = encoded(by_length, tmp_path)
    lengths = [group.longest_row for group in groups]
    assert min(lengths) <= 64 < max(lengths)
    model = load_model(str(by_length), device=CPU).eval()
    assert not probe(model).packed
    for order in (groups, groups[::-1], groups[:2], groups[2:3]):
        with torch.no_grad():
            sums = per_completion(model(**pad(order).model_inputs()), pad(order)).sums.tolist()
        # A model of its own for each row: dynamic NTK remembers the longest one that it has met.
        alone = [stock_score(load_model(str(by_length), device=CPU), one, i) for one in order for i in (0, 1)]
        assert sums == pytest.approx(alone, rel=1e-6, abs=1e-5 * max(lengths))


@pytest.mark.parametrize("batch", [1, 3, 6])
def test_a_run_has_margin_0_in_batches_of_any_size(by_length: Path, tmp_path: Path, batch: int) -> None:
    given = {**STILL, "per_device_train_batch_size": batch, "dataset": case("mixlen.jsonl")}
    run(by_length, tmp_path / "run", **given, reference_cache="auto", sample_prompts=2, sample_max_new_tokens=4)
    assert max(abs(row["rewards/margins"]) for row in metrics(tmp_path / "run")) < 1e-4
    assert "rotary positions" in notices(tmp_path / "run")


def test_rows_within_the_limit_are_packed(by_length: Path, tmp_path: Path) -> None:
    run(by_length, tmp_path / "run", **STILL, cutoff_len=64, rows=4)
    assert read_json(tmp_path / "run" / "run.json")["attention"] == "tree"
    with pytest.raises(ConfigError, match=r"attention: tree does not work with .* beyond 64 tokens"):
        run(by_length, tmp_path / "long", **STILL, attention="tree", dataset=case("mixlen.jsonl"))


def test_evaluation_scores_rows_alone(by_length: Path, tmp_path: Path) -> None:
    groups = encoded(by_length, tmp_path)
    subject = Subject(model_spec(str(by_length)), FP32, CPU)
    together = subject.score(groups)
    for group, (sums, _) in zip(groups, together, strict=True):
        assert sums == pytest.approx(subject.score([group])[0][0], abs=1e-4)


def test_a_reference_that_cannot_read_packed_rows_is_refused(by_length: Path, tmp_path: Path) -> None:
    """Packed rows of a policy of another architecture would have been scored wrongly."""
    tokenizer = load_tokenizer(str(by_length))
    policy = save_tiny(tmp_path / "policy", tokenizer=tokenizer)
    given = {**STILL, "ref_model": str(by_length), "dataset": case("mixlen.jsonl"), "max_steps": 1}
    with pytest.raises(ModelError, match=r"ref_model: .* rotary positions .*; set attention: padded"):
        run(policy, tmp_path / "auto", **given)
    run(policy, tmp_path / "padded", **given, attention="padded")
    assert metrics(tmp_path / "padded")[0]["ref_logps/chosen"] < 0


def test_a_sharded_model_is_refused_where_ranks_would_wait_for_each_other(
    by_length: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")  # as torchrun does
    with pytest.raises(ConfigError, match="a sharded model cannot score rows in separate passes"):
        run(by_length, tmp_path / "run", dataset=case("mixlen.jsonl"), fsdp="full_shard")


# ---- act.jsonl: a tokenizer larger than the embedding


def with_new_token(model: Path) -> Path:
    """Its tokenizer has a token more than its embedding has rows."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<act>"])
    tokenizer.save_pretrained(model)
    return model


def test_a_token_without_an_embedding_is_named_before_the_start(tmp_path: Path) -> None:
    model = with_new_token(save_tiny(tmp_path / "model"))
    with pytest.raises(
        DataError, match=r"act\.jsonl:4: token '<act>' has id 298, but the model's embedding has 298 rows"
    ):
        run(model, tmp_path / "run", dataset=case("act.jsonl"))


@pytest.mark.parametrize("stage", ["sft", "rm", "dpo"])
def test_a_held_out_row_is_checked_alike(tmp_path: Path, stage: str) -> None:
    model = with_new_token(save_tiny(tmp_path / "model"))
    with pytest.raises(DataError, match="token '<act>' has id 298"):
        run(model, tmp_path / "run", stage=stage, eval_dataset=case("act.jsonl"))


def test_a_token_that_no_row_uses_does_no_harm(tmp_path: Path) -> None:
    model = with_new_token(save_tiny(tmp_path / "model"))
    run(model, tmp_path / "run", max_steps=1)
    assert "the tokenizer has 299 tokens, the model's embedding 298 rows; no row uses the others" in notices(
        tmp_path / "run"
    )


def test_evaluation_and_generation_name_it_too(tmp_path: Path) -> None:
    model = with_new_token(save_tiny(tmp_path / "model"))
    subject = Subject(model_spec(str(model)), FP32, CPU)
    groups = encoded(model, tmp_path, "act.jsonl")
    with pytest.raises(DataError, match=r"row act\.jsonl:4: the token id 298 has no embedding, the model has 298 rows"):
        subject.score(groups)
    with pytest.raises(DataError, match="prompt 2 of 2: the token id 298 has no embedding"):
        subject.answers([(Message("user", "why"),), (Message("user", "<act>"),)], Decoding(4))


def test_an_embedding_that_is_padded_is_fine(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", vocab_size=384)
    run(with_new_token(model), tmp_path / "run", dataset=case("act.jsonl"), max_steps=1)
    assert "embedding" not in notices(tmp_path / "run")


# ---- learned positions


@pytest.mark.parametrize(("kind", "key"), [("gpt2", "n_positions"), ("opt", "max_position_embeddings")])
def test_a_row_beyond_the_table_of_positions_is_named_before_the_start(tmp_path: Path, kind: str, key: str) -> None:
    model = save_tiny(tmp_path / "model", kind, **{key: 64})
    with pytest.raises(ConfigError, match=r"cutoff_len: 2048 is too long for .*ends at 64: row .* set cutoff_len: 64"):
        run(model, tmp_path / "long", dataset=case("mixlen.jsonl"))
    run(model, tmp_path / "cut", dataset=case("mixlen.jsonl"), cutoff_len=64, max_steps=1)


def test_evaluation_and_generation_name_a_row_beyond_the_table(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "gpt2", n_positions=64)
    subject = Subject(model_spec(str(model)), FP32, CPU)
    with pytest.raises(DataError, match=r"row mixlen\.jsonl:1: \d+ tokens are too many, .* ends at 64"):
        subject.score(encoded(model, tmp_path))
    with pytest.raises(DataError, match=r"prompt 1 of 1: \d+ tokens and 60 new ones are too many"):
        subject.answers([(Message("user", "why"),)], Decoding(60))


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("sample_max_new_tokens", {"sample_prompts": 1, "sample_max_new_tokens": 60}),
        ("health_max_new_tokens", {"health_max_new_tokens": 70, "val_size": 2, "cutoff_len": 64}),
    ],
)
def test_what_is_generated_must_fit_too(tmp_path: Path, key: str, changed: dict[str, Any]) -> None:
    model = save_tiny(tmp_path / "model", "gpt2", n_positions=64)
    with pytest.raises(ConfigError, match=f"{key}: .* table of positions ends at 64; set {key}: "):
        run(model, tmp_path / "run", **changed)


def test_health_leaves_room_for_its_answers(tmp_path: Path) -> None:
    """A prompt of cutoff_len tokens and an answer would be beyond the table."""
    model = save_tiny(tmp_path / "model", "gpt2", n_positions=64)
    given = {"cutoff_len": 64, "eval_dataset": case("mixlen.jsonl"), "health_max_new_tokens": 16}
    run(model, tmp_path / "run", **given, max_steps=1)
    assert (tmp_path / "run" / "health.json").is_file()  # answers were sampled


def test_rotary_positions_beyond_those_of_the_config_are_a_warning(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", max_position_embeddings=64)
    run(model, tmp_path / "run", dataset=case("mixlen.jsonl"), max_steps=1)
    assert "the model was trained for 64 (max_position_embeddings)" in notices(tmp_path / "run")


# ---- lora_target: q_proj,attn_out,ff_proj


@pytest.mark.parametrize("stage", ["dpo", "sft", "rm"])
def test_names_that_no_module_has_are_refused_by_name(tmp_path: Path, stage: str) -> None:
    given = {"stage": stage, "finetuning_type": "lora", "lora_target": "q_proj,attn_out,ff_proj"}
    with pytest.raises(ConfigError, match=r"lora_target: the model has no module named attn_out, ff_proj; .* q_proj"):
        run(save_tiny(tmp_path / "model"), tmp_path / "run", **given)


# ---- a tiny Mixtral


def test_the_balancing_term_is_on_where_the_model_says_so_and_lora_leaves_the_router_alone(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", "mixtral", output_router_logits=True, router_aux_loss_coef=0.02)
    run(model, tmp_path / "run", finetuning_type="lora", max_steps=1)
    assert metrics(tmp_path / "run")[0]["aux_loss"] == pytest.approx(2.0, abs=0.2)
    said = notices(tmp_path / "run")
    assert "the loss has 0.02 × the load-balancing term" in said
    assert "the routers (gate) and the experts are left as they are" in said
    targets = json.loads((tmp_path / "run" / "adapter_config.json").read_text())["target_modules"]
    assert sorted(targets) == ["k_proj", "o_proj", "q_proj", "v_proj"]


# ---- kto_one.jsonl: one class


def test_one_class_is_a_warning(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    run(model, tmp_path / "run", stage="kto", dataset=case("kto_one.jsonl"), max_steps=1)
    assert "warning: all 12 answers are wanted: pref_loss kto learns from the difference to unwanted ones" in notices(
        tmp_path / "run"
    )


@pytest.mark.parametrize(
    ("wanted", "unwanted", "weights", "said"),
    [
        (0, 6, {}, "all 6 answers are unwanted"),
        (6, 2, {}, "set kto_rejected_weight between 2.25 and 3.00"),
        (2, 6, {}, "set kto_chosen_weight between 3.00 and 4.00"),
        (6, 2, {"kto_rejected_weight": 2.5}, ""),
        (4, 3, {}, ""),
        (4, 4, {}, ""),
    ],
)
def test_classes_of_unequal_weight_are_a_warning_with_the_papers_rule(
    tmp_path: Path, wanted: int, unwanted: int, weights: dict[str, float], said: str
) -> None:
    labels = [True] * wanted + [False] * unwanted
    rows = [{"prompt": f"why {i}", "completion": f"because {i}", "label": label} for i, label in enumerate(labels)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    run(save_tiny(tmp_path / "model"), tmp_path / "run", stage="kto", dataset=str(data), max_steps=1, **weights)
    warned = [line for line in notices(tmp_path / "run").splitlines() if "wanted" in line]
    assert len(warned) == bool(said)
    assert said in "".join(warned)
