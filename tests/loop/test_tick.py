"""The cycle with a clock that is set by hand: four weeks, interruptions everywhere, edits, people, two ticks."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from loop_world import LOOP, MONDAY, Killed, World, make_world
from palate.artifacts import read_json, read_jsonl
from palate.data.formats.writers import write_rows
from palate.errors import ConfigError, PalateError, UsageError
from palate.loop import tick as tick_module
from palate.loop.canary import CanaryVerdict
from palate.loop.plan import plan
from palate.loop.process import sole_tick
from palate.loop.status import loop_status
from palate.loop.steps import deploy
from palate.loop.tick import abandon
from palate.registry import canary_of, decide, find, moves, promote, rollback, verdicts
from palate.registry.canary import AUTOMATON
from palate.store import Store
from palate.store.loop_tables import Cycle, CycleStep
from palate.store.tables import VoteRow

AT_ONCE = LOOP + "schedule: none\ndeploy: on_pass\nforce_days: 0\n"
JUDGED = AT_ONCE.replace("{people: {days: 1}}", "{judge: 'length:longer'}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the loop's commands work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALATE_STORE", "")
    return tmp_path


def world_in(place: Path, store: Store, loop: str = LOOP) -> World:
    return make_world(place, store, store.engine.url.render_as_string(hide_password=False), loop)


@pytest.fixture
def world(place: Path, sqlite_store: Store) -> World:
    return world_in(place, sqlite_store)


def decide_last(world: World, action: Any, candidate: str) -> None:
    found = world.store.read(lambda session: verdicts(session, candidate))
    decide(world.store, found[-1].id, action, who="ann", reason="read 20 answers")


def outcomes(world: World) -> list[str | None]:
    query = select(Cycle.outcome).order_by(Cycle.number)
    return list(world.store.read(lambda session: session.scalars(query).all()))


def until_friday(world: World) -> Any:
    """A week of one cycle from its Monday on, up to what Friday's tick says."""
    world.talk()
    assert world.tick().done[-1] == "candidates"
    number = len(outcomes(world))
    world.pass_days(1)
    assert world.tick().waiting.on == "people"
    assert world.vote(f"support-{number:04d}") == 4
    assert world.tick().done == ["annotate", "pairs"]
    world.pass_days(1)
    assert world.tick().done == ["train"]
    world.pass_days(1)
    thursday = world.tick()
    world.pass_days(1)
    return thursday


