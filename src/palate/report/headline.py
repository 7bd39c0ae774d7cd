"""The top of a run's report: what was trained, on what, against what, and the figures a reader wants first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from palate.config.objectives.lookup import OPTIONS, objective, resolve_options
from palate.errors import ConfigError
from palate.report.contents import RunContents, values_of
from palate.report.held_out import SHARES, held_out_interval, shown
from palate.report.page import duration, size, value
from palate.report.scales import number
from palate.report.stages import ONLINE, counted, stage_of

_ONLINE_FIGURES = (
    ("reward", "Reward", ""),
    ("kl", "KL to the reference", "nats per answer"),
    ("length", "Length of answers", "tokens"),
    ("ended", "Answers that end their turn", ""),
    ("entropy", "Entropy", "nats per token"),
)
_PREFERENCE_FIGURES = (("rewards/accuracies", "Reward accuracy", ""), ("rewards/margins", "Reward margin", ""))
_FIGURES: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "sft": (("nll", "Held-out loss", "nats per token"),),
    "rm": (*_PREFERENCE_FIGURES, ("absolute_error", "Error of the predicted score", "")),
    "dpo": _PREFERENCE_FIGURES,
    "kto": (("rewards/accuracies", "Answers on the right side", ""), ("rewards/margins", "Reward margin", "")),
    "ppo": _ONLINE_FIGURES,
    "grpo": _ONLINE_FIGURES,
}
"""By stage (metric, label, unit) of the key figures."""


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure: what it is, the figure, and a few words that put it into place."""

    label: str
    figure: str
    note: str = ""


def subtitle(contents: RunContents) -> str:
    """`DPO of SmolLM2-135M-Instruct on palate-demo`, as far as the run says so."""
    stage = str(contents.find("stage", "config.stage", default="run")).upper()
    model = contents.find("model.name", "config.model_name_or_path")
    dataset = contents.find("config.dataset")
    return stage + (f" of {value(model)}" if model else "") + (f" on {value(dataset)}" if dataset else "")


def cards(contents: RunContents) -> list[Card]:
    """The figures that the run has, those that its stage is judged by first."""
    found = [*_accuracy_cards(contents), *_stage_cards(contents)]
    if stage_of(contents) not in ONLINE:  # whose loss says nothing
        losses = [loss for _, loss in values_of(contents.train, "loss") if loss is not None]
        if losses:
            found.append(Card("Training loss", number(losses[-1], 3), f"from {number(losses[0])}"))
    seconds = _seconds(contents)
    if seconds is not None:
        last = contents.train[-1]["step"] if contents.train else 0
        found.append(Card("Time", duration(seconds), f"{number(last)} step{'' if last == 1 else 's'}"))
    if _is_number(contents.find("peak_memory_bytes")):
        found.append(Card("Peak memory", size(contents.find("peak_memory_bytes")), value(contents.find("precision"))))
    return found


def _accuracy_cards(contents: RunContents) -> list[Card]:
    """Of `palate eval accuracy`."""
    accuracy = contents.accuracy
    rows = counted("dpo", accuracy.get("n"), prompts_of(accuracy))
    after, before = (_share(accuracy.get(kind)) for kind in ("policy", "reference"))
    if after:
        beside = f"before: {before}" if before else "own log-probability"
        return [Card("Held-out accuracy", after, _joined(_ends(accuracy.get("policy")), beside, rows))]
    if own := _share(accuracy.get("reward")):
        return [Card("Held-out accuracy", own, _joined("of the reward model", _ends(accuracy.get("reward")), rows))]
    return []


def prompts_of(accuracy: Mapping[str, Any]) -> Any:
    """How many prompts the pairs of an `accuracy.json` have; None where it does not say."""
    return accuracy.get("prompts", accuracy.get("clusters"))


