"""The SmolLM recipe on strong pairs of HH: last five layers and head, β 0.8, means; the same with β 0.1 and with sums.

Pairs of HH are offensive: their texts stay in the folder of the runs, and the record has numbers alone. The answers
that it shows are to the six prompts of the built-in set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _cells import Cell, Record, place
from _config import ExperimentConfig
from _markdown import interval, markdown
from _measured import accuracies, answers, changed, drift, forget_weights, opened, pair_scores, policy_of
from _real_pairs import digest, drawn, read_pairs, shared_file, six_prompts, template_of, write_pairs
from _shown import ends, record_of, runs_of, side_by_side
from _trained import train_run
from pydantic import Field

from palate.artifacts import RunDir, read_json, write_json
from palate.charts import Row, interval_chart, svg_file
from palate.data import split_records
from palate.data.curate import curate, read_rules
from palate.errors import DataError
from palate.evaluation.subject import model_spec

HH = "preference/hh_harmless_base_test.jsonl.gz"
# Those of the worked example in docs/data.md.
RULES: Mapping[str, Any] = {
    "preset": "strong",
    "without": ["more_nouns_and_verbs", "weak_phrases"],
    "rules": [{"toxicity": {}}, {"personal_data": {}}, {"near_duplicates": {}}],
}


class Config(ExperimentConfig):
    """Size and settings.

    Attributes:
        model: name or folder.
        data: folder with `preference/`, which the repository does not hold.
        strong: pairs that curation keeps at most, those with the least word overlap.
        pairs: of the strong ones that are left to train on, how many are drawn; as many as the time allows.
        held_out: of the strong ones, to measure on.
        layers: last decoder layers that train, with the LM head.
        learning_rate: peak, falling linearly.
        weight_decay: decoupled.
        batch: pairs to a step.
        epochs: passes.
        beta: of the recipe.
        small_beta: of the run that is compared with it.
        cutoff_len: longest prompt + answer in tokens.
        max_new_tokens: longest answer to the six prompts.
    """

    model: str = "smollm2-135m-instruct"
    data: str = "../shared/data"
    strong: int = Field(1000, ge=1)
    pairs: int = Field(120, ge=2)
    held_out: int = Field(72, ge=2)
    layers: int = Field(5, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    batch: int = Field(8, ge=1)
    epochs: float = Field(1, gt=0)
    beta: float = Field(0.8, gt=0)
    small_beta: float = Field(0.1, gt=0)
    cutoff_len: int = Field(512, ge=16)
    max_new_tokens: int = Field(48, ge=1)


def runs(config: Config) -> dict[str, dict[str, Any]]:
    """Name → the config of each run, but for model and data."""
    recipe = {
        "stage": "dpo",
        "finetuning_type": "freeze",
        "freeze_trainable_layers": config.layers,
        "freeze_extra_modules": ["lm_head"],
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "optim": "adamw_torch",
        "per_device_train_batch_size": config.batch,
        "num_train_epochs": config.epochs,
        "cutoff_len": config.cutoff_len,
        "seed": config.seed,
        "sample_prompts": 0,
        "health": "off",
        **config.cut,
    }
    return {
        f"means, β {config.beta:g} (the recipe)": {**recipe, "pref_loss": "sigmoid_norm", "pref_beta": config.beta},
        f"means, β {config.small_beta:g}": {**recipe, "pref_loss": "sigmoid_norm", "pref_beta": config.small_beta},
        f"sums, β {config.beta:g}": {**recipe, "pref_loss": "sigmoid", "pref_beta": config.beta},
    }


def cells(config: Config, folder: Path) -> list[Cell]:
    """The pairs, the reference, and every run."""
    source = shared_file(config.data, HH)
    names = ("model", "strong", "pairs", "held_out", "cutoff_len", "seed")
    chosen = {name: getattr(config, name) for name in names}
    measured = {name: getattr(config, name) for name in ("model", "cutoff_len", "max_new_tokens", "seed")}
    made = {**chosen, "rules": dict(RULES), "file": digest(source)}
    found = [
        Cell("pairs", lambda at: _pairs(config, source, at), made),
        Cell("reference", lambda at: _measure_reference(config, folder, at), measured, ("pairs",)),
    ]
    for name, run in runs(config).items():
        found.append(
            Cell(
                name,
                lambda at, run=run: _run(config, folder, at, run),  # type: ignore[misc]
                {**measured, "run": run},
                ("pairs", "reference"),
            )
        )
    return found


def _pairs(config: Config, source: Path, at: Path) -> Record:
    """Curated, split by prompt, drawn: texts to the folder, counts to the record."""
    sample = {"sample": {"rows": config.strong, "by": "overlap", "seed": config.seed}}
    done = curate(str(source), at / "strong", read_rules({**RULES, "rules": [*RULES["rules"], sample]}))
    strong = read_pairs(at / "strong")
    template = template_of(config.model)
    train, held_out = split_records(strong, min(config.held_out, len(strong) // 2), seed=config.seed)
    counts: Record = {"funnel": [asdict(step) | {"left": step.after} for step in done.steps], "strong": len(strong)}
    for name, part, count in (("train", train, config.pairs), ("held_out", held_out, len(held_out))):
        kept, fitting = drawn(part, template, cutoff_len=config.cutoff_len, count=count, seed=config.seed)
        if not kept:
            raise DataError(f"none of the {len(part)} pairs fits into cutoff_len {config.cutoff_len}; raise it")
        write_pairs(at / f"{name}.jsonl", kept)
        counts[name] = {"pairs": len(kept), "of": fitting, "too_long": len(part) - fitting}
    return counts


def _measure_reference(config: Config, folder: Path, at: Path) -> Record:
    subject = opened(model_spec(config.model))
    found = {
        "held_out": pair_scores(subject, place(folder, "pairs") / "held_out.jsonl", config.cutoff_len),
        "answers": answers(subject, six_prompts(), config.max_new_tokens),
    }
    write_json(at / "measures.json", found)
    return {
        "answers": found["answers"],
        "prompts": [prompt[-1].content for prompt in six_prompts()],
        "sampled": _drift(config, subject, subject),
    }


def _drift(config: Config, policy: Any, reference: Any) -> Record:
    return drift(policy, reference, six_prompts(), max_new_tokens=config.max_new_tokens, seed=config.seed)


def _run(config: Config, folder: Path, at: Path, run: Mapping[str, Any]) -> Record:
    data = place(folder, "pairs")
    values = {"model_name_or_path": config.model, "dataset": str(data / "train.jsonl"), **run}
    trained = train_run(values, at / "run")
    sizes = RunDir(at / "run").read()["model"]
    before = read_json(place(folder, "reference") / "measures.json")
    policy = opened(policy_of(at / "run"))
    said = answers(policy, six_prompts(), config.max_new_tokens)
    record = {
        "trained": trained,
        "parameters": {"trainable": sizes["trainable_parameters"], "all": sizes["total_parameters"]},
        "accuracy": accuracies(before["held_out"], pair_scores(policy, data / "held_out.jsonl", config.cutoff_len)),
        "answers": said,
        "changed": changed(before["answers"], said),
        "sampled": _drift(config, policy, opened(model_spec(config.model))),
    }
    forget_weights(at / "run")
    return record


# ---- what the page shows


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """The funnel, the accuracies, what training took, and the answers to the six prompts."""
    return {
        "recipe_funnel": _funnel_table(result),
        "recipe": _accuracy_table(result),
        "recipe_cost": _cost_table(result),
        "recipe_answers": _answer_table(result),
    }


def _funnel_table(result: Mapping[str, Any]) -> str:
    pairs = record_of(result, "pairs")
    rows = [[step["rule"], step["left_out"], step["left"], step["settings"]] for step in pairs["funnel"]]
    for name, said in (("held_out", "held out, by prompt"), ("train", "drawn to train on")):
        part = pairs[name]
        rows.append([said, "", part["pairs"], f"{part['of']} fit, {part['too_long']} are too long"])
    return markdown(["rule", "left out", "left", "settings"], rows)


def _accuracy_table(result: Mapping[str, Any]) -> str:
    header = ["run", "accuracy by mean log-probability", "by sum", "implied reward", "margin log π/π_ref, nats"]
    rows: list[list[str]] = []
    for name, cell in runs_of(result).items():
        accuracy = cell["record"]["accuracy"]
        if not rows:
            before = [interval(accuracy[f"reference_{how}"], 1, percent=True) for how in ("mean", "sum")]
            rows.append(["Reference Accuracy", *before, "", ""])
        after = [interval(accuracy[key], 1, percent=True) for key in ("policy_mean", "policy_sum", "implied")]
        rows.append([f"Policy Accuracy: {name}", *after, interval(accuracy["margin"], 2)])
    return markdown(header, rows)


def _cost_table(result: Mapping[str, Any]) -> str:
    header = [
        "run", "seconds of training", "of the reference", "of the whole cell", "peak memory, MB", "trainable share",
        "last loss", "KL, nats an answer", "tokens, sampled", "end their turn", "end in a loop",
    ]  # fmt: skip
    rows = []
    for name, cell in runs_of(result).items():
        record, sampled = cell["record"], cell["record"]["sampled"]
        timings, parameters = record["trained"]["timings"], record["parameters"]
        rows.append(
            [
                name,
                f"{timings.get('train', 0):.0f}",
                f"{timings.get('reference', 0):.0f}",
                f"{cell['seconds']:.0f}",
                f"{cell['peak_bytes'] / 1e6:.0f}",
                f"{100 * parameters['trainable'] / parameters['all']:.1f} %",
                f"{record['trained']['metrics']['loss']:.3f}",
                interval(sampled["kl"], 1),
                f"{sampled['tokens']:.0f}",
                f"{100 * sampled['ended']:.0f} %",
                f"{100 * sampled['loops']:.0f} %",
            ]
        )
    return markdown(header, rows)


def _answer_table(result: Mapping[str, Any]) -> str:
    reference = record_of(result, "reference")
    answers = {name: cell["record"]["answers"] for name, cell in runs_of(result).items()}
    return side_by_side(reference["prompts"], answers, reference["answers"])


def figures(result: Mapping[str, Any]) -> dict[str, str]:
    """Both accuracies of every run with their intervals."""
    trained = runs_of(result)
    before = next(iter(trained.values()))["record"]["accuracy"]
    estimates = [Row(f"reference, by {how}", *ends(before[f"reference_{how}"]), "d") for how in ("mean", "sum")]
    for name, cell in trained.items():
        accuracy = cell["record"]["accuracy"]
        estimates += [
            Row(f"{name}: by mean", *ends(accuracy["policy_mean"]), "a"),
            Row(f"{name}: by sum", *ends(accuracy["policy_sum"]), "b"),
        ]
    chart = interval_chart("recipe", "Accuracy on held-out strong pairs of HH", estimates, level=(0.5, "chance"))
    return {"recipe.svg": svg_file(chart)}