def test_four_weeks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PASS that is signed, an INCONCLUSIVE, a FAIL that is forced, and a PASS whose canary is ended."""
    world.verdicts = ["PASS", "INCONCLUSIVE", "FAIL", "PASS"]
    said = ["PASS"]
    monkeypatch.setattr(deploy, "read_arms", lambda session, alias, now: None)
    monkeypatch.setattr(deploy, "decide_canary", lambda arms, config: CanaryVerdict(said[0], ("by hand",), ()))
    # 1: signed on Friday
    assert until_friday(world).done == ["evaluate", "gate", "canary"]
    friday = world.tick()
    assert (friday.done, friday.waiting.on) == ([], "people")
    assert "palate loop sign v1.1" in friday.waiting.next_act
    decide_last(world, "sign", "v1.1")
    assert world.tick().outcome == "deployed"
    assert find(world.store, "production").name == "v1.1"
    # 2: inconclusive; nobody forces it until Sunday
    assert world.tick().waiting.until == MONDAY.replace(hour=0) + timedelta(days=7)
    world.pass_days(3)
    thursday = until_friday(world)
    assert (thursday.done, thursday.waiting.on) == (["evaluate", "gate"], "people")
    assert world.tick().outcome is None
    world.pass_days(2)
    assert world.tick().outcome == "rejected"
    said_next = world.store.read(lambda session: loop_status(session, "support")).next_act
    assert "palate loop force v1.2, then palate model promote" in said_next
    log = world.folder / "log"
    assert world.palate("loop", "reject", "v1.2", "--reason", "read it", "--store", world.store.url, log=log) == 0
    assert "its cycle has ended" not in log.read_text()
    assert world.palate("loop", "force", "v1.2", "--reason", "read it", "--store", world.store.url, log=log) == 0
    assert "its cycle has ended and deploys nothing; palate model promote v1.2" in " ".join(log.read_text().split())
    # 3: a FAIL is forced on Friday, and goes through a canary that the config of this cycle has
    (world.folder / "loop.yaml").write_text(LOOP + "canary: {share: 0.2}\n")
    world.pass_days(1)
    until_friday(world)
    decide_last(world, "force", "v1.3")
    said[0] = "HOLD"
    assert world.tick().waiting.on == "traffic"
    running = world.store.read(canary_of)
    assert (running.version, running.share, running.who) == ("v1.3", 0.2, "palate")
    said[0] = "PASS"
    assert world.tick().outcome == "deployed"
    assert find(world.store, "production").name == "v1.3"
    # 4: a PASS, but its canary is worse: the automaton ends it and nothing else
    said[0] = "ZERO"
    world.pass_days(3)
    thursday = until_friday(world)
    assert (thursday.done, thursday.outcome) == (["evaluate", "gate", "canary", "debug"], "rejected")
    assert world.store.read(canary_of) is None
    assert find(world.store, "production").name == "v1.3"
    assert outcomes(world) == ["deployed", "rejected", "deployed", "rejected"]
    windows = world.store.read(_windows)
    assert windows[0][0] is None
    assert all(before[1] == after[0] for before, after in pairwise(windows))
    who = {(move.version, move.who) for move in moves(world.store) if move.alias == "production"}
    assert who == {("v1.0", "ann"), ("v1.1", "palate"), ("v1.3", "palate")}


def _windows(session: Any) -> list[tuple[str | None, str]]:
    rows = session.scalars(select(CycleStep).where(CycleStep.name == "collect").order_by(CycleStep.cycle_id))
    return [(row.output["figures"]["since"], row.output["figures"]["until"]) for row in rows]


def facts(world: World) -> dict[str, Any]:
    """What must not depend on interruptions."""
    steps = {step.name: step for step in world.store.read(lambda session: loop_status(session, "support")).steps}
    read = world.store.read
    return {
        "states": {name: step.state for name, step in steps.items()},
        "train": (world.folder / "cycles/0001/pairs/mix/train.jsonl").read_bytes(),
        "model": steps["train"].figures["content_hash"],
        "outcome": outcomes(world),
        "production": find(world.store, "production").name,
        "moves": [(move.alias, move.version, move.who) for move in moves(world.store)],
        "verdicts": [(one.outcome, one.attempt) for one in read(lambda session: verdicts(session, "v1.1"))],
        "votes": read(lambda session: len(session.scalars(select(VoteRow.id)).all())),
    }


def finish(world: World) -> int:
    """Tick, with people who vote, until the cycle has ended; how often."""
    for number in range(200):
        try:
            ticked = world.tick()
        except Killed:
            if outcomes(world)[:1] not in ([], [None]):
                return number + 1
            continue
        if ticked.outcome is not None:
            return number + 1
        if ticked.waiting is not None and ticked.waiting.on == "people":
            world.vote("support-0001")
    raise AssertionError("the cycle does not end")


def test_killed_before_and_after_every_command_the_result_is_the_same(
    place: Path, tmp_path: Path, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the commit of a step's end and the next step: the ledger is all that the next tick has."""
    from palate.store import open_store

    found = []
    for name, interrupted in (("whole", False), ("killed", True)):
        folder = place / name
        folder.mkdir()
        url = f"sqlite:///{folder / 'palate.db'}"
        store = open_store(url)
        world = make_world(folder, store, url, AT_ONCE)
        seen: Counter[tuple[Any, ...]] = Counter()

        def interrupt(words: tuple[str, ...], has_run: bool, seen: Counter[tuple[Any, ...]] = seen) -> None:
            seen[(words, has_run)] += 1
            if seen[(words, has_run)] == 1:
                raise Killed

        real = tick_module.save_step

        def save_step(*given: Any, seen: Counter[tuple[Any, ...]] = seen, real: Any = real, **rest: Any) -> None:
            """Each step is killed before and after each of its commits."""
            commit = (*given[2:3], rest.get("state"), len((rest.get("output") or {}).get("ran", ())))
            seen[commit] += 1
            if seen[commit] == 1:
                raise Killed
            real(*given, **rest)
            seen[commit] += 1
            if seen[commit] == 3:
                raise Killed

        if interrupted:
            world.interrupt = interrupt
            monkeypatch.setattr(tick_module, "save_step", save_step)
        world.talk()
        ticks = finish(world)
        monkeypatch.setattr(tick_module, "save_step", real)
        assert ticks > 30 if interrupted else ticks == 2
        found.append({key: value for key, value in facts(world).items() if key not in ("train", "model")})
        store.close()
    assert found[0] == found[1]
    assert found[0]["votes"] == 4
    assert found[0]["verdicts"] == [("PASS", 1)]


