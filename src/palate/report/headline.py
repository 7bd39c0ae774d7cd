"""The top of a run's report: what was trained, on what, against what, and the figures a reader wants first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from palate.config.objectives import OPTIONS, objective, resolve_options
from palate.errors import ConfigError
from palate.report.contents import RunContents, values_of
from palate.report.page import duration, size, value
from palate.report.scales import number


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
    """The figures that the run has, most wanted first."""
    found = []
    after, before = (_share(contents.accuracy.get(kind)) for kind in ("policy", "reference"))
    counted = pairs_of_prompts(contents.accuracy)
    if after:
        note = f"before: {before}" if before else "own log-probability"
        found.append(Card("Held-out accuracy", after, f"{note}; {counted}"))
    if own := _share(contents.accuracy.get("reward")):
        found.append(Card("Held-out accuracy", own, f"of the reward model; {counted}"))
    rows, where = (contents.evaluations, "held-out") if contents.evaluations else (contents.train, "training")
    ranked, margin = (_last(values_of(rows, f"rewards/{name}")) for name in ("accuracies", "margins"))
    groups, prompts = (contents.find(f"data.eval_{name}") for name in ("groups", "prompts"))
    of = f"{value(groups)} held-out groups of {value(prompts)} prompts" if contents.evaluations and prompts else ""
    if ranked is not None:
        found.append(Card("Reward accuracy", f"{100 * ranked:.1f} %", of or f"{where} pairs"))
    if margin is not None:
        found.append(Card("Reward margin", number(margin, 3), of or f"{where} pairs"))
    losses = [loss for _, loss in values_of(contents.train, "loss") if loss is not None]
    if losses:
        found.append(Card("Training loss", number(losses[-1], 3), f"from {number(losses[0])}"))
    seconds = _seconds(contents)
    if seconds is not None:
        last = contents.train[-1]["step"] if contents.train else 0
        found.append(Card("Time", duration(seconds), f"{number(last)} steps"))
    if _is_number(contents.find("peak_memory_bytes")):
        found.append(Card("Peak memory", size(contents.find("peak_memory_bytes")), value(contents.find("precision"))))
    return found


def pairs_of_prompts(accuracy: Mapping[str, Any]) -> str:
    """`250 held-out pairs of 50 prompts`, as far as an `accuracy.json` says so."""
    n, prompts = accuracy.get("n"), accuracy.get("prompts")
    return (
        f"{value(n)} held-out pairs" + (f" of {value(prompts)} prompts" if prompts else "") if n else "held-out pairs"
    )


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


def _last(values: list[tuple[float, float | None]]) -> float | None:
    return next((one for _, one in reversed(values) if one is not None), None)


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)
