"""Keys of other trainers: read under palate's name, without effect, or refused; nothing is dropped silently."""

from __future__ import annotations

from typing import Any

import pytest

from palate.config.mapping.table import (
    FIXED,
    KNOWN_ELSEWHERE,
    LOW_RANK,
    NO_EFFECT,
    NO_EFFECT_PREFIXES,
    ONLY,
    OTHER_COMMANDS,
    RENAMED,
    RENAMED_ONLINE,
)
from palate.config.mapping.translate import Translated, translate
from palate.config.reader import ConfigEntry
from palate.config.run import STAGES

KNOWN = {name for config_class in STAGES.values() for name in config_class.model_fields}


def entries(**values: object) -> dict[str, ConfigEntry]:
    return {key: ConfigEntry(value, f"run.yaml:{line}") for line, (key, value) in enumerate(values.items(), 1)}


def translated(**values: object) -> Translated:
    return translate(entries(**values))


def values_of(found: Translated) -> dict[str, Any]:
    return {key: entry.value for key, entry in found.entries.items()}


@pytest.mark.parametrize("key", sorted(RENAMED))
def test_a_renamed_key_keeps_its_value(key: str) -> None:
    found = translated(**{key: "value"})
    assert found.entries == {RENAMED[key]: ConfigEntry("value", "run.yaml:1")}
    assert found.lines() == [f"{key} is read as {RENAMED[key]}"]


@pytest.mark.parametrize(("stage", "key"), [("dpo", "pref_beta"), ("kto", "pref_beta"), ("grpo", "kl_coef")])
def test_what_trl_calls_beta(stage: str, key: str) -> None:
    assert values_of(translated(stage=stage, beta=0.2)) == {"stage": stage, key: 0.2}
    assert values_of(translate(entries(beta=0.2), stage=stage)) == {key: 0.2}


def test_all_keys_without_effect_are_one_line() -> None:
    found = translated(overwrite_cache=True, seed=1, flash_attn="fa2", packing=False, ray_num_workers=4)
    assert values_of(found) == {"seed": 1}
    assert found.refused == {}
    (line,) = found.lines()
    assert line == (
        "no effect here: overwrite_cache: true (no tokenised dataset is cached); "
        "flash_attn: fa2 (attention chooses the attention kernel); "
        "packing: false (batches are always packed, and rows do not attend to each other); "
        "ray_num_workers: 4 (torchrun or accelerate starts the processes)"
    )


@pytest.mark.parametrize("key", sorted(NO_EFFECT))
def test_an_idle_key_is_said_and_nothing_else(key: str) -> None:
    found = translated(**{key: True, "seed": 1})
    assert list(found.entries) == ["seed"]
    assert list(found.idle) == [key]
    assert NO_EFFECT[key] in found.lines()[0]


@pytest.mark.parametrize("key", sorted(FIXED))
def test_a_fixed_key_speaks_only_when_it_disagrees(key: str) -> None:
    agrees = FIXED[key][0]
    for value in (agrees, "yes" if agrees else "no"):
        found = translated(**{key: value})
        assert (found.entries, found.lines(), found.agreed) == ({}, [], {key})
    found = translated(**{key: not agrees})
    assert found.entries == {}
    assert found.lines() == [f"no effect here: {key}: {'false' if agrees else 'true'} ({FIXED[key][1]})"]


@pytest.mark.parametrize("key", sorted(ONLY))
def test_a_key_with_one_possible_value_takes_it_and_null_and_refuses_any_other(key: str) -> None:
    for value in (None, *(one for one in ONLY[key].values if not (one is True and key in LOW_RANK))):
        found = translated(**{key: value})
        assert (found.entries, found.refused, list(found.idle)) == ({}, {}, [key])
    found = translated(**{key: "something else"})
    assert list(found.refused) == [key]
    assert found.refused[key] == f"run.yaml:1: {key}: something else is not available; {ONLY[key].otherwise}"


def test_zero_is_no_false_and_words_are_switches() -> None:
    assert "use_galore" in translated(use_galore=0).refused
    assert "use_galore" in translated(use_galore="no").idle
    assert "eval_delay" in translated(eval_delay=0.0).refused or "eval_delay" in translated(eval_delay=0).idle


def test_what_belongs_to_a_switch_has_no_effect_without_it() -> None:
    found = translated(use_swanlab=False, swanlab_project="p", galore_rank=8)
    assert found.refused == {}
    assert found.idle["swanlab_project"] == "swanlab_project: p (it belongs to use_swanlab)"
    assert found.idle["galore_rank"] == "galore_rank: 8 (it belongs to use_galore, which is not set)"


def test_all_that_is_refused_is_refused_together() -> None:
    found = translated(use_badam=True, bf16="maybe", tool_format="qwen", label_smoothing=0.1, dpo_label_smoothing=0)
    assert set(found.refused) == {"use_badam", "bf16", "tool_format", "label_smoothing"}


def test_no_key_is_both_ours_and_a_peers() -> None:
    theirs = {*RENAMED, *NO_EFFECT, *FIXED, *ONLY, *KNOWN_ELSEWHERE, "bf16", "fp16"}
    assert not KNOWN & theirs
    assert not [key for key in KNOWN if key.startswith(tuple(NO_EFFECT_PREFIXES))]
    tables = [RENAMED, NO_EFFECT, FIXED, ONLY, KNOWN_ELSEWHERE]
    assert len({key for table in tables for key in table}) == sum(map(len, tables))
    assert set(OTHER_COMMANDS) - {"export_dir", "task"} <= set(NO_EFFECT)


