"""The top of a run's report: key figures, and what was trained on which data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from palate.charts.text import number, percent
from palate.config.objectives.lookup import OPTIONS, objective, resolve_options
from palate.errors import ConfigError
from palate.report.contents import RunContents, is_number, mapping, values_of
from palate.report.html import value
from palate.report.intervals import SHARES, ends, held_out_interval, json_interval
from palate.report.judgements.stages import ONLINE, counted, stage_of
from palate.stats import Interval

_ONLINE_FIGURES = (
    ("reward", "Reward", ""),
    ("kl", "KL to the reference", "nats per answer"),
    ("length", "Length of answers", "tokens"),
    ("ended", "Answers that end their turn", ""),
    ("entropy", "Entropy", "nats per token"),
)
_MARGIN = ("rewards/margins", "Reward margin", "")
_PREFERENCE_FIGURES = (("rewards/accuracies", "Reward accuracy", ""), _MARGIN)
_FIGURES: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "sft": (("nll", "Held-out loss", "nats per token"),),
    "rm": (*_PREFERENCE_FIGURES, ("absolute_error", "Error of the predicted score", "")),
    "dpo": _PREFERENCE_FIGURES,
    "kto": (("rewards/accuracies", "Answers rewarded as labelled", ""), _MARGIN),
    "ppo": _ONLINE_FIGURES,
    "grpo": _ONLINE_FIGURES,
}
"""(metric, label, unit) of the key figures by stage."""


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure with its label and a note: unit, interval, number of rows."""

    label: str
    figure: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.figure} ({self.note})" if self.note else self.figure


def subtitle(contents: RunContents) -> str:
    """`DPO of SmolLM2-135M-Instruct on palate-demo`, as far as it is recorded."""
    stage = str(contents.find("stage", "config.stage", default="run")).upper()
    model = contents.find("model.name", "config.model_name_or_path")
    dataset = contents.find("config.dataset")
    return stage + (f" of {value(model)}" if model else "") + (f" on {value(dataset)}" if dataset else "")


def cards(contents: RunContents) -> list[Card]:
    """The recorded key figures, those of the stage first."""
    found = [*_accuracy_cards(contents), *_stage_cards(contents)]
    losses = [loss for _, loss in values_of(contents.train, "loss") if loss is not None]
    if losses and stage_of(contents) not in ONLINE:  # where the loss stays near 0
        found.append(Card("Training loss", number(losses[-1], 3), f"from {number(losses[0])}"))
    seconds = seconds_of(contents)
    if seconds is not None:
        last = contents.train[-1]["step"] if contents.train else 0
        found.append(Card("Time", _duration(seconds), f"{number(last)} step{'' if last == 1 else 's'}"))
    memory = contents.find("peak_memory_bytes")
    if is_number(memory):
        size = f"{memory / 2**20:,.0f} MiB" if memory < 2**30 else f"{memory / 2**30:.1f} GiB"
        found.append(Card("Peak memory", size, value(contents.find("precision"))))
    return found


def prompts_of(accuracy: Mapping[str, Any]) -> Any:
    """The number of prompts of the pairs of an `accuracy.json`; None if it is not recorded."""
    return accuracy.get("prompts", accuracy.get("clusters"))


def facts(contents: RunContents) -> list[tuple[str, str]]:
    """The recorded facts of a run: model, objective, reference, data, time."""
    find = contents.find
    phases = [f"{name} {_duration(spent)}" for name, spent in mapping(find("timings")).items() if is_number(spent)]
    reference = find("reference.kind", "reference")
    lines = [
        ("Model", _identified(find("model.name", "config.model_name_or_path"), find("model.identity"))),
        ("Trained", _trained(contents)),
        ("Objective", objective_text(contents)),
        ("Reference", _identified(reference, find("reference.identity")) if isinstance(reference, str) else None),
        ("Dataset", find("config.dataset")),
        ("Groups", find("data")),
        ("Started", find("started")),
        ("Finished", find("finished")),
        ("Time", ", ".join(phases)),
        ("Attention", find("attention")),
    ]
    return [(name, value(line)) for name, line in lines if line]


