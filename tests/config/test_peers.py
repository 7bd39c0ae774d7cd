"""Keys of other trainers: mapped or idle, each with one line."""

from __future__ import annotations

import pytest

from palate.config.peers import FIXED, KNOWN_ELSEWHERE, NO_EFFECT, RENAMED, translate
from palate.config.reader import Entry
from palate.config.run import STAGES
from palate.errors import ConfigError

KNOWN = {name for config_class in STAGES.values() for name in config_class.model_fields}


def entries(**values: object) -> dict[str, Entry]:
    return {key: Entry(value, f"run.yaml:{line}") for line, (key, value) in enumerate(values.items(), 1)}


@pytest.mark.parametrize("key", sorted(RENAMED))
def test_a_renamed_key_keeps_its_value(key: str) -> None:
    ours, notices = translate(entries(**{key: "value"}))
    assert ours == {RENAMED[key]: Entry("value", "run.yaml:1")}
    assert notices == [f"{key} is read as {RENAMED[key]}"]


@pytest.mark.parametrize("key", sorted(NO_EFFECT))
def test_an_idle_key_is_one_line_and_nothing_else(key: str) -> None:
    ours, notices = translate(entries(**{key: True, "seed": 1}))
    assert list(ours) == ["seed"]
    assert len(notices) == 1
    assert notices[0].startswith(f"{key} has no effect here: ")


@pytest.mark.parametrize("key", sorted(FIXED))
def test_a_fixed_key_speaks_only_when_it_disagrees(key: str) -> None:
    agrees = FIXED[key][0]
    assert translate(entries(**{key: agrees})) == ({}, [])
    ours, notices = translate(entries(**{key: not agrees}))
    assert ours == {}
    assert len(notices) == 1
    assert notices[0].startswith(f"{key}: {'false' if agrees else 'true'} has no effect here")


def test_no_key_is_both_ours_and_a_peers() -> None:
    assert not KNOWN & {*RENAMED, *NO_EFFECT, *FIXED, *KNOWN_ELSEWHERE, "bf16", "fp16"}


def test_what_is_mapped_or_offered_exists() -> None:
    assert {*RENAMED.values(), *KNOWN_ELSEWHERE.values()} <= KNOWN


@pytest.mark.parametrize(
    ("switches", "precision"),
    [
        ({"fp16": True}, "fp16"),
        ({"bf16": True}, "bf16"),
        ({"bf16": True, "fp16": False}, "bf16"),
        ({"bf16": False, "fp16": True}, "fp16"),
        ({"bf16": False}, "fp32"),
        ({"bf16": False, "fp16": False}, "fp32"),
        ({"fp16": False}, None),
        ({"bf16": None, "fp16": None}, None),
    ],
)
def test_two_switches_are_one_choice(switches: dict[str, bool | None], precision: str | None) -> None:
    ours, notices = translate(entries(**switches))
    assert {key: entry.value for key, entry in ours.items()} == ({} if precision is None else {"precision": precision})
    assert len(notices) == (precision is not None)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bf16": True, "fp16": True}, "cannot both be true"),
        ({"bf16": "yes please"}, "bf16 must be true or false, not yes please"),
        ({"fp16": True, "precision": "bf16"}, "disagree"),
        ({"evaluation_strategy": "steps", "eval_strategy": "no"}, "the same setting; keep eval_strategy"),
    ],
)
def test_what_contradicts_itself_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        translate(entries(**values))


def test_what_says_the_same_twice_is_not() -> None:
    ours, _ = translate(entries(fp16=True, precision="fp16"))
    assert ours["precision"].value == "fp16"