@pytest.mark.parametrize("verb", ["generate", "eval"])
def test_a_step_that_fails_says_why_and_is_tried_again(verb: str, world: World) -> None:
    (world.folder / "loop.yaml").write_text(AT_ONCE)
    world.talk()
    failed = []

    def fail(words: tuple[str, ...], has_run: bool) -> None:
        if words[0] == verb and not has_run and not failed:
            failed.append(words)
            raise PalateError("no space left on the disk; free some")

    world.interrupt = fail
    first = world.tick()
    if first.failed is None:
        world.vote("support-0001")
        first = world.tick()
    assert first.failed is not None
    assert "free some" in first.failed[1]
    status = world.store.read(lambda session: loop_status(session, "support"))
    state = next(step for step in status.steps if step.name == first.failed[0])
    assert (state.state, state.attempts) == ("failed", 1)
    assert "tries again" in status.next_act
    finish(world)
    assert outcomes(world) == ["deployed"]


def test_two_ticks_at_once(store: Store, place: Path) -> None:
    world = world_in(place, store)
    with sole_tick(store, world.loop.folder, "support") as free:
        assert free
        ticked = world.tick()
        assert (ticked.busy, ticked.done) == (True, [])
        with pytest.raises(UsageError, match="stop it first"):
            abandon(world.loop, "late", MONDAY)
        with sole_tick(store, place / "another machine", "support") as second:
            assert second == store.is_sqlite  # PostgreSQL knows of ticks elsewhere
    assert not world.tick().busy


def test_a_cycle_on_each_database(store: Store, place: Path) -> None:
    world = world_in(place, store, JUDGED)
    world.talk()

    def run(words: Any, log: Path) -> int:
        with log.open("a") as file:
            file.write("to ask: 8 requests, about $0.01\n" if words[0] == "judge" else "")
        return world.run(words, log)

    assert {step.seconds for step in plan(world.loop, world.clock.now)} == {None}
    assert tick_module.tick(world.loop, run, now=world.clock).outcome == "deployed"
    planned = {step.name: step for step in plan(world.loop, world.clock.now)}
    assert planned["annotate"].cost == "8 requests, about $0.01"
    assert planned["train"].seconds is not None
    assert planned["candidates"].requests == "4 answers of v1.1"
    assert find(store, "production").name == "v1.1"
    status = store.read(lambda session: loop_status(session, "support"))
    assert status.cycle is None
    assert [step.state for step in status.steps] == [*["done"] * 8, "skipped", "done", "not begun"]
    assert status.past[0].why == "the config has deploy: on_pass"
    assert status.past[0].outcome == "deployed"


def test_an_edit_counts_from_the_next_cycle(world: World) -> None:
    world.talk()
    world.tick()
    (world.folder / "loop.yaml").write_text(LOOP.replace("days: 1", "days: 5"))
    world.pass_days(1)
    ticked = world.tick()
    assert ticked.edited
    assert ticked.waiting.until == world.clock.now + timedelta(days=1)