def test_what_is_mapped_or_offered_exists() -> None:
    assert {*RENAMED.values(), *RENAMED_ONLINE.values(), *KNOWN_ELSEWHERE.values()} <= KNOWN


@pytest.mark.parametrize(
    ("switches", "precision"),
    [
        ({"fp16": True}, "fp16"),
        ({"bf16": True}, "bf16"),
        ({"bf16": "yes"}, "bf16"),
        ({"pure_bf16": True}, "bf16"),
        ({"bf16": True, "pure_bf16": True}, "bf16"),
        ({"bf16": True, "fp16": False}, "bf16"),
        ({"bf16": False, "fp16": True}, "fp16"),
        ({"bf16": False}, "fp32"),
        ({"bf16": False, "fp16": False}, "fp32"),
        ({"fp16": False}, None),
        ({"pure_bf16": False}, None),
        ({"bf16": None, "fp16": None}, None),
    ],
)
def test_switches_are_one_choice(switches: dict[str, object], precision: str | None) -> None:
    found = translated(**switches)
    assert values_of(found) == ({} if precision is None else {"precision": precision})
    assert len(found.lines()) == (precision is not None) + ("pure_bf16" in switches and bool(switches["pure_bf16"]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bf16": True, "fp16": True}, "cannot both be true"),
        ({"bf16": "yes please"}, "bf16 must be true or false, not yes please"),
        ({"fp16": True, "precision": "bf16"}, "disagree"),
        ({"evaluation_strategy": "steps", "eval_strategy": "no"}, "the same setting; keep eval_strategy"),
    ],
)
def test_what_contradicts_itself_is_refused(values: dict[str, object], words: str) -> None:
    (line,) = translated(**values).refused.values()
    assert words in line


def test_low_rank_optimisers_by_llamafactorys_switches() -> None:
    found = translated(
        use_galore=True, galore_rank=8, galore_target=["mlp"], galore_layerwise=False, optim="adamw_8bit"
    )
    assert values_of(found) == {
        "optim": "galore_adamw_8bit",
        "optim_args": "rank=8,update_proj_gap=200,proj_type=std,scale=2.0",
        "optim_target_modules": ["mlp"],
    }
    assert (found.idle, found.refused) == ({}, {})
    refused = translated(use_galore=True, galore_layerwise=True, apollo_rank=3)
    assert list(refused.refused) == ["galore_layerwise"]
    assert list(refused.idle) == ["apollo_rank"]
    assert list(translated(use_apollo=True, optim="adafactor").refused) == ["optim"]


def test_what_says_the_same_twice_is_not() -> None:
    found = translated(fp16=True, precision="fp16")
    assert found.entries["precision"].value == "fp16"
    assert found.refused == {}


@pytest.mark.parametrize(
    ("dataset", "strategy", "probs", "read"),
    [
        ("a", "interleave_under", "0.7,0.3", "a"),
        ("a, b", "concat", None, "a, b"),
        ("a,b", "interleave_under", "0.7,0.3", {"a": 0.7, "b": 0.3}),
        (["a", "b"], "interleave_under", [0.7, 0.3], {"a": 0.7, "b": 0.3}),
        ("a,b", "interleave_under", None, {"a": 1.0, "b": 1.0}),
        ("a,b", None, "0.7,0.3", "a,b"),
    ],
)
def test_a_mixture_by_llamafactorys_keys(dataset: Any, strategy: Any, probs: Any, read: Any) -> None:
    found = translated(dataset=dataset, mix_strategy=strategy, interleave_probs=probs)
    assert values_of(found) == {"dataset": read}
    assert found.refused == {}
    assert len(found.lines()) == 1


@pytest.mark.parametrize(
    ("strategy", "probs", "words"),
    [
        ("interleave_over", "0.7,0.3", "no row is used twice"),
        ("interleave_under", "0.7", "must be 2 numbers"),
        ("interleave_under", "0.7,much", "must be 2 numbers"),
        ("interleave_under", "1,0", "numbers above 0"),
    ],
)
def test_a_mixture_that_cannot_be_made_is_refused(strategy: str, probs: str, words: str) -> None:
    (line,) = translated(dataset="a,b", mix_strategy=strategy, interleave_probs=probs).refused.values()
    assert words in line


def test_kto_is_kto_by_whatever_name() -> None:
    found = translated(stage="kto", pref_loss="kto_pair")
    assert values_of(found) == {"stage": "kto", "pref_loss": "kto"}
    assert found.lines() == ["pref_loss: kto_pair is read as kto, the loss of stage: kto"]
    assert values_of(translated(stage="dpo", pref_loss="kto_pair"))["pref_loss"] == "kto_pair"


def test_every_argument_of_transformers_is_known() -> None:
    """A file that has all of TrainingArguments is read: each key is palate's, has no effect, or one value only."""
    pytest.importorskip("torch")  # what transformers knows of training
    from dataclasses import fields

    from transformers import TrainingArguments

    names = {field.name for field in fields(TrainingArguments) if field.init and not field.name.startswith("_")}
    known = {*KNOWN, *RENAMED, *NO_EFFECT, *FIXED, *ONLY, "bf16", "fp16"}
    companions = tuple(prefix for only in ONLY.values() for prefix in only.companions)
    unknown = sorted(name for name in names - known if not name.startswith((*NO_EFFECT_PREFIXES, *companions)))
    assert unknown == []
