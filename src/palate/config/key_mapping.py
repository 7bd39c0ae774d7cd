"""What becomes of another trainer's keys: read under palate's name, accepted without effect, or refused.

Nothing is dropped silently: what was renamed or has no effect is said, and what would change the result and is not
available is refused by name. The keys themselves are in `peer_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from palate.config.base import truth
from palate.config.key_mapping_table import (
    FIXED,
    LOW_RANK,
    NO_EFFECT,
    NO_EFFECT_PREFIXES,
    ONLY,
    RENAMED,
    RENAMED_ONLINE,
)
from palate.config.reader import Entry, as_yaml

_SWITCHES = ("bf16", "fp16", "pure_bf16")
_MIXING = ("mix_strategy", "interleave_probs")


@dataclass(slots=True)
class Translated:
    """A file's keys under palate's names.

    Attributes:
        entries: palate's keys, known or not.
        notices: a line for each key that is read under another name.
        idle: of keys that have no effect here, value and reason.
        refused: of keys that cannot be honoured, place and remedy.
        agreed: keys that ask for what `palate train` does anyway.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    idle: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    agreed: set[str] = field(default_factory=set)

    def override(self, key: str, later: Translated) -> None:
        """Let the translation of one key that was given again win over what this one says of it."""
        self.idle.pop(key, None)
        self.refused.pop(key, None)
        self.agreed.discard(key)
        self.entries |= later.entries
        self.notices += later.notices
        self.idle |= later.idle
        self.refused |= later.refused
        self.agreed |= later.agreed

    def lines(self) -> list[str]:
        """What a person should know: the notices, and all keys without effect in one line."""
        return self.notices + ([f"no effect here: {'; '.join(self.idle.values())}"] if self.idle else [])


def translate(entries: Mapping[str, Entry], *, stage: object = None) -> Translated:
    """Another trainer's keys into palate's own.

    Args:
        entries: as written.
        stage: of the run, where `entries` does not hold it.
    """
    stage = entries["stage"].value if "stage" in entries else stage
    names = {**RENAMED, **(RENAMED_ONLINE if stage in ("ppo", "grpo") else {})}
    found = Translated()
    for key, entry in entries.items():
        if key in names:
            name = names[key]
            if name in entries:
                found.refused[key] = f"{entry.where}: {key} and {name} are the same setting; keep {name}"
                continue
            found.entries[name] = entry
            found.notices.append(f"{key} is read as {name}")
        elif key in ONLY:
            _only(key, entry, found)
        elif reason := _no_effect(key, entries):
            found.idle[key] = f"{key}: {as_yaml(entry.value)} ({reason})"
        elif key in FIXED:
            agrees, what_happens = FIXED[key]
            if truth(entry.value) is agrees:
                found.agreed.add(key)
            elif entry.value is not None:
                found.idle[key] = f"{key}: {as_yaml(entry.value)} ({what_happens})"
        elif key not in (*_SWITCHES, *_MIXING):
            found.entries[key] = entry
    for switch in LOW_RANK:
        _low_rank(switch, entries, found)
    _precision(entries, found)
    _mixing(entries, found)
    _kto_by_another_name(stage, found)
    return found


def _no_effect(key: str, entries: Mapping[str, Entry]) -> str | None:
    """Why a key has no effect, or None where it may have one."""
    if key in NO_EFFECT:
        return NO_EFFECT[key]
    prefix = next((prefix for prefix in NO_EFFECT_PREFIXES if key.startswith(prefix)), None)
    if prefix is not None:
        return NO_EFFECT_PREFIXES[prefix]
    owner = next((name for name, only in ONLY.items() if only.companions and key.startswith(only.companions)), None)
    if owner is None:
        return None
    return f"it belongs to {owner}" if owner in entries else f"it belongs to {owner}, which is not set"


def _only(key: str, entry: Entry, found: Translated) -> None:
    """A key that palate accepts with some values only."""
    only = ONLY[key]
    switch = truth(entry.value)
    value = entry.value if switch is None else switch
    word = value.lower() if isinstance(value, str) else value
    if value is None or any(word == one and type(word) is type(one) for one in only.values):
        found.idle[key] = f"{key}: {as_yaml(entry.value)}"
    else:
        found.refused[key] = f"{entry.where}: {key}: {as_yaml(entry.value)} is not available; {only.otherwise}"


def _low_rank(switch: str, entries: Mapping[str, Entry], found: Translated) -> None:
    """`use_galore` and `use_apollo`, with their settings, as one of transformers' optimisers."""
    if switch not in entries or truth(entries[switch].value) is not True:
        return
    low, where = LOW_RANK[switch], entries[switch].where
    own = {key: entry for key, entry in entries.items() if key.startswith(low.prefix) and entry.value is not None}
    for key in (switch, *own):
        found.idle.pop(key, None)
    named = str(entries["optim"].value) if "optim" in entries else "adamw_torch"
    optimiser = low.optimisers.get(named.removesuffix("_fused"))
    if optimiser is None:
        known = ", ".join(low.optimisers)
        found.refused["optim"] = f"{entries['optim'].where}: optim: {named} has no form for {switch}; take {known}"
        return
    values = {key.removeprefix(low.prefix): entry.value for key, entry in own.items()}
    settings = {name: values.pop(theirs, default) for name, (theirs, default) in low.settings.items()}
    target = values.pop("target", "all")
    for name, value in values.items():
        if truth(value) is not False:  # layerwise, scale_front
            key = f"{low.prefix}{name}"
            found.refused[key] = f"{own[key].where}: {key}: {as_yaml(value)} is not available; remove it"
    written = ",".join(f"{name}={value}" for name, value in settings.items())
    found.entries |= {"optim": Entry(optimiser, where), "optim_args": Entry(written, where)}
    found.entries["optim_target_modules"] = Entry(target, where)
    read = f"optim: {optimiser}, optim_args: {written}, optim_target_modules: {as_yaml(target)}"
    found.notices.append(f"{switch} is read as {read}")


