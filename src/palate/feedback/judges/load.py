"""Judges by name, as options and configs give them."""

from __future__ import annotations

import re
from pathlib import Path

from palate.data.scores import WinShare, rule_score
from palate.errors import ConfigError
from palate.feedback.judges.scores import ScoreJudge
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judges.usage import UsageMeter
from palate.plugins import load_plugin
from palate.records import Judge, RewardFunction

API = "openai:"
JURY = "jury:"

_WITHOUT_SCHEME = re.compile(r"@((?:localhost|[^@/\s]+:\d+|[^@/\s]+\.[^@/\s]+(?=/))(?:/\S*)?)$")
"""The address in `openai:MODEL@127.0.0.1:8000/v1`; a model's own name may have an @ too (`text-bison@001`)."""


def load_judge(spec: str, *, key: str = "--judge", settings: ApiSettings | None = None) -> Judge:
    """Load a judge.

    | spec                                    | prefers the answer                                |
    |-----------------------------------------|---------------------------------------------------|
    | `length:shorter`, `length:longer`       | that is shorter or longer                         |
    | `lexicon:FILE`, `lexicon:thanks,-damn`  | with the higher mean weight of the listed words   |
    | `module:function`, `file.py:function`   | with the higher `function(prompts, completions, …)` |
    | a folder                                | with the higher reward of the model in it         |
    | `openai:MODEL`, `openai:MODEL@URL`      | that the chat model names; `URL,URL=2` for several endpoints of it |
    | `jury:SPEC,SPEC,…`                      | that the majority of these judges prefers         |

    Args:
        key: the config key or option, for messages.
        settings: of judges over an API; by default as `palate judge` has them.

    Raises:
        ConfigError: there is no such judge.
        ModelError: the folder has no reward model.
        EngineError: the URL is not one.
    """
    settings = settings or ApiSettings()
    return _load(spec, key, settings, UsageMeter(settings.prices, settings.limits))


def members_of(spec: str) -> list[str]:
    """The names of a jury's members; of another judge, its own."""
    if not spec.startswith(JURY):
        return [spec]
    return [name.strip() for name in re.split(r",(?!\s*https?://)", spec.removeprefix(JURY))]


def is_api_judge(spec: str) -> bool:
    """Whether the judge, or a member of the jury, is asked over an API."""
    return any(member.startswith(API) for member in members_of(spec))


def judge_reward(spec: str) -> RewardFunction:
    """Load a judge as a reward function for a config's `rewards`: the reward is the answer's share of wins."""
    return WinShare(load_judge(spec, key="rewards"))


def _load(spec: str, key: str, settings: ApiSettings, meter: UsageMeter) -> Judge:
    if spec.startswith(JURY):
        from palate.feedback.judges.jury import Jury  # with the store, which rules do not need

        members = members_of(spec)
        if len(members) < 2 or len(set(members)) < len(members) or not all(members):
            raise ConfigError(f"{key}: {spec}: a jury has two or more different judges, with commas")
        judges = [_load(member, key, settings, meter) for member in members]
        if len({judge.name for judge in judges}) < len(judges):
            raise ConfigError(f"{key}: {spec}: two members would vote under one name; a model sits on a jury once")
        return Jury(judges)
    if spec.startswith(API):
        from palate.feedback.judges.api import ApiJudge

        model, at, url = spec.removeprefix(API).rpartition("@http")
        model, base_url = (model, f"http{url}") if at else (spec.removeprefix(API), None)
        address = _WITHOUT_SCHEME.search(model)
        if not at and address is not None:  # else the text would go to the default endpoint, with its key
            raise ConfigError(f"{key}: {spec}: the URL needs its scheme; write {API}MODEL@http://{address[1]}")
        if not model.strip():
            raise ConfigError(f"{key}: {spec} names no model; write openai:MODEL or openai:MODEL@URL")
        return ApiJudge(model.strip(), settings, base_url=base_url, meter=meter)

    if Path(spec).is_dir():
        from palate.models.reward_model import RewardModel  # torch, which rules do not need

        return ScoreJudge(spec, RewardModel(spec), log_odds=True)
    make = load_plugin("judges", spec)
    if make is not None:
        judge: Judge = make()
        return judge
    score = rule_score(spec, key)
    if score is None:
        raise ConfigError(
            f"{key}: {spec} is not a rule, a function or a folder; write openai:{spec} for a chat model, "
            "length:shorter, lexicon:FILE, module:function or file.py:function"
        )
    return ScoreJudge(spec, score)
