"""Maps keys of other trainers: read under palate's name, accepted without effect, or refused.

Nothing is dropped silently. Renamed keys and keys without effect are reported; a key that would change the result and
is not supported is refused. `config.mapping.table` lists the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from palate.config.base import truth
from palate.config.mapping import table
from palate.config.mapping.former import FORMER_KEYS
from palate.config.reader import ConfigEntry, as_yaml

_SWITCHES = ("bf16", "fp16", "pure_bf16")
_MIXING = ("mix_strategy", "interleave_probs")


@dataclass(slots=True)
class Translated:
    """The keys of a file under palate's names.

    Attributes:
        entries: palate's keys, and unknown ones.
        notices: a line for each key that is read under another name.
        idle: key without effect → its value and the reason.
        refused: refused key → an error line.
        agreed: keys with the value that `palate train` always acts on.
    """

    entries: dict[str, ConfigEntry] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    idle: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    agreed: set[str] = field(default_factory=set)

    def ignore(self, key: str, entry: ConfigEntry, reason: str | None = None) -> None:
        """Report that a key has no effect."""
        self.idle[key] = f"{key}: {as_yaml(entry.value)}" + (f" ({reason})" if reason else "")

    def refuse(self, key: str, entry: ConfigEntry, problem: str) -> None:
        """Report an error of a key with its place."""
        self.refused[key] = f"{entry.where}: {problem}"

    def override(self, key: str, later: Translated) -> None:
        """Replace everything about a key that was given again."""
        self.idle.pop(key, None)
        self.refused.pop(key, None)
        self.agreed.discard(key)
        self.entries |= later.entries
        self.notices += later.notices
        self.idle |= later.idle
        self.refused |= later.refused
        self.agreed |= later.agreed

    def lines(self) -> list[str]:
        """The notices, and all keys without effect in one line."""
        return self.notices + ([f"no effect here: {'; '.join(self.idle.values())}"] if self.idle else [])


def translate(entries: Mapping[str, ConfigEntry], *, stage: object = None) -> Translated:
    """Map another trainer's keys to palate's.

    Args:
        stage: the run's stage, if `entries` does not have it.
    """
    stage = entries["stage"].value if "stage" in entries else stage
    names = {**table.RENAMED, **(table.RENAMED_ONLINE if stage in ("ppo", "grpo") else {})}
    found = Translated()
    for key, entry in entries.items():
        former = FORMER_KEYS.get(key)
        if former is not None or key in names:
            name = names[key] if former is None else former.name
            if name in entries:
                found.refuse(key, entry, f"{key} and {name} are the same setting; keep {name}")
            elif former is not None and former.is_gone:
                found.refuse(key, entry, former.line(key))
            else:
                found.entries[name] = entry
                found.notices.append(f"{key} is read as {name}" if former is None else former.line(key))
        elif key in table.ONLY:
            _only(key, entry, found)
        elif reason := _no_effect(key, entries):
            found.ignore(key, entry, reason)
        elif key in table.FIXED:
            agrees, what_happens = table.FIXED[key]
            if truth(entry.value) is agrees:
                found.agreed.add(key)
            elif entry.value is not None:
                found.ignore(key, entry, what_happens)
        elif key not in (*_SWITCHES, *_MIXING):
            found.entries[key] = entry
    for switch in table.LOW_RANK:
        _low_rank(switch, entries, found)
    _precision(entries, found)
    _mixing(entries, found)
    chosen = found.entries.get("pref_loss")
    if stage == "kto" and chosen is not None and chosen.value == "kto_pair":
        # LLaMA-Factory's web page writes this, and ignores it.
        found.entries["pref_loss"] = ConfigEntry("kto", chosen.where)
        found.notices.append("pref_loss: kto_pair is read as kto, the loss of stage: kto")
    return found


def _no_effect(key: str, entries: Mapping[str, ConfigEntry]) -> str | None:
    """Why a key has no effect, or None if it may have one."""
    if key in table.NO_EFFECT:
        return table.NO_EFFECT[key]
    for prefix, reason in table.NO_EFFECT_PREFIXES.items():
        if key.startswith(prefix):
            return reason
    for owner, only in table.ONLY.items():
        if only.companions and key.startswith(only.companions):
            return f"it belongs to {owner}" if owner in entries else f"it belongs to {owner}, which is not set"
    return None


def _only(key: str, entry: ConfigEntry, found: Translated) -> None:
    """A key that is supported only with some values."""
    switch = truth(entry.value)
    value = entry.value if switch is None else switch
    value = value.lower() if isinstance(value, str) else value
    # 0 is not false here, although they are equal in Python.
    if value is None or any(value == known and type(value) is type(known) for known in table.ONLY[key].values):
        found.ignore(key, entry)
    else:
        found.refuse(key, entry, f"{key}: {as_yaml(entry.value)} is not available; {table.ONLY[key].otherwise}")


def _low_rank(switch: str, entries: Mapping[str, ConfigEntry], found: Translated) -> None:
    """`use_galore` or `use_apollo` and its settings, as one of transformers' optimisers."""
    if switch not in entries or truth(entries[switch].value) is not True:
        return
    low, where = table.LOW_RANK[switch], entries[switch].where
    own = {key: entry for key, entry in entries.items() if key.startswith(low.prefix) and entry.value is not None}
    for key in (switch, *own):
        found.idle.pop(key, None)
    named = str(entries["optim"].value) if "optim" in entries else "adamw_torch"
    optimiser = low.optimisers.get(named.removesuffix("_fused"))
    if optimiser is None:
        known = ", ".join(low.optimisers)
        found.refuse("optim", entries["optim"], f"optim: {named} cannot be combined with {switch}; choose {known}")
        return
    values = {key.removeprefix(low.prefix): entry.value for key, entry in own.items()}
    settings = {name: values.pop(theirs, default) for name, (theirs, default) in low.settings.items()}
    target = values.pop("target", "all")
    for name, value in values.items():
        if truth(value) is not False:  # layerwise, scale_front
            key = f"{low.prefix}{name}"
            found.refuse(key, own[key], f"{key}: {as_yaml(value)} is not available; remove it")
    written = ",".join(f"{name}={value}" for name, value in settings.items())
    for key, value in (("optim", optimiser), ("optim_args", written), ("optim_target_modules", target)):
        found.entries[key] = ConfigEntry(value, where)
    read = f"optim: {optimiser}, optim_args: {written}, optim_target_modules: {as_yaml(target)}"
    found.notices.append(f"{switch} is read as {read}")


