"""The model card of a run, README.md: what it was trained on and how, its results, its limits and its origin.

Training writes it, and `palate report --results` writes it again. palate's part lies between two comment lines; text
outside of them, and keys that a person set in the YAML header, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from palate.artifacts.files import PathLike, read_bytes, write_text
from palate.artifacts.markdown import escaped, markdown_table
from palate.errors import ArtifactError

NAME = "README.md"
BEGIN = "<!-- palate writes this part again, down to its end line; text above and below it stays -->"
END = "<!-- end of palate's part -->"
_HEADER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(?<!\.json)(?<!\.jsonl)(?<!\.csv)(?<!\.parquet)(?<!\.txt)\Z")
_METRICS = {
    "loss": "training loss",
    "eval_loss": "held-out loss",
    "eval_rewards/accuracies": "held-out accuracy of the implied reward",
    "eval_rewards/margins": "held-out reward margin",
    "eval_logps/chosen": "held-out log-probability of chosen",
}
_SETTINGS = re.compile(
    r"(pref|kto|ppo|grpo|reward|kl|ref)_\w+|learning_rate|lr_scheduler_type|num_train_epochs|max_steps|"
    r"per_device_train_batch_size|gradient_accumulation_steps|cutoff_len|lora_rank|lora_alpha|seed"
)
"""Config keys that the card repeats; run.json has all."""


@dataclass(frozen=True, slots=True)
class MeasuredFigure:
    """A result for the header that model hubs read.

    Attributes:
        dataset: name of the benchmark or the data.
        metric: `mc1`, `win_rate`.
        value, low, high: the figure and its 95 % interval, shares of 1.
        n: number of independent items.
    """

    dataset: str
    metric: str
    value: float
    low: float
    high: float
    n: int


def write_model_card(
    folder: PathLike,
    run: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    figures: Sequence[MeasuredFigure] = (),
    results: str = "",
    limits: Sequence[str] = (),
) -> Path:
    """Write the card, or palate's part of an existing one; returns its path.

    Args:
        folder: the run directory.
        run, data: the contents of run.json and data.json.
        figures: results for the header.
        results: the same as Markdown.
        limits: what a reader must know before believing the results.

    Raises:
        ArtifactError: palate's part has no end line any more, the header is no YAML, or the file cannot be written.
    """
    path = Path(folder) / NAME
    text = read_bytes(path).decode("utf-8", "replace") if path.is_file() else ""
    header, body = _split(text, path)
    if BEGIN in body and END not in body.partition(BEGIN)[2]:
        raise ArtifactError(f"{path}: palate's part has no end line; write {END} below it, or delete the part")
    above, _, rest = body.partition(BEGIN)
    below = rest.partition(END)[2] if rest else ""
    name = Path(folder).resolve().name
    merged = _merged(header, _facts(name, run, figures), name)
    part = "\n\n".join([BEGIN, *_sections(name, run, data, results, limits), END])
    front = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)
    joined = "\n\n".join(piece for piece in (above.strip(), part, below.strip()) if piece)
    return write_text(path, f"---\n{front}---\n\n{joined}\n")


def _split(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """The YAML header of a card, and what is below it."""
    found = _HEADER.match(text)
    if found is None:
        return {}, text
    try:
        header = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise ArtifactError(f"{path}: the header between the --- lines is no YAML; mend or delete it") from error
    if not isinstance(header, dict):
        raise ArtifactError(f"{path}: the header between the --- lines has no keys; mend or delete it")
    return header, text[found.end() :]


def _merged(own: Mapping[str, Any], ours: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A person's keys before ours; tags of both; of the results those of other names."""
    merged = {**ours, **own}
    merged["tags"] = list(dict.fromkeys([*_list(own.get("tags")), *ours["tags"]]))
    others = [entry for entry in _list(own.get("model-index")) if not isinstance(entry, dict) or entry["name"] != name]
    index = [*others, *ours.get("model-index", ())]
    return {**merged, "model-index": index} if index else {k: v for k, v in merged.items() if k != "model-index"}


def _list(item: Any) -> list[Any]:
    return item if isinstance(item, list) else [] if item is None else [item]


def _facts(name: str, run: Mapping[str, Any], figures: Sequence[MeasuredFigure]) -> dict[str, Any]:
    """The keys that model hubs read. A base model or data set in a local folder is no hub id and is left out."""
    config = run["config"]
    base = _base(run)
    header: dict[str, Any] = {}
    if licence := _licence(base):
        header["license"] = licence
    if not Path(base).exists() and not Path(base).is_absolute():
        header["base_model"] = base
    if datasets := [one for one in _names(config.get("dataset")) if _HUB_ID.match(one) and not Path(one).exists()]:
        header["datasets"] = datasets
    header["library_name"] = "peft" if config.get("finetuning_type") == "lora" else "transformers"
    header["pipeline_tag"] = "text-classification" if run.get("stage") == "rm" else "text-generation"
    header["tags"] = list(dict.fromkeys(["palate", run.get("stage"), run.get("objective")]))
    if figures:
        header["model-index"] = [{"name": name, "results": [_indexed(one) for one in figures]}]
    return header