def objective_text(contents: RunContents) -> str | None:
    """Name and formula of the loss with its options; options of modifiers only where they are on."""
    name = contents.find("objective", "config.pref_loss")
    if not isinstance(name, str):
        return None
    given = mapping(contents.find("config"))
    try:
        row = objective(name)
        options = resolve_options(row.name, {key: given.get(key) for key in row.all_options})
    except ConfigError:  # sft, or an objective of a later version
        return name
    shown = {key: item for key, item in options.items() if key in row.options or item != OPTIONS[key].default}
    listed = ", ".join(f"{key} {value(item)}" for key, item in shown.items() if item is not None)
    return f"{row.name}: {row.formula}" + (f" with {listed}" if listed else "")


def _accuracy_cards(contents: RunContents) -> list[Card]:
    """The figures that `palate eval accuracy` recorded."""
    accuracy = contents.accuracy
    rows = counted("dpo", accuracy.get("n"), prompts_of(accuracy))
    policy, reference, reward = (json_interval(accuracy.get(kind)) for kind in ("policy", "reference", "reward"))
    if policy:
        before = f"before: {percent(reference.estimate)}" if reference else "own log-probability"
        return [Card("Held-out accuracy", percent(policy.estimate), _note(_within(policy, True), before, rows))]
    if reward:
        note = _note("of the reward model", _within(reward, True), rows)
        return [Card("Held-out accuracy", percent(reward.estimate), note)]
    return []


def _stage_cards(contents: RunContents) -> list[Card]:
    """A card for each figure of the stage: held-out with interval and counts, else of the last training step."""
    stage = stage_of(contents)
    found = []
    for metric, label, unit in _FIGURES[stage]:
        rows = [row for row in contents.evaluations if is_number(row.get(metric))]
        as_percent = metric in SHARES
        if rows:
            last = rows[-1]
            within = _within(held_out_interval(last, metric), as_percent)
            note = _note(unit, within, counted(stage, last.get("rows"), last.get("prompts")))
            found.append(Card(label, _figure(last[metric], as_percent), note))
        elif stage != "sft" and (values := [y for _, y in values_of(contents.train, metric) if y is not None]):
            start = f"from {_figure(values[0], as_percent)}" if len(values) > 1 else ""
            found.append(Card(label, _figure(values[-1], as_percent), _note(unit, start, "last training step")))
    return found


def _figure(item: float, as_percent: bool) -> str:
    return percent(item) if as_percent else number(item, 3)


def _within(interval: Interval | None, as_percent: bool) -> str:
    within = ends(interval, as_percent=as_percent)
    return f"95 % {within}" if within else ""


def _note(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _trained(contents: RunContents) -> str:
    find = contents.find
    trainable, total = find("model.trainable_parameters"), find("model.total_parameters")
    share = ""
    if is_number(trainable) and is_number(total):
        share = f"{number(trainable)} of {number(total)} parameters ({percent(trainable / total)})"
    return ", ".join(str(part) for part in (share, find("config.finetuning_type"), find("precision")) if part)


def _identified(name: Any, identity: Any) -> str | None:
    if not name:
        return None
    return f"{value(name)} ({value(identity)})" if identity else value(name)


def seconds_of(contents: RunContents) -> float | None:
    """The sum of the timed phases, else the time from start to finish."""
    spent = [seconds for seconds in mapping(contents.find("timings")).values() if is_number(seconds)]
    if spent:
        return float(sum(spent))
    try:
        began, ended = (datetime.fromisoformat(str(contents.run[key])) for key in ("started", "finished"))
    except (KeyError, ValueError):
        return None
    return (ended - began).total_seconds()


def _duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `5 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
