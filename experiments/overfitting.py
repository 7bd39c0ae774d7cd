"""What overfits: all weights, LoRA or the last layers on the same pairs, and what helps; knowledge kept, tone changed.

The model is a real small one; the pairs are the built-in set's, whose held-out pairs and six prompts are of topics that
training never sees. Every run is measured against the model that it started from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _cells import Cell, Record, place
from _config import ExperimentConfig
from _knowledge import knowledge, knowledge_kept, multiple_choice, neutral_losses, read_questions
from _measured import accuracies, answers, changed, drift, forget_weights, opened, pair_scores, policy_of
from _overfitting_page import figures, tables
from _real_pairs import (
    DEMO,
    DEMO_HELD_OUT,
    demo_digest,
    digest,
    distinct_prompts,
    drawn,
    read_pairs,
    shared_file,
    six_prompts,
    template_of,
    write_pairs,
)
from _trained import train_run
from pydantic import Field

from palate.artifacts import read_json, write_json
from palate.config.load import load_config
from palate.errors import DataError
from palate.evaluation.subject import ModelSpec, Subject

__all__ = ["Config", "cells", "figures", "tables"]

HERE = Path(__file__).resolve().parent
NEUTRAL, QUESTIONS = HERE / "neutral.txt", "benchmark/truthfulqa_mc_task.json"
TRUTHY = "truthy-dpo recipe"
TRUTHY_KEYS = (
    "pref_beta", "per_device_train_batch_size", "cutoff_len", "learning_rate", "num_train_epochs", "seed", "template",
    "finetuning_type",
)  # fmt: skip


class Config(ExperimentConfig):
    """The comparison's size and settings.

    Attributes:
        model: name or folder.
        data: folder with TruthfulQA's multiple choice (`benchmark/`), which the repository does not hold.
        truthy: the recipe of a known first trial, of which model and data are replaced.
        pairs: of the built-in set, to train on.
        held_out: of its held-out set, to measure on.
        questions: of TruthfulQA.
        kl_prompts: held-out prompts that the KL is taken on.
        epochs: passes over the pairs.
        batch: pairs to a step.
        beta: of DPO.
        full_lr: learning rate of full fine-tuning.
        lora_lr: of LoRA.
        last_lr: of the last layers.
        last_layers: how many those are.
        cutoff_len: longest prompt + answer in tokens.
        max_new_tokens: longest answer.
    """

    model: str = "smollm2-135m-instruct"
    data: str = "../shared/data"
    truthy: str = "../shared/configs/truthy_dpo_phi2.yaml"
    pairs: int = Field(24, ge=2)
    held_out: int = Field(60, ge=2)
    questions: int = Field(60, ge=2)
    kl_prompts: int = Field(12, ge=2)
    epochs: float = Field(3, gt=0)
    batch: int = Field(4, ge=1)
    beta: float = Field(0.1, gt=0)
    full_lr: float = Field(2e-5, gt=0)
    lora_lr: float = Field(2e-4, gt=0)
    last_lr: float = Field(1e-4, gt=0)
    last_layers: int = Field(5, ge=1)
    cutoff_len: int = Field(512, ge=16)
    max_new_tokens: int = Field(48, ge=1)


def variants(config: Config) -> dict[str, dict[str, Any]]:
    """Name → the keys in which a run differs from full fine-tuning."""
    return {
        "full": {},
        "full, dropout 0.1": {"dropout": 0.1},
        "full, a fifth of the learning rate": {"learning_rate": config.full_lr / 5},
        "full, batch × 4": {"per_device_train_batch_size": 4 * config.batch},
        "full, β × 5": {"pref_beta": 5 * config.beta},
        "LoRA, rank 8": {"finetuning_type": "lora", "learning_rate": config.lora_lr},
        f"last {config.last_layers} layers": {
            "finetuning_type": "freeze",
            "freeze_trainable_layers": config.last_layers,
            "learning_rate": config.last_lr,
        },
    }


def recipe(config: Config) -> dict[str, Any]:
    """Full fine-tuning as every run but one has it."""
    return {
        "stage": "dpo",
        "finetuning_type": "full",
        "learning_rate": config.full_lr,
        "pref_beta": config.beta,
        "per_device_train_batch_size": config.batch,
        "num_train_epochs": config.epochs,
        "cutoff_len": config.cutoff_len,
        "lr_scheduler_type": "constant",
        "seed": config.seed,
        "sample_prompts": 0,
        "health": "off",
        **config.cut,
    }


def truthy_recipe(config: Config) -> dict[str, Any]:
    """The known trial's own values, model and data left out.

    Raises:
        DataError: the file is not there.
    """
    path = Path(config.truthy)
    if not path.is_file():
        raise DataError(f"{path.name} is missing: it is looked for at {path}; or say where: --set truthy=FILE")
    given = load_config(path).config.resolved()
    return {
        "stage": "dpo",
        "sample_prompts": 0,
        "health": "off",
        **{key: given[key] for key in TRUTHY_KEYS},
        **config.cut,
    }


def cells(config: Config, folder: Path) -> list[Cell]:
    """The pairs, the reference as each template sees it, and every run."""
    known = shared_file(config.data, QUESTIONS)
    truthy = truthy_recipe(config)
    measured = {
        "model": config.model,
        "seed": config.seed,
        "cutoff_len": config.cutoff_len,
        "max_new_tokens": config.max_new_tokens,
        "kl_prompts": config.kl_prompts,
        "questions": config.questions,
        "files": digest(known, NEUTRAL),
    }
    pairs = {name: getattr(config, name) for name in ("model", "pairs", "held_out", "cutoff_len", "seed")}
    found = [Cell("pairs", lambda at: _pairs(config, at), {**pairs, "demo": demo_digest()})]
    runs = {name: {**recipe(config), **changes} for name, changes in variants(config).items()} | {TRUTHY: truthy}
    for template in dict.fromkeys(run.get("template") for run in runs.values()):
        found.append(
            Cell(
                _reference(template),
                lambda at, template=template: _measure_reference(config, folder, at, template),  # type: ignore[misc]
                {**measured, "template": template},
                ("pairs",),
            )
        )
    for name, run in runs.items():
        found.append(
            Cell(
                name,
                lambda at, run=run: _run(config, folder, at, run),  # type: ignore[misc]
                {**measured, "run": run},
                ("pairs", _reference(run.get("template"))),
            )
        )
    return found


def _reference(template: str | None) -> str:
    return "reference" if template is None else f"reference, template {template}"


def _pairs(config: Config, at: Path) -> Record:
    template = template_of(config.model)
    counts = {}
    for name, dataset, count in (("train", DEMO, config.pairs), ("held_out", DEMO_HELD_OUT, config.held_out)):
        pairs, fitting = drawn(
            read_pairs(dataset), template, cutoff_len=config.cutoff_len, count=count, seed=config.seed
        )
        write_pairs(at / f"{name}.jsonl", pairs)
        counts[name] = {"pairs": len(pairs), "of": fitting}
    return counts


def _measures(config: Config, folder: Path, subject: Subject) -> Record:
    """What is asked of every model; large lists, kept beside the cell."""
    questions, _ = read_questions(Path(config.data) / QUESTIONS, config.questions, config.seed)
    data = place(folder, "pairs")
    return {
        "train": pair_scores(subject, data / "train.jsonl", config.cutoff_len),
        "held_out": pair_scores(subject, data / "held_out.jsonl", config.cutoff_len),
        "choice": multiple_choice(subject, questions),
        "neutral": neutral_losses(subject, NEUTRAL.read_text(encoding="utf-8")),
        "answers": answers(subject, six_prompts(), config.max_new_tokens),
    }


def _measure_reference(config: Config, folder: Path, at: Path, template: str | None) -> Record:
    subject = opened(ModelSpec("reference", config.model, template=template))
    found = _measures(config, folder, subject)
    write_json(at / "measures.json", found)
    return {
        **knowledge(found["choice"], found["neutral"]),
        "answers": found["answers"],
        "prompts": [prompt[-1].content for prompt in six_prompts()],
        "sampled": _drift(config, folder, subject, subject),
    }


def _drift(config: Config, folder: Path, policy: Subject, reference: Subject) -> Record:
    prompts = distinct_prompts(read_pairs(place(folder, "pairs") / "held_out.jsonl"), config.kl_prompts)
    return drift(policy, reference, prompts, max_new_tokens=config.max_new_tokens, seed=config.seed)


def _run(config: Config, folder: Path, at: Path, run: Mapping[str, Any]) -> Record:
    dataset = str(place(folder, "pairs") / "train.jsonl")
    trained = train_run({"model_name_or_path": config.model, "dataset": dataset, **run}, at / "run")
    before = read_json(place(folder, _reference(run.get("template"))) / "measures.json")
    policy = opened(policy_of(at / "run"))
    after = _measures(config, folder, policy)
    reference = opened(ModelSpec("reference", config.model, template=run.get("template")))
    record = {
        "trained": trained,
        "accuracy": {name: accuracies(before[name], after[name]) for name in ("train", "held_out")},
        "answers": after["answers"],
        "changed": changed(before["answers"], after["answers"]),
        "sampled": _drift(config, folder, policy, reference),
        "knowledge": knowledge(after["choice"], after["neutral"]),
        "kept": knowledge_kept(before, after),
    }
    forget_weights(at / "run")
    return record