def _indexed(one: MeasuredFigure) -> dict[str, Any]:
    kind = re.sub(r"[^a-z0-9]+", "_", one.dataset.lower()).strip("_")
    within = f"95 % interval {100 * one.low:.1f} to {100 * one.high:.1f}, n = {one.n}"
    metric = {"type": one.metric, "value": round(100 * one.value, 2), "name": f"{one.metric}, % ({within})"}
    task = {"type": "text-generation", "name": "Text generation"}
    return {"task": task, "dataset": {"type": kind, "name": one.dataset}, "metrics": [metric]}


def _licence(base: str) -> str | None:
    """The licence that the base model's own card states, if its folder is here."""
    card = Path(base) / NAME
    licence = _split(read_bytes(card).decode("utf-8", "replace"), card)[0].get("license") if card.is_file() else None
    return licence if isinstance(licence, str) else None


def _base(run: Mapping[str, Any]) -> str:
    return str(run["config"].get("model_name_or_path") or "unknown model")


def _names(dataset: Any) -> list[str]:
    return [part.strip() for part in dataset.split(",")] if isinstance(dataset, str) else list(dataset or ())


def _sections(
    name: str, run: Mapping[str, Any], data: Mapping[str, Any], results: str, limits: Sequence[str]
) -> list[str]:
    config = run["config"]
    settings = [(key, str(item)) for key, item in config.items() if _SETTINGS.fullmatch(key) and item not in (None, "")]
    return [
        f"# {escaped(name)}",
        f"{escaped(_base(run))} after {escaped(str(run.get('stage')))} training with palate. "
        "`run.json` in this folder has the whole config, the hashes and the timings.",
        "## Data",
        markdown_table(("", ""), _data_rows(run)),
        markdown_table(("source", "rows read", "rows used", "dropped"), _source_rows(data), (1, 2)),
        f"Licence of the data: {escaped(_data_licence(config))}.",
        "## Objective",
        markdown_table(("", ""), [*_training_rows(run), *settings]),
        "## Results",
        markdown_table(("at the end of training", "value"), _metric_rows(run)),
        results or "Not evaluated after training; `palate report RUN --results …` adds what was measured.",
        "## Limits",
        "\n".join(f"- {escaped(line)}" for line in (*_limits(run, results), *limits)),
        "## Lineage",
        markdown_table(("", ""), _lineage(run)),
    ]


def _data_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    config, data = run["config"], run.get("data", {})
    hashes = (("all rows", "identity"), ("the held-out rows", "held_out_identity"))
    return [
        ("dataset", str(config.get("dataset"))),
        ("held-out dataset", str(config.get("eval_dataset") or "–")),
        ("training groups", _counted(data, "train")),
        ("held-out groups", _counted(data, "eval")),
        *((f"hash of {rows}", str(data[key])) for rows, key in hashes if key in data),
    ]


def _counted(data: Mapping[str, Any], part: str) -> str:
    groups = data.get(f"{part}_groups", 0)
    return f"{groups:,} of {data.get(f'{part}_prompts', 0):,} prompts" if groups else "none"


def _source_rows(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            source,
            f"{found.get('rows_read', 0):,}",
            f"{found.get('rows_used', 0):,}",
            ", ".join(f"{count:,} {reason}" for reason, count in found.get("dropped_by_reason", {}).items()) or "none",
        )
        for source, found in data.get("sources", {}).items()
    ]


def _data_licence(config: Mapping[str, Any]) -> str:
    names = _names(config.get("dataset"))
    builtin = names and all(name.startswith("palate-demo") for name in names)
    return "Apache-2.0, as palate" if builtin else "not recorded; to be filled in by the owner of the data"


def _training_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, config, reference = run.get("model", {}), run["config"], run.get("reference", {})
    trained, total = model.get("trainable_parameters", 0), model.get("total_parameters", 0)
    return [
        ("stage", f"{run.get('stage')}, objective {run.get('objective')}"),
        ("trained", f"{trained:,} of {total:,} parameters ({config.get('finetuning_type')})"),
        ("reference", _reference(reference)),
        ("precision", str(run.get("precision"))),
    ]


def _reference(reference: Mapping[str, Any]) -> str:
    return f"{reference.get('kind')}, weights {reference['identity']}" if reference.get("identity") else "none"


def _metric_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    metrics = run.get("final_metrics", {})
    return [(label, f"{metrics[name]:.4f}") for name, label in _METRICS.items() if name in metrics]


def _limits(run: Mapping[str, Any], results: str) -> list[str]:
    held_out = run.get("data", {}).get("eval_groups", 0)
    found = [f"health check of the run: {one['message']}" for one in run.get("health", ())]
    found.append(
        "Preference training changes which answers the model prefers; it adds no knowledge. Uses, languages and topics "
        "that the data and the results do not name were not tried."
    )
    if not held_out:
        found.append("No rows were held out, so the figures at the end of training are those of training rows.")
    if not results:
        found.append("Safety, truthfulness and over-refusal were not measured.")
    return found


def _lineage(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    config, versions = run["config"], run.get("versions", {})
    adapters = config.get("adapter_name_or_path")
    return [
        ("base model", _base(run)),
        ("revision", str(config.get("model_revision") or "–")),
        ("starting weights", str(run.get("model", {}).get("identity"))),
        *([("adapters that training started from", ", ".join(_names(adapters)))] if adapters else []),
        ("reference", _reference(run.get("reference", {}))),
        ("trained", f"{run.get('started', '–')}, seed {config.get('seed')}"),
        ("software", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