def test_a_forgotten_persons_rows_are_not_trained_on(world: World) -> None:
    """What is removed from a file of the cycle before the verdict is gone from all that was made of it."""
    world.talk()
    world.tick()
    world.pass_days(1)
    world.tick()
    world.vote("support-0001")
    world.tick()
    train = world.folder / "cycles/0001/pairs/mix/train.jsonl"
    before = train.read_text().splitlines()
    assert len(before) == 4
    file = world.folder / "cycles/0001/candidates/candidates.jsonl"
    rows = file.read_text().splitlines(keepends=True)
    sampled = world.folder / "cycles/0001/sample/candidates.jsonl"
    sampled.write_text("".join(sampled.read_text().splitlines(keepends=True)[1:]))
    assert world.tick().done[:2] == ["candidates", "annotate"]
    assert file.read_text().splitlines(keepends=True) == rows[1:]


def test_clocks(world: World) -> None:
    """A clock that jumps back waits; one that jumped ahead closes no window over what is still to come."""
    (world.folder / "loop.yaml").write_text(JUDGED)
    world.talk()
    true = world.clock.now
    for jump in (timedelta(days=400), timedelta(minutes=5)):
        world.clock.now = true + jump
        assert world.tick(until="collect").done == ["collect"]
        world.store.write(lambda session: session.execute(update(Cycle).values(outcome="rejected")))
        world.clock.now = true + timedelta(minutes=1)
        world.talk()
    windows = world.store.read(_windows)
    assert [window[1][:10] for window in windows] == ["2100-02-01", "2100-02-01"]
    assert windows[0][1] == windows[1][0]
    world.clock.now = true - timedelta(days=9)
    ticked = world.tick()
    assert (ticked.done, ticked.waiting.on) == ([], "traffic")


def test_an_abandoned_cycles_interactions_are_collected_again(world: World) -> None:
    world.talk()
    world.tick()
    assert abandon(world.loop, "wrong judge", world.clock.now) == 1
    status = world.store.read(lambda session: loop_status(session, "support"))
    assert (status.past[0].outcome, status.past[0].why) == ("abandoned", "wrong judge")
    with pytest.raises(UsageError, match="no cycle that goes on"):
        abandon(world.loop, "again", world.clock.now)
    assert world.tick().cycle == 2
    windows = world.store.read(_windows)
    assert windows[0] == windows[1]


def test_nothing_is_deployed_over_a_person(world: World) -> None:
    (world.folder / "loop.yaml").write_text(JUDGED.replace("on_pass", "person"))
    world.talk()
    world.tick()
    decide_last(world, "sign", "v1.1")
    promote(world.store, "v1.1", reason="at once", who="ann")
    promote(world.store, "v1.0", reason="back", who="ann")
    from model_folders import fake_model
    from palate.registry import add

    add(world.store, fake_model(world.folder / "other", 9.0), models_dir=world.folder / "models", who="bob")
    promote(world.store, "v1.2", reason="urgent", who="bob")
    assert world.tick().outcome == "abandoned"
    assert find(world.store, "production").name == "v1.2"


def test_a_rejected_pass_is_not_deployed(world: World) -> None:
    (world.folder / "loop.yaml").write_text(JUDGED.replace("on_pass", "person"))
    world.talk()
    assert world.tick().waiting.on == "people"
    decide_last(world, "reject", "v1.1")
    ticked = world.tick()
    assert (ticked.done, ticked.outcome) == (["deploy", "debug"], "rejected")
    assert (world.folder / "cycles/0001/debug/debug.json").is_file()
    assert find(world.store, "production").name == "v1.0"


def test_a_candidate_that_was_rolled_back_is_not_deployed_again(world: World) -> None:
    until_friday(world)
    promote(world.store, "v1.1", reason="I am sure", who="ann")
    rollback(world.store, reason="worse than v1.0: errors", who=AUTOMATON)
    decide_last(world, "sign", "v1.1")
    ticked = world.tick()
    assert (ticked.outcome, find(world.store, "production").name) == ("rejected", "v1.0")
    assert ticked.why == "v1.1 was rolled back, and only a person promotes it again: worse than v1.0: errors"