def _stage_cards(contents: RunContents) -> list[Card]:
    """A card for each figure of the stage: held out with its interval and counts, else of the last training step."""
    stage = stage_of(contents)
    found = []
    for metric, label, unit in _FIGURES[stage]:
        rows = [row for row in contents.evaluations if _is_number(row.get(metric))]
        percent = metric in SHARES
        if rows:
            interval, last = held_out_interval(rows[-1], metric), rows[-1]
            within = f"95 % {shown(interval, percent=percent)}" if interval is not None else ""
            counts = counted(stage, last.get("rows"), last.get("prompts"))
            found.append(Card(label, _figure(last[metric], percent), _joined(unit, within, counts)))
        elif stage != "sft" and (values := [one for _, one in values_of(contents.train, metric) if one is not None]):
            start = f"from {_figure(values[0], percent)}" if len(values) > 1 else ""
            found.append(Card(label, _figure(values[-1], percent), _joined(unit, start, "last training step")))
    return found


def facts(contents: RunContents) -> list[tuple[str, str]]:
    """The lines under the headline: model, objective, reference, data, time."""
    find = contents.find
    timings = find("timings", default={})
    phases = (
        {name: spent for name, spent in timings.items() if _is_number(spent)} if isinstance(timings, Mapping) else {}
    )
    reference = find("reference.kind", "reference")
    lines = [
        ("Model", _identified(find("model.name", "config.model_name_or_path"), find("model.identity"))),
        ("Trained", _trained(contents)),
        ("Objective", contract(contents)),
        ("Reference", _identified(reference, find("reference.identity")) if isinstance(reference, str) else None),
        ("Dataset", find("config.dataset")),
        ("Groups", find("data")),
        ("Started", find("started")),
        ("Finished", find("finished")),
        ("Time", ", ".join(f"{name} {duration(spent)}" for name, spent in phases.items())),
        ("Attention", find("attention")),
    ]
    return [(name, value(line)) for name, line in lines if line]


def contract(contents: RunContents) -> str | None:
    """The loss by name, its formula, and the options that it ran with; modifiers only where they are on."""
    name = contents.find("objective", "config.pref_loss")
    if not isinstance(name, str):
        return None
    given = contents.find("config", default={})
    try:
        row = objective(name)
        options = resolve_options(row.name, {key: given.get(key) for key in row.all_options})
    except ConfigError:  # sft, or an objective of a later version
        return name
    shown = {k: one for k, one in options.items() if k in row.options or one != OPTIONS[k].default}
    told = ", ".join(f"{key} {value(one)}" for key, one in shown.items() if one is not None)
    return f"{row.name}: {row.formula}" + (f" with {told}" if told else "")


def _trained(contents: RunContents) -> str:
    find = contents.find
    trainable, total = find("model.trainable_parameters"), find("model.total_parameters")
    share = ""
    if _is_number(trainable) and _is_number(total):
        share = f"{number(trainable)} of {number(total)} parameters ({100 * trainable / total:.1f} %)"
    return ", ".join(str(part) for part in (share, find("config.finetuning_type"), find("precision")) if part)


def _identified(name: Any, identity: Any) -> str | None:
    if not name:
        return None
    return f"{value(name)} ({value(identity)})" if identity else value(name)


def _seconds(contents: RunContents) -> float | None:
    timings = contents.find("timings", default={})
    spent = [one for one in timings.values() if _is_number(one)] if isinstance(timings, Mapping) else []
    if spent:
        return float(sum(spent))
    try:
        began, ended = (datetime.fromisoformat(str(contents.run[key])) for key in ("started", "finished"))
    except (KeyError, ValueError):
        return None
    return (ended - began).total_seconds()


def _share(interval: Any) -> str:
    estimate = interval.get("estimate") if isinstance(interval, Mapping) else None
    return f"{100 * estimate:.1f} %" if isinstance(estimate, int | float) else ""


def _ends(interval: Any) -> str:
    ends = shown(interval, percent=True)
    return f"95 % {ends}" if ends else ""


def _figure(item: float, percent: bool) -> str:
    return f"{100 * item:.1f} %" if percent else number(item, 3)


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)