def _precision(entries: Mapping[str, Entry], found: Translated) -> None:
    """`bf16`, `fp16` and LLaMA-Factory's `pure_bf16` are switches for one choice."""
    given = {key: entries[key] for key in _SWITCHES if key in entries and entries[key].value is not None}
    switches = {key: truth(entry.value) for key, entry in given.items()}
    wrong = [key for key, switch in switches.items() if switch is None]
    for key in wrong:
        value = as_yaml(given[key].value)
        found.refused[key] = f"{given[key].where}: {key} must be true or false, not {value}"
    on = [key for key, switch in switches.items() if switch]
    formats = {key.removeprefix("pure_") for key in on}
    if wrong or len(formats) == 2:
        if not wrong:
            found.refused["fp16"] = f"{given['fp16'].where}: bf16 and fp16 cannot both be true; write precision: bf16"
        return
    if on:
        key, (chosen,) = on[0], formats
    elif "bf16" in switches:
        key, chosen = "bf16", "fp32"  # who says "not bf16" means full precision; fp16 alone off leaves the choice open
    else:
        return
    if "pure_bf16" in on:
        reason = "weights that train stay float32, and are computed with in bf16"
        found.idle["pure_bf16"] = f"pure_bf16: {as_yaml(given['pure_bf16'].value)} ({reason})"
    own = found.entries.get("precision")
    shown = f"{key}: {as_yaml(given[key].value)}"
    if own is None:
        found.entries["precision"] = Entry(chosen, given[key].where)
        found.notices.append(f"{shown} is read as precision: {chosen}")
    elif own.value != chosen:
        found.refused[key] = f"{given[key].where}: {shown} and precision: {as_yaml(own.value)} disagree; keep precision"


def _mixing(entries: Mapping[str, Entry], found: Translated) -> None:
    """LLaMA-Factory's `mix_strategy` and `interleave_probs`, as the weights of `dataset`."""
    given = {key: entries[key] for key in _MIXING if key in entries and entries[key].value is not None}
    dataset = found.entries.get("dataset")
    if not given or dataset is None:
        found.idle |= {
            key: f"{key}: {as_yaml(entry.value)} (there is no dataset to mix)" for key, entry in given.items()
        }
        return
    names = _parts(dataset.value)
    strategy = str(given["mix_strategy"].value) if "mix_strategy" in given else "concat"
    if names is None or len(names) < 2 or strategy == "concat":
        reason = "all rows of all datasets are used" if names and len(names) > 1 else "there is one dataset"
        found.idle |= {key: f"{key}: {as_yaml(entry.value)} ({reason})" for key, entry in given.items()}
        return
    where = given["mix_strategy"].where
    if strategy != "interleave_under":
        found.refused["mix_strategy"] = (
            f"{where}: mix_strategy: {strategy} is not available, no row is drawn twice; write mix_strategy: "
            "interleave_under, which ends with the first dataset that is used up"
        )
        return
    shares = _parts(given["interleave_probs"].value) if "interleave_probs" in given else ["1"] * len(names)
    try:
        weights = [float(share) for share in shares or []]
    except ValueError:
        weights = []
    if len(weights) != len(names) or not all(weight > 0 for weight in weights):
        shown = as_yaml(given["interleave_probs"].value)
        found.refused["interleave_probs"] = (
            f"{where}: interleave_probs: {shown} must be {len(names)} numbers above 0, one for each dataset"
        )
        return
    found.entries["dataset"] = Entry(dict(zip(names, weights, strict=True)), dataset.where)
    shown = ", ".join(f"{name}: {weight:g}" for name, weight in found.entries["dataset"].value.items())
    found.notices.append(f"mix_strategy: interleave_under is read as dataset: {{{shown}}}")


def _parts(value: object) -> list[str] | None:
    """Names or numbers with commas, or a list of them; None for anything else."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, int | float):
        return [str(value)]
    return [str(one) for one in value] if isinstance(value, list) else None


def _kto_by_another_name(stage: object, found: Translated) -> None:
    """LLaMA-Factory's web page writes `pref_loss: kto_pair` beside `stage: kto`, which never reads it there."""
    chosen = found.entries.get("pref_loss")
    if stage == "kto" and chosen is not None and chosen.value == "kto_pair":
        found.entries["pref_loss"] = Entry("kto", chosen.where)
        found.notices.append("pref_loss: kto_pair is read as kto, the loss of stage: kto")