def _precision(entries: Mapping[str, ConfigEntry], found: Translated) -> None:
    """`bf16`, `fp16` and LLaMA-Factory's `pure_bf16`, as `precision`."""
    given = {key: entries[key] for key in _SWITCHES if key in entries and entries[key].value is not None}
    switches = {key: truth(entry.value) for key, entry in given.items()}
    wrong = [key for key, switch in switches.items() if switch is None]
    for key in wrong:
        found.refuse(key, given[key], f"{key} must be true or false, not {as_yaml(given[key].value)}")
    on = [key for key, switch in switches.items() if switch]
    if wrong:
        return
    if "fp16" in on and len(on) > 1:
        found.refuse("fp16", given["fp16"], "bf16 and fp16 cannot both be true; write precision: bf16")
        return
    if on:
        key, chosen = on[0], on[0].removeprefix("pure_")
    elif "bf16" in switches:
        key, chosen = "bf16", "fp32"  # bf16: false means full precision; fp16: false alone leaves the choice to auto
    else:
        return
    if "pure_bf16" in on:
        found.ignore("pure_bf16", given["pure_bf16"], "trained weights stay float32; the computation is in bf16")
    own = found.entries.get("precision")
    shown = f"{key}: {as_yaml(given[key].value)}"
    if own is None:
        found.entries["precision"] = ConfigEntry(chosen, given[key].where)
        found.notices.append(f"{shown} is read as precision: {chosen}")
    elif own.value != chosen:
        found.refuse(key, given[key], f"{shown} and precision: {as_yaml(own.value)} disagree; keep precision")


def _mixing(entries: Mapping[str, ConfigEntry], found: Translated) -> None:
    """LLaMA-Factory's `mix_strategy` and `interleave_probs`, as the weights of `dataset`."""
    given = {key: entries[key] for key in _MIXING if key in entries and entries[key].value is not None}
    dataset = found.entries.get("dataset")
    names = (_parts(dataset.value) if dataset else None) or []
    strategy = str(given["mix_strategy"].value) if "mix_strategy" in given else "concat"
    if dataset is None or len(names) < 2 or strategy == "concat":
        reason = "all rows of all datasets are used" if len(names) > 1 else "there is one dataset"
        for key, entry in given.items():
            found.ignore(key, entry, reason if dataset else "there is no dataset to mix")
        return
    if strategy != "interleave_under":
        found.refuse(
            "mix_strategy",
            given["mix_strategy"],
            f"mix_strategy: {strategy} is not available, because no row is used twice; write mix_strategy: "
            "interleave_under, which ends when the first dataset is used up",
        )
        return
    shares = _parts(given["interleave_probs"].value) if "interleave_probs" in given else ["1"] * len(names)
    try:
        weights = [float(share) for share in shares or []]
    except ValueError:
        weights = []
    if len(weights) != len(names) or not all(weight > 0 for weight in weights):
        entry = given["interleave_probs"]
        problem = f"{as_yaml(entry.value)} must be {len(names)} numbers above 0, one for each dataset"
        found.refuse("interleave_probs", entry, f"interleave_probs: {problem}")
        return
    mixture = dict(zip(names, weights, strict=True))
    found.entries["dataset"] = ConfigEntry(mixture, dataset.where)
    shown = ", ".join(f"{name}: {weight:g}" for name, weight in mixture.items())
    found.notices.append(f"mix_strategy: interleave_under is read as dataset: {{{shown}}}")


def _parts(value: object) -> list[str] | None:
    """Names or numbers with commas, or a list of them; None for anything else."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, int | float):
        return [str(value)]
    return [str(part) for part in value] if isinstance(value, list) else None
