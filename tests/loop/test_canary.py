"""The decision on a canary: few answers hold, one error ends nothing, what is worse ends, what is as good passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_folders import fake_model
from palate.errors import UsageError
from palate.loop.canary import ArmOutcomes, Arms, CanaryFields, decide_canary, read_arms, smallest_found
from palate.registry import add, promote, set_canary
from palate.serving.recording import Recorder, shared_secret
from palate.serving.recording.entries import NewInteraction, RecordedChoice, State
from palate.serving.recording.feedback import Feedback
from palate.store import Store

CONFIG = CanaryFields()


def values(bad: int, n: int, seed: int = 0) -> list[bool]:
    found = np.arange(n) < bad
    np.random.default_rng(seed).shuffle(found)
    return found.tolist()


def arms(
    errors: tuple[tuple[int, int], tuple[int, int]], downs: tuple[tuple[int, int], tuple[int, int]], **facts: Any
) -> Arms:
    """Arms with (bad, n) of incumbent and canary."""
    incumbent, canary = (
        ArmOutcomes(name, values(*of, seed=1), values(*rated, seed=2), of[1])
        for name, of, rated in zip(("v1.0", "v1.1"), errors, downs, strict=True)
    )
    return Arms(canary, incumbent, **{"without": 0, "days": 3.0, **facts})


GOOD = arms(((45, 4500), (5, 500)), ((1800, 9000), (200, 1000)))


def test_as_good_with_enough_answers_passes_after_the_days() -> None:
    found = decide_canary(GOOD, CONFIG)
    assert (found.outcome, [check.state for check in found.checks]) == ("PASS", ["not worse"] * 2)
    early = decide_canary(replace(GOOD, days=1.0), CONFIG)
    assert (early.outcome, len(early.reasons)) == ("HOLD", 1)
    assert "not worse so far; it passes after 2 days" in early.reasons[0]
    assert decide_canary(GOOD, CONFIG) == found


@pytest.mark.parametrize(("bad", "n"), [(1, 1), (1, 3), (2, 10), (19, 19)])
def test_one_error_at_little_traffic_ends_nothing(bad: int, n: int) -> None:
    found = decide_canary(arms(((0, 9 * n), (bad, n)), ((0, 0), (0, 0))), CONFIG)
    assert found.outcome == "HOLD"
    assert f"v1.1 has {n} of the 200 answers that are needed" in found.reasons
    assert "2 days are over: a person promotes or ends the canary" in found.reasons[-1]


def test_worse_beyond_doubt_is_ended_at_once() -> None:
    broken = decide_canary(arms(((0, 180), (20, 20)), ((0, 0), (0, 0)), days=0.01), CONFIG)
    assert broken.outcome == "ZERO"
    assert broken.reasons[0].startswith("worse: errors: 100.0 % of 20, incumbent 0.0 % of 180")
    disliked = decide_canary(arms(((9, 4500), (1, 500)), ((1800, 9000), (500, 1000)), days=0.5), CONFIG)
    assert (disliked.outcome, disliked.checks[1].state) == ("ZERO", "worse")
    ignored = CanaryFields(thumbs_down=None)
    assert decide_canary(arms(((9, 4500), (1, 500)), ((1800, 9000), (500, 1000))), ignored).outcome == "PASS"


def test_a_hold_says_how_many_are_needed_and_so_many_do() -> None:
    found = decide_canary(arms(((45, 4500), (5, 500)), ((360, 1800), (40, 200))), CONFIG)
    assert (found.outcome, found.checks[0].needed) == ("HOLD", None)
    needed = found.checks[1].needed
    assert needed is not None
    assert f"about {needed:,} of the canary are needed" in found.reasons[0]

    def with_thumbs(n: int) -> str:
        even = [[bool((at + 1) * 0.2 // 1 - at * 0.2 // 1) for at in range(size)] for size in (9 * n, n)]
        rated = replace(
            GOOD, incumbent=replace(GOOD.incumbent, downs=even[0]), canary=replace(GOOD.canary, downs=even[1])
        )
        return decide_canary(rated, CONFIG).outcome

    assert (with_thumbs(needed), with_thumbs(int(0.85 * needed))) == ("PASS", "HOLD")
    hopeless = decide_canary(arms(((45, 4500), (5, 500)), ((360, 1800), (62, 200))), CONFIG)
    assert (hopeless.outcome, hopeless.checks[1].needed) == ("HOLD", None)


def test_a_canary_that_is_not_loaded_holds_and_is_said() -> None:
    found = decide_canary(replace(GOOD, without=20), CONFIG)
    assert found.outcome == "HOLD"
    assert "the canary is not loaded" in found.reasons[0]
    nothing = decide_canary(arms(((0, 0), (0, 0)), ((0, 0), (0, 0))), CONFIG)
    assert any("nothing is recorded" in reason for reason in nothing.reasons)


def test_the_smallest_increase_that_is_found_is_found() -> None:
    smallest = smallest_found(CONFIG, 0.1)
    assert CONFIG.errors < smallest["errors"] < 0.15
    assert 0.2 < smallest["thumbs down"] < 0.4
    assert smallest_found(CanaryFields(at_least=2000), 0.1)["errors"] < smallest["errors"]


def outcomes(
    rounds: int, rates: tuple[tuple[float, float], tuple[float, float]], people: tuple[int, int] = (180, 20)
) -> dict[str, float]:
    """How often a canary of 10 % ends each way; ((errors, thumbs down) of incumbent and of canary).

    A confidence sequence never widens again, so who looks at the end sees whether any look on the way would have ended
    the canary. People differ: their own rates are spread around those given.
    """
    rng = np.random.default_rng(0)
    found = {"PASS": 0, "ZERO": 0, "HOLD": 0}
    for _ in range(rounds):
        sides = []
        for (errors, down), size in zip(rates, people, strict=True):
            own = rng.beta(9 * errors, 9 * (1 - errors), size)  # correlation of a person's answers: 0.1
            failed = rng.random((size, 10)) < own[:, None]
            thumbs = rng.random(size) < down
            sides.append(ArmOutcomes("v", rng.permutation(failed.ravel()).tolist(), thumbs.tolist(), size))
        found[decide_canary(Arms(sides[1], sides[0], 0, 3.0), CONFIG).outcome] += 1
    return {outcome: count / rounds for outcome, count in found.items()}


def test_looking_often_ends_an_equal_canary_rarely_and_a_bad_one_nearly_always() -> None:
    assert outcomes(20, ((0.02, 0.2), (0.02, 0.2)))["ZERO"] == 0
    assert outcomes(10, ((0.02, 0.2), (0.3, 0.2)))["ZERO"] >= 0.9


@pytest.mark.slow
def test_error_rates_over_all_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.loop.canary._needed", lambda *_: None)  # the search would take most of the time
    worse = outcomes(300, ((0.02, 0.2), (0.05, 0.3)), (900, 100))
    assert worse["ZERO"] <= 0.05, "worse by just the margins"
    assert worse["PASS"] <= 0.05


START = datetime(2026, 3, 2, tzinfo=UTC)


class Traffic:
    """Recorded interactions of people with both arms, a minute apart."""

    def __init__(self, store: Store) -> None:
        self.now = START
        self.recorder = Recorder(store, secret=shared_secret(store), clock=lambda: self.now)

    def __call__(
        self, version: str, user: str, state: State = "complete", thumbs: Any = None, route: str = "canary:production"
    ) -> str:
        self.now += timedelta(minutes=1)
        entry = NewInteraction(
            endpoint="chat", prompt="x", model=version, policy="metadata", user=user, route=route, probability=0.5
        )
        made = self.recorder.reserve(entry)
        assert made is not None
        if state != "reserved":
            self.recorder.update(made, state, [RecordedChoice("y", "stop")] if state == "complete" else [])
        if thumbs is not None:
            self.thumb(made, thumbs)
        return made

    def thumb(self, interaction: str, thumbs: Any) -> None:
        self.recorder.feedback(self.recorder.feedback_token(interaction), Feedback(thumbs=thumbs))


@pytest.fixture
def registry(store: Store, tmp_path: Path) -> Store:
    for number in range(2):
        add(store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="t")
    promote(store, "v1.0", reason="r", who="t")
    return store


def test_arms_are_read_with_each_person_counted_once(registry: Store) -> None:
    traffic = Traffic(registry)
    traffic("v1.1", "early")
    set_canary(registry, "v1.1", 0.5, who="t", reason="r", now=traffic.now + timedelta(seconds=1))
    for state in ("complete", "upstream_error", "partial", "cancelled", "reserved", "streaming"):
        traffic("v1.1", "ann", state)  # type: ignore[arg-type]
    for _ in range(25):  # more than count of one person
        traffic("v1.1", "busy", "upstream_error")
    traffic("v1.0", "bob", thumbs="up")
    mind = traffic("v1.0", "cy", thumbs="down")
    traffic("v1.0", "cy", thumbs="down")
    traffic.thumb(mind, "up")
    traffic("v1.1", "ann", thumbs="down")
    traffic("v1.1", "ann", thumbs="up")
    traffic("v1.0", "dee", route="chat", state="upstream_error")
    found = registry.read(lambda session: read_arms(session, now=START + timedelta(days=2)))
    assert (found.canary.version, found.canary.people) == ("v1.1", 2)
    assert list(found.canary.errors) == [False, True, True, *[True] * 20, False, False]
    assert (list(found.incumbent.errors), list(found.canary.downs)) == ([False] * 3, [True])
    assert sorted(found.incumbent.downs) == [False, True], "cy's first thumb that holds"
    assert (found.without, round(found.days, 2)) == (1, 2.0), "dee's"
    for number in range(24):
        traffic("v1.0", "bob", route="shadow:m" if number < 4 else "chat" if number < 10 else "")
    for now, without in ((traffic.now, 0), (traffic.now + timedelta(hours=1), 21)):
        assert registry.read(lambda session, now=now: read_arms(session, now=now)).without == without


def test_an_alias_without_a_canary_has_no_arms(registry: Store) -> None:
    with pytest.raises(UsageError, match="production has no canary"):
        registry.read(read_arms)