def test_held_out_prompts_of_an_imported_set_are_not_trained_on(world: World) -> None:
    rows = [{"prompt": f"imported {n}", "chosen": "yes", "rejected": "no"} for n in range(3)]
    rows.append({"prompt": "held out prompt with the number 3", "chosen": "yes", "rejected": "no"})
    write_rows(world.folder / "old.jsonl", rows)
    (world.folder / "loop.yaml").write_text(JUDGED + "sources: {judge: 1.0, old.jsonl: 0.5}\n")
    world.talk()
    assert world.tick().outcome == "deployed"
    mixed = world.folder / "cycles/0001/pairs/mix"
    trained = {row["prompt"][0]["content"] for row in read_jsonl(mixed / "train.jsonl")}
    assert {text for text in trained if "question" not in text} == {"imported 0", "imported 1", "imported 2"}
    assert [row["reason"] for row in read_json(mixed / "data.json")["left_out"]] == ["in_evaluation"]


def test_without_pairs_the_cycle_is_abandoned(world: World) -> None:
    (world.folder / "loop.yaml").write_text(AT_ONCE)
    world.talk()
    assert world.tick().waiting.on == "people"
    world.pass_days(1)  # the deadline, and nobody voted
    ticked = world.tick()
    assert (ticked.done, ticked.outcome) == (["annotate", "pairs"], "abandoned")


def test_a_loop_without_a_gateway(world: World) -> None:
    prompts = [{"prompt": f"what is the weather of day {n} like"} for n in range(9)]
    prompts.append({"prompt": "held out prompt with the number 3"})
    write_rows(world.folder / "prompts.jsonl", prompts)
    text = JUDGED.replace("{at_least: 5, sample: 4, settle_minutes: 0}", "{prompts: prompts.jsonl, sample: 4}")
    (world.folder / "loop.yaml").write_text(text + "sources: {judge: 1.0}\n")
    assert world.tick().outcome == "deployed"
    drawn = read_jsonl(world.folder / "cycles/0001/sample/prompts.jsonl")
    assert [row["inclusion_probability"] for row in drawn] == [pytest.approx(4 / 9)] * 4


def test_what_is_wrong_is_said_before_anything_runs(world: World) -> None:
    (world.folder / "gate.yaml").write_text("prompts: none.jsonl\nn: 100\njudge: j\nmust_pass: 3\n")
    (world.folder / "loop.yaml").write_text(LOOP + "sources: {people: 1, thumbs: 1}\n")
    with pytest.raises(ConfigError) as found:
        world.tick()
    text = "\n".join(found.value.lines)
    for part in (
        "gate.yaml: prompts: there is no file none.jsonl",
        "must_pass is missing",
        "card is missing",
        "stage: kto",
    ):
        assert part in text, text
    assert outcomes(world) == []
    assert not (world.folder / "cycles/0001").exists()


def test_prompts_are_read_before_anything_runs(world: World) -> None:
    (world.folder / "gate.yaml").write_text("prompts: heldout.jsonl\nn: 101\njudge: lexicon:good\njudge_card: false\n")
    (world.folder / "empty.jsonl").write_text("")
    text = JUDGED.replace("{at_least: 5, sample: 4, settle_minutes: 0}", "{prompts: empty.jsonl}")
    text = text.replace("length:longer", "no.py:score")
    (world.folder / "loop.yaml").write_text(text + "sources: {judge: 1.0}\n")
    with pytest.raises(ConfigError) as found:
        world.tick()
    assert found.value.lines == (
        "loop.yaml: annotate: judge is no.py:score, and there is no file no.py",
        "gate.yaml: heldout.jsonl: has 100 prompts, but the gate's config has n: 101",
        "loop.yaml: collect: empty.jsonl: there is no row in it",
    )


def test_no_step_after_until_runs_even_if_that_one_is_done(world: World) -> None:
    (world.folder / "loop.yaml").write_text(JUDGED)
    world.talk()
    assert world.tick(until="candidates").done == ["collect", "sample", "candidates"]
    again = world.tick(until="candidates")
    assert (again.done, again.waiting, again.outcome) == ([], None, None)
    ended = world.tick()
    assert ended.done[0] == "annotate"
    assert (ended.outcome, ended.why) == ("deployed", "the config has deploy: on_pass")


def test_the_incumbent_must_be_there(place: Path, sqlite_store: Store) -> None:
    world = world_in(place, sqlite_store, LOOP + "alias: chat\n")
    with pytest.raises(ConfigError, match=r"palate model promote v1\.0 --alias chat"):
        world.tick()
