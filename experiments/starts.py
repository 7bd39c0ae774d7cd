"""Where DPO starts and what it learns from: no, a short and a longer SFT first; one recipe on several preference sets.

The same pairs are given to DPO after no, a short and a longer SFT on their chosen answers; and one recipe is trained on
each preference set and measured on all. Texts of the sets stay in the folder of the runs; the record has numbers, and
answers to the six prompts of the built-in set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _cells import Cell, Record, place
from _config import ExperimentConfig
from _measured import accuracies, answers, changed, drift, forget_weights, opened, pair_scores, policy_of
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
from _starts_page import STARTS, figures, tables
from _trained import train_run
from pydantic import Field

from palate.artifacts import read_json, write_json
from palate.data import split_records
from palate.errors import DataError
from palate.evaluation.subject import Subject, model_spec

__all__ = ["Config", "cells", "figures", "tables"]

SETS: Mapping[str, str] = {
    "hh-harmless": "preference/hh_harmless_base_test.jsonl.gz",
    "ultrafeedback": "preference/ultrafeedback_1k_train.jsonl",
    "lf-dpo-en": "preference/lf_dpo_en_demo.json",
}


class Config(ExperimentConfig):
    """Size and settings.

    Attributes:
        model: name or folder.
        data: folder with the files of `sets`, which the repository does not hold.
        sets: name → file below `data`, beside the built-in set; their licences must allow training.
        pairs: of the built-in set, to train on, with SFT and with DPO.
        held_out: of its held-out set.
        set_pairs: of each other set, to train on.
        set_held_out: of each other set, by prompt, to measure on.
        short_epochs: of SFT.
        longer_epochs: of SFT.
        sft_lr: learning rate of SFT.
        epochs: of DPO on the built-in pairs.
        set_epochs: of DPO on each other set.
        learning_rate: of DPO.
        beta: of DPO.
        batch: pairs to a step.
        layers: last decoder layers that train, in both stages.
        kl_prompts: held-out prompts of the built-in set that the KL is taken on.
        cutoff_len: longest prompt + answer in tokens; longer pairs are not drawn.
        max_new_tokens: longest answer.
    """

    model: str = "smollm2-135m-instruct"
    data: str = "../shared/data"
    sets: dict[str, str] = Field(default_factory=lambda: dict(SETS))
    pairs: int = Field(40, ge=2)
    held_out: int = Field(48, ge=2)
    set_pairs: int = Field(32, ge=2)
    set_held_out: int = Field(16, ge=2)
    short_epochs: float = Field(1, gt=0)
    longer_epochs: float = Field(4, gt=0)
    sft_lr: float = Field(1e-4, gt=0)
    epochs: float = Field(2, gt=0)
    set_epochs: float = Field(1, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    beta: float = Field(0.1, gt=0)
    batch: int = Field(8, ge=1)
    layers: int = Field(5, ge=1)
    kl_prompts: int = Field(8, ge=2)
    cutoff_len: int = Field(384, ge=16)
    max_new_tokens: int = Field(48, ge=1)


def recipe(config: Config, stage: str, **changes: Any) -> dict[str, Any]:
    """A run's config, but for model and data."""
    own: dict[str, Any] = {"learning_rate": config.sft_lr}
    if stage == "dpo":
        own = {
            "learning_rate": config.learning_rate,
            "pref_beta": config.beta,
            "sample_prompts": 0,
            "health": "off",
        }
    return {
        "stage": stage,
        "finetuning_type": "freeze",
        "freeze_trainable_layers": config.layers,
        "per_device_train_batch_size": config.batch,
        "lr_scheduler_type": "constant",
        "cutoff_len": config.cutoff_len,
        "seed": config.seed,
        **own,
        **changes,
        **config.cut,
    }


def cells(config: Config, folder: Path) -> list[Cell]:
    """The pairs, the start of everything, SFT, DPO from each start, DPO on each set."""
    files = {name: shared_file(config.data, path) for name, path in config.sets.items()}
    names = ("model", "pairs", "held_out", "set_pairs", "set_held_out", "cutoff_len", "seed")
    chosen = {name: getattr(config, name) for name in names}
    contents = {name: digest(path) for name, path in files.items()}
    measured = {name: getattr(config, name) for name in ("model", "cutoff_len", "max_new_tokens", "kl_prompts", "seed")}
    found = [
        Cell("pairs", lambda at: _pairs(config, files, at), {**chosen, "files": contents, "demo": demo_digest()}),
        Cell("start none", lambda at: _start(config, folder, at, None), measured, ("pairs",)),
    ]
    for name, epochs in (("short", config.short_epochs), ("longer", config.longer_epochs)):
        found.append(_start_cell(config, folder, name, recipe(config, "sft", num_train_epochs=epochs), measured))
    on_demo = recipe(config, "dpo", num_train_epochs=config.epochs)
    for start in STARTS:
        found.append(_dpo_cell(config, folder, f"dpo from {start}", (DEMO, start), on_demo, measured))
    for name in config.sets:
        run = recipe(config, "dpo", num_train_epochs=config.set_epochs)
        found.append(_dpo_cell(config, folder, f"dpo on {name}", (name, "none"), run, measured))
    return found


