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
    r"per_device_train_batch_size|gradient_accumulation_steps|cutoff_len|seed"
)
_LORA = re.compile(r"lora_(rank|alpha|target)")
"""Config keys that the card repeats where they are not 0; run.json has all."""


@dataclass(frozen=True, slots=True)
class MeasuredFigure:
    """A result for the header that model hubs read.

    Attributes:
        dataset: name of the benchmark or the data.
        metric: `mc1`, `win_rate`.
        value, low, high: the figure and its 95 % interval.
        n: number of independent items.
        is_share: whether the figure is a share of 1, which the header has in percent.
    """

    dataset: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    is_share: bool = True


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
        figures: results for the header.
        results: the same as Markdown.
        limits: what a reader must know before believing the results.

    Raises:
        ArtifactError: palate's part has no end line any more, the header is no YAML, or the file cannot be written.
    """
    run = {**run, "config": run.get("config", {})}
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
    base = str(config.get("model_name_or_path") or "")
    header: dict[str, Any] = {}
    if licence := _licence(base):
        header["license"] = licence
    if base and not Path(base).exists() and not Path(base).is_absolute():
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
    scale, unit = (100, ", %") if one.is_share else (1, "")
    within = f"95 % interval {scale * one.low:.1f} to {scale * one.high:.1f}, n = {one.n}"
    metric = {"type": one.metric, "value": round(scale * one.value, 2), "name": f"{one.metric}{unit} ({within})"}
    task = {"type": "text-generation", "name": "Text generation"}
    return {"task": task, "dataset": {"type": kind, "name": one.dataset}, "metrics": [metric]}


def _licence(base: str) -> str | None:
    """The licence that the base model's own card states, if its folder is here."""
    card = Path(base) / NAME
    licence = _split(read_bytes(card).decode("utf-8", "replace"), card)[0].get("license") if card.is_file() else None
    return licence if isinstance(licence, str) else None


def _names(dataset: Any) -> list[str]:
    return [part.strip() for part in dataset.split(",")] if isinstance(dataset, str) else list(dataset or ())


def _sections(
    name: str, run: Mapping[str, Any], data: Mapping[str, Any], results: str, limits: Sequence[str]
) -> list[str]:
    config, counts, metrics = run["config"], run.get("data", {}), run.get("final_metrics", {})
    model, versions = run.get("model", {}), run.get("versions", {})
    reference = "{kind}, weights {identity}".format_map(run["reference"]) if run.get("reference") else None
    sources = {f"source {source}": _source(found) for source, found in data.get("sources", {}).items()}
    ours = all(one.startswith("palate-demo") for one in _names(config.get("dataset") or "unknown"))
    about_data = {
        "dataset": config.get("dataset"),
        "held-out dataset": config.get("eval_dataset"),
        "training groups": _counted(counts, "train"),
        "held-out groups": _counted(counts, "eval"),
        **sources,
        "hash of all rows": counts.get("identity"),
        "hash of the held-out rows": counts.get("held_out_identity"),
        "licence": "Apache-2.0, as palate" if ours else "not recorded; to be filled in by the owner of the data",
    }
    objective = {
        "stage": f"{run.get('stage')}, objective {run.get('objective')}",
        "trained": f"{model.get('trainable_parameters', 0):,} of {model.get('total_parameters', 0):,} parameters "
        f"({config.get('finetuning_type')})",
        "reference": reference,
        "precision": run.get("precision"),
        **{key: item for key, item in config.items() if _is_shown(key, config) and (item or key == "seed")},
    }
    lineage = {
        "base model": config.get("model_name_or_path"),
        "revision": config.get("model_revision"),
        "starting weights": model.get("identity"),
        "adapters that training started from": ", ".join(_names(config.get("adapter_name_or_path"))),
        "reference": reference,
        "trained": run.get("started"),
        "software": ", ".join(f"{software} {version}" for software, version in versions.items()),
    }
    return [
        f"# {escaped(name)}",
        f"{escaped(str(config.get('model_name_or_path')))} after {run.get('stage')} training with palate. "
        "`run.json` in this folder has the whole config, the hashes and the timings.",
        f"## Data\n\n{_table(about_data)}",
        *_comparisons(data.get("comparisons", ())),
        f"## Objective\n\n{_table(objective)}",
        "## Results",
        _table({f"{label}, at the end of training": metrics.get(key) for key, label in _METRICS.items()}),
        results or "Not evaluated after training; `palate report RUN --results …` adds what was measured.",
        "## Limits",
        "\n".join(f"- {escaped(line)}" for line in (*_limits(run, results), *limits)),
        f"## Lineage\n\n{_table(lineage)}",
    ]


def _comparisons(shares: Sequence[Mapping[str, Any]]) -> list[str]:
    """The section on who compared, where the rows say so (`data.comparisons`)."""
    if not shares:
        return []
    kinds: dict[str, int] = {}
    for one in shares:
        kinds[one["kind"]] = kinds.get(one["kind"], 0) + one["rows"]
    counted = ", ".join(f"{rows:,} {kind}" for kind, rows in kinds.items())
    columns = ("source", "compared by", "examples", "share", "weight", "share of the loss")
    rows = [
        (
            *(one["source"], one["kind"], f"{one['rows']:,}", f"{one['share']:.1%}", f"{one['weight']:g}"),
            f"{one['loss_share']:.1%}",
        )
        for one in shares
    ]
    return [
        "## Where the comparisons come from",
        f"Training examples by who compared the answers: {counted}. A weight multiplies the loss of each example of "
        "its source; the share of the loss is that of the sum of all weights.",
        markdown_table(columns, rows, numeric={2, 3, 4, 5}),
    ]


def _is_shown(key: str, config: Mapping[str, Any]) -> bool:
    lora = config.get("finetuning_type") == "lora" and _LORA.fullmatch(key)
    return bool(_SETTINGS.fullmatch(key) or lora)


def _table(facts: Mapping[str, Any]) -> str:
    """A row for each fact that is known."""
    shown = {key: f"{item:.4g}" if isinstance(item, float) else item for key, item in facts.items()}
    return markdown_table(("", ""), [(key, str(item)) for key, item in shown.items() if item not in (None, "")])


def _counted(counts: Mapping[str, Any], part: str) -> str:
    groups = counts.get(f"{part}_groups", 0)
    return f"{groups:,} of {counts.get(f'{part}_prompts', 0):,} prompts" if groups else "none"


def _source(found: Mapping[str, Any]) -> str:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in found.get("dropped_by_reason", {}).items())
    return f"{found.get('rows_read', 0):,} rows read, {found.get('rows_used', 0):,} used, dropped: {dropped or 'none'}"


def _limits(run: Mapping[str, Any], results: str) -> list[str]:
    found = [f"health check of the run: {one['message']}" for one in run.get("health", ())]
    found.append(
        "Preference training changes which answers the model prefers; it adds no knowledge. Uses, languages and topics "
        "that the data and the results do not name were not tried."
    )
    if not run.get("data", {}).get("eval_groups"):
        found.append("No rows were held out, so the figures at the end of training are those of training rows.")
    return found if results else [*found, "Safety, truthfulness and over-refusal were not measured."]