def _start_cell(config: Config, folder: Path, name: str, run: Mapping[str, Any], measured: Mapping[str, Any]) -> Cell:
    return Cell(
        f"start {name}",
        lambda at: _start(config, folder, at, run),
        {**measured, "run": dict(run)},
        ("pairs", "start none"),
    )


def _dpo_cell(
    config: Config,
    folder: Path,
    name: str,
    what: tuple[str, str],
    run: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> Cell:
    data, start = what
    return Cell(
        name,
        lambda at: _dpo(config, folder, at, data, start, run),
        {**measured, "run": dict(run), "data": data, "start": start},
        tuple(dict.fromkeys(("pairs", "start none", f"start {start}"))),
    )


def _pairs(config: Config, files: Mapping[str, Path], at: Path) -> Record:
    template = template_of(config.model)
    parts = {(DEMO, "train"): (read_pairs(DEMO), config.pairs)}
    parts[DEMO, "held-out"] = (read_pairs(DEMO_HELD_OUT), config.held_out)
    for name, path in files.items():
        pairs = read_pairs(path)
        train, held_out = split_records(pairs, 0.25, seed=config.seed)
        parts[name, "train"] = (train, config.set_pairs)
        parts[name, "held-out"] = (held_out, config.set_held_out)
    counts: Record = {}
    for (name, part), (pairs, count) in parts.items():
        kept, fitting = drawn(pairs, template, cutoff_len=config.cutoff_len, count=count, seed=config.seed)
        if not kept:
            raise DataError(f"{name}: none of {len(pairs)} pairs fits into cutoff_len {config.cutoff_len}; raise it")
        write_pairs(at / f"{name}-{part}.jsonl", kept)
        counts.setdefault(name, {})[part] = {"pairs": len(kept), "fit": fitting, "of": len(pairs)}
    return counts


def _held_out(config: Config, folder: Path, subject: Subject, sets: Any) -> Record:
    data = place(folder, "pairs")
    return {name: pair_scores(subject, data / f"{name}-held-out.jsonl", config.cutoff_len) for name in sets}


def _start(config: Config, folder: Path, at: Path, run: Mapping[str, Any] | None) -> Record:
    """A model that DPO starts from: as it comes, or after SFT on the chosen answers."""
    trained, spec = None, model_spec(config.model)
    if run is not None:
        dataset = str(place(folder, "pairs") / f"{DEMO}-train.jsonl")
        trained = train_run({"model_name_or_path": config.model, "dataset": dataset, **run}, at / "run")
        spec = policy_of(at / "run")
    subject = opened(spec)
    sets = [DEMO, *config.sets] if run is None else [DEMO]
    found = {"held_out": _held_out(config, folder, subject, sets), **_said(config, subject)}
    write_json(at / "measures.json", found)
    base = found if run is None else read_json(place(folder, "start none") / "measures.json")
    reference = subject if run is None else opened(model_spec(config.model))
    return {
        "sft": trained,
        "prompts": [prompt[-1].content for prompt in six_prompts()],
        "answers": found["answers"],
        "accuracy": accuracies(base["held_out"][DEMO], found["held_out"][DEMO]),
        "sampled": _drift(config, folder, subject, reference),
    }


def _said(config: Config, subject: Subject) -> Record:
    return {"answers": answers(subject, six_prompts(), config.max_new_tokens)}


def _drift(config: Config, folder: Path, policy: Subject, reference: Subject) -> Record:
    pairs = read_pairs(place(folder, "pairs") / f"{DEMO}-held-out.jsonl")
    prompts = distinct_prompts(pairs, config.kl_prompts)
    return drift(policy, reference, prompts, max_new_tokens=config.max_new_tokens, seed=config.seed)


def _dpo(config: Config, folder: Path, at: Path, data: str, start: str, run: Mapping[str, Any]) -> Record:
    """One run; against the model that it started from, and against the one that everything started from."""
    began = place(folder, f"start {start}")
    model = config.model if start == "none" else str(began / "run")
    dataset = str(place(folder, "pairs") / f"{data}-train.jsonl")
    trained = train_run({"model_name_or_path": model, "dataset": dataset, **run}, at / "run")
    policy = opened(policy_of(at / "run"))
    sets = [DEMO, *config.sets] if start == "none" else [DEMO]
    scores = _held_out(config, folder, policy, sets)
    said = answers(policy, six_prompts(), config.max_new_tokens)
    before = read_json(began / "measures.json")
    record = {
        "trained": trained,
        "on": {name: accuracies(before["held_out"][name], scores[name]) for name in sets},
        "answers": said,
        "changed": changed(before["answers"], said),
        "sampled": _drift(config, folder, policy, opened(model_spec(model))),
    }
    if start != "none":
        record["from_first"] = _drift(config, folder, policy, opened(model_spec(config.model)))
    forget_weights(at / "run")
    return record
