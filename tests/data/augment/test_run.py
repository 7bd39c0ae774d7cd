"""Every new pair differs from what it was made of, says how it was made, and keeps to the plan."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import load_records
from palate.data.augment import CORRUPTIONS, AugmentModels, AugmentPlan, augment, corrupt, read_plan
from palate.data.augment.reword import paraphrased, reworded, swapped_context
from palate.data.augment.sampled import judged_pair, revised, reward_scores
from palate.data.formats.rows import same_text
from palate.data.scores import WinShare
from palate.data.turns.cells import RowError
from palate.errors import ConfigError, DataError, UsageError
from palate.records import Columns, Message, Messages, PreferencePair, Verdict


def pair(number: int, chosen: str, rejected: str = "no idea", prompt: str = "", system: str = "") -> PreferencePair:
    asked = (Message("user", prompt or f"What's question {number} about?"),)
    return PreferencePair(
        id=f"f.jsonl:{number}",
        prompt=(Message("system", system), *asked) if system else asked,
        chosen=(Message("assistant", chosen),),
        rejected=(Message("assistant", rejected),),
        margin=3.0,
    )


TRIP = pair(
    1, "In 1969 the crew of Neil Armstrong flew 384,400 km. Later, Michael Collins gave 3.5 talks. It took 8 days."
)
POTATOES = pair(
    2, "Wash the potatoes, boil them for 20 minutes in salted water, and drain them. Then ask Maria for butter."
)
OTHERS = [TRIP, POTATOES]


class Echo:
    """A sampler that answers from a list, and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def sample(
        self, prompts: Sequence[Messages], k: int, *, seed: int, tools: Sequence[str | None] | None = None
    ) -> list[list[str]]:
        self.asked += [prompt[-1].content for prompt in prompts]
        return [[self.answers.pop(0) for _ in range(k)] for _ in prompts]


class LongerWins:
    name = "longer"

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        return [
            Verdict("tie" if len(a) == len(b) else "left" if len(a) > len(b) else "right") for a, b in zip(left, right)
        ]


@pytest.mark.parametrize("how", ["dropped_end", "swapped_numbers", "swapped_names", "repetition", "other_topic"])
@pytest.mark.parametrize("seed", range(5))
def test_each_corruption_changes_the_answer_and_says_so(how: str, seed: int) -> None:
    worse = corrupt(TRIP, how, OTHERS, seed)
    assert worse.chosen == TRIP.chosen
    assert not same_text(worse.rejected, worse.chosen)
    assert worse.margin is None
    assert worse.id == f"f.jsonl:1#{how}"
    made = worse.extra["made"]
    assert (made["how"], made["source"], made["seed"], made["model"]) == (how, "f.jsonl:1", seed, "")
    assert made["note"]
    assert corrupt(TRIP, how, OTHERS, seed) == worse  # the same draws again


def text_of(how: str, record: PreferencePair = TRIP, seed: int = 0) -> str:
    return corrupt(record, how, OTHERS, seed).rejected[0].content


def test_what_the_corruptions_do() -> None:
    answer = TRIP.chosen[0].content
    dropped = text_of("dropped_end")
    assert answer.startswith(dropped)
    assert 0.45 < len(dropped) / len(answer) <= 0.8
    numbers = text_of("swapped_numbers")
    for said in ("1969", "384,400", "3.5", "8 days"):
        assert said not in numbers
    assert numbers.startswith("In ")
    swapped = text_of("swapped_names")
    assert swapped.index("Michael Collins") < swapped.index("Neil Armstrong")
    repeated = text_of("repetition")
    sentences = [part.strip() for part in answer.replace("3.5", "3_5").split(".")]
    assert max(repeated.replace("3.5", "3_5").count(part) for part in sentences if part) in (3, 4, 5)
    assert text_of("other_topic") == POTATOES.chosen[0].content


@pytest.mark.parametrize("number", ["20000000000000000000", "9" * 5000])
def test_a_number_too_long_to_count_with_changes_in_one_digit(number: str) -> None:
    changed = corrupt(pair(9, number), "swapped_numbers", OTHERS, 0).rejected[0].content
    assert sum(old != new for old, new in zip(number, changed, strict=True)) == 1


def test_an_ignored_system_text_takes_what_another_one_called_for() -> None:
    brief = pair(3, "Yes.", prompt="Is it?", system="Answer in one word.")
    long = pair(4, "Well, let me tell you all about it.", prompt="Is it?", system="Tell long stories.")
    else_ = pair(5, "Bread needs flour.", prompt="Bread?", system="You are a baker.")
    assert corrupt(brief, "ignored_system", [else_, long, brief], 0).rejected == long.chosen
    with pytest.raises(RowError, match="no_system"):
        corrupt(TRIP, "ignored_system", [long], 0)


@pytest.mark.parametrize(
    ("how", "answer", "reason"),
    [
        ("dropped_end", "Short.", "too_short"),
        ("swapped_numbers", "No digits at all here.", "no_number"),
        ("swapped_names", "no names at all here.", "no_name"),
    ],
)
def test_an_answer_that_cannot_be_made_worse_is_refused(how: str, answer: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        corrupt(pair(9, answer), how, OTHERS, 0)
    assert caught.value.reason == reason


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=120), st.sampled_from(sorted(CORRUPTIONS)), st.integers(0, 3))
def test_no_corruption_ever_leaves_the_answer_as_it_was(answer: str, how: str, seed: int) -> None:
    try:
        made = corrupt(pair(7, answer), how, OTHERS, seed)
    except RowError:
        return
    assert not same_text(made.chosen, made.rejected)
    assert made.rejected[-1].content.strip()


def test_rewording_keeps_the_answers_and_the_question() -> None:
    for seed in range(10):
        new = reworded(TRIP, seed)
        assert (new.chosen, new.rejected) == (TRIP.chosen, TRIP.rejected)
        assert "What is question 1 about?" in new.prompt[0].content
        assert new.prompt != TRIP.prompt


def test_a_paraphrase_must_be_one() -> None:
    new = paraphrased(TRIP, Echo('"Tell me what question 1 deals with."'), "writer", 0)
    assert new.prompt[0].content == "Tell me what question 1 deals with."
    assert new.extra["made"]["model"] == "writer"
    for answer, reason in (
        ("what's  QUESTION 1 about?", "unchanged"),
        ("", "bad_paraphrase"),
        ("x" * 500, "bad_paraphrase"),
    ):
        with pytest.raises(RowError) as caught:
            paraphrased(TRIP, Echo(answer), "writer", 0)
        assert caught.value.reason == reason


def test_a_question_moves_into_another_conversation() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye"))
    talk = PreferencePair(id="f:9", prompt=turns, chosen=TRIP.chosen, rejected=TRIP.rejected)
    new = swapped_context(POTATOES, [TRIP, talk, POTATOES], 0)
    assert new.prompt == (*turns[:2], POTATOES.prompt[0])
    assert new.chosen == POTATOES.chosen
    with pytest.raises(RowError, match="has_context"):
        swapped_context(talk, OTHERS, 0)
    with pytest.raises(RowError, match="no_other"):
        swapped_context(TRIP, OTHERS, 0)


def test_sampled_answers_are_ranked_and_paired() -> None:
    answers = ["a", "bbb", "bb", "b"]
    scores = reward_scores(WinShare(LongerWins()), TRIP, answers)
    assert scores == pytest.approx([1 / 6, 1.0, 2 / 3, 1 / 6])
    extremes = judged_pair(TRIP, answers, scores)
    assert (extremes.chosen[0].content, len(extremes.rejected[0].content)) == ("bbb", 1)
    near = judged_pair(TRIP, answers, scores, by="margin", min_margin=0.2)
    assert near.rejected[0].content == "bb"
    with pytest.raises(RowError, match="tie"):
        judged_pair(TRIP, ["a", "b"], [0.5, 0.5])
    with pytest.raises(RowError, match="tie"):
        judged_pair(TRIP, ["same", "Same "], [1.0, 0.0])


def test_a_revision_is_kept_only_where_the_judge_prefers_it() -> None:
    sampler = Echo("It says too little.", "Here is a full answer to it.")
    new = revised(TRIP, sampler, "writer", ["It is complete."], 0, LongerWins())
    assert new.chosen[0].content == "Here is a full answer to it."
    assert new.rejected == TRIP.rejected
    assert "It is complete." in sampler.asked[0]
    assert "It says too little." in sampler.asked[1]
    with pytest.raises(RowError, match="not_better"):
        revised(TRIP, Echo("Too long.", "no"), "writer", ["It is brief."], 0, LongerWins())


def written(folder: Path, count: int) -> str:
    chance = random.Random(0)
    rows = [
        {
            "prompt": f"Question {n}?",
            "chosen": f"The answer {n} is {chance.randint(2, 99)}, as every child in town number {n} knows by heart.",
            "rejected": f"I would not know about {n}.",
        }
        for n in range(count)
    ]
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "set.jsonl")


def test_a_plan_is_kept_to_and_everything_is_marked(tmp_path: Path) -> None:
    plan = AugmentPlan({"dropped_end": 0.1, "swapped_numbers": 7, "swapped_names": 5}, seed=3)
    done = augment(written(tmp_path, 50), tmp_path / "out", plan)
    assert done.made == {"dropped_end": 5, "swapped_numbers": 7}
    assert done.not_made == {"swapped_names": {"no_name": 50}}
    rows = [json.loads(line) for line in (tmp_path / "out" / "augmented.jsonl").read_text().splitlines()]
    assert len(rows) == 62
    assert [row.get("made") for row in rows[:50]] == [None] * 50
    assert all(row["made"]["source"].startswith("set.jsonl:") for row in rows[50:])
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert card["counts"]["made"] == {"dropped_end": 5, "swapped_numbers": 7}
    again = augment(str(tmp_path / "set.jsonl"), tmp_path / "again", plan)
    assert (tmp_path / "again" / "augmented.jsonl").read_bytes() == (tmp_path / "out" / "augmented.jsonl").read_bytes()
    assert again.made == done.made
    assert len(load_records(str(tmp_path / "out"), kind=PreferencePair).records) == 62


def test_made_rows_are_not_made_worse_again(tmp_path: Path) -> None:
    augment(written(tmp_path, 20), tmp_path / "one", AugmentPlan({"dropped_end": 0.5}))
    augment(str(tmp_path / "one"), tmp_path / "two", AugmentPlan({"repetition": 1.0}, max_share=2))
    rows = [json.loads(line) for line in (tmp_path / "two" / "augmented.jsonl").read_text().splitlines()]
    second = [row["made"]["source"] for row in rows if row.get("made", {}).get("how") == "repetition"]
    assert len(second) == 20  # of the 20 rows that nobody made, of 30
    made_before = {f"augmented.jsonl:{n}" for n in range(21, 31)}
    assert not made_before & set(second)


def test_the_share_of_new_rows_is_capped(tmp_path: Path) -> None:
    done = augment(
        written(tmp_path, 40), tmp_path / "out", AugmentPlan({"dropped_end": 1, "repetition": 1}, max_share=0.6)
    )
    assert done.made == {"dropped_end": 24}
    assert done.not_made["dropped_end"]["over_limit"] == 16
    assert done.not_made["repetition"]["over_limit"] == 40
    plan = AugmentPlan({"dropped_end": 1, "repetition": 1}, max_share=0.6, max_of_kind=0.25)
    assert augment(written(tmp_path, 40), tmp_path / "out", plan).made == {"dropped_end": 6, "repetition": 6}


def test_aiming_at_a_gap_makes_what_teaches_it(tmp_path: Path) -> None:
    plan = AugmentPlan.aimed(["accuracy"], 0.2)
    assert plan.kinds == {"swapped_numbers": 0.1, "swapped_names": 0.1}
    with pytest.raises(UsageError, match="cannot aim at 'charm'"):
        AugmentPlan.aimed(["charm"], 0.1)


def test_sampling_through_the_whole_run(tmp_path: Path) -> None:
    sampler = Echo(*["short", "a much longer answer"] * 3)
    done = augment(
        written(tmp_path, 3), tmp_path / "out", AugmentPlan({"sampled": 3}, k=2, max_share=1),
        AugmentModels(sampler, "writer", LongerWins()),
    )  # fmt: skip
    assert done.made == {"sampled": 3}
    rows = [json.loads(line) for line in (tmp_path / "out" / "augmented.jsonl").read_text().splitlines()][3:]
    assert {row["chosen"][0]["content"] for row in rows} == {"a much longer answer"}
    assert {row["made"]["model"] for row in rows} == {"writer"}


def test_answers_of_several_models_are_judged_together(tmp_path: Path) -> None:
    brief, long = Echo("a", "bb"), Echo("the longest answer of all", "quite a long answer")
    helpers = AugmentModels(brief, "brief", LongerWins(), others={"long": long})
    augment(written(tmp_path, 1), tmp_path / "out", AugmentPlan({"sampled": 1}, k=2, max_share=1), helpers)
    row = json.loads((tmp_path / "out" / "augmented.jsonl").read_text().splitlines()[-1])
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("the longest answer of all", "a")
    assert row["made"]["model"] == "long over brief"
    assert json.loads((tmp_path / "out" / "data.json").read_text())["options"]["model"] == "brief, long"


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (AugmentPlan({"burnt": 1}), "unknown kind of rows 'burnt'"),
        (AugmentPlan({"sampled": 1}), "sampled needs a model to write"),
        (AugmentPlan({"dropped_end": 0}), "give a share up to 1 or a number of rows"),
        (AugmentPlan({"dropped_end": 1}, k=1), "k is 1"),
        (AugmentPlan({"dropped_end": 1}, max_of_kind=2), "max_of_kind is 2; it must be a share"),
        (AugmentPlan({}), "unknown kind of rows"),
    ],
)
def test_a_wrong_plan_is_refused(tmp_path: Path, plan: AugmentPlan, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        augment(written(tmp_path, 3), tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()


def test_sampling_needs_somebody_who_judges(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a judge or a reward model"):
        augment(written(tmp_path, 3), tmp_path / "out", AugmentPlan({"sampled": 1}), AugmentModels(Echo(), "writer"))


def test_what_is_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="was not written by palate data"):
        augment(written(tmp_path, 3), tmp_path / "out", AugmentPlan({"dropped_end": 1}))


def test_real_pairs(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    kinds: dict[str, float] = dict.fromkeys((*CORRUPTIONS, "reworded", "swapped_context"), 20)
    done = augment(
        str(shared_data("preference/lf_dpo_en_demo.json")), tmp_path / "out", AugmentPlan(kinds, max_share=1)
    )
    assert done.made == kinds


def test_a_reworded_question_keeps_its_speaker_and_letters_outside_of_ascii() -> None:
    """İ matches i where case is ignored, but its lower case is another letter."""
    asked = replace(TRIP.prompt[-1], content="\u0130t's late, and it's far. Why?", name="ann")
    (new,) = reworded(replace(TRIP, prompt=(asked,)), 1).prompt
    assert new.name == "ann"
    assert "\u0130t's late, and it is far. Why?" in new.content


def test_a_plan_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "kinds: {dropped_end: 0.1, sampled: 5}\nmax_share: 0.2\nmax_of_kind: 0.5\nprinciples: [Be brief.]\n"
    )
    expected = AugmentPlan(
        {"dropped_end": 0.1, "sampled": 5}, max_share=0.2, max_of_kind=0.5, principles=("Be brief.",)
    )
    assert read_plan(path) == expected


def test_a_plan_file_is_read_by_the_rules_of_configs(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("kinds: {dropped_end: 1e-1}\nprinciples: [no, On, 2026-11-30]\n")
    plan = read_plan(path)
    assert plan.kinds == {"dropped_end": 0.1}
    assert plan.principles == ("no", "On", "2026-11-30")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must have kinds:"),
        ("kinds: {a: 1}\nshare: 2\n", "unknown key 'share'; known are kinds, max_share, max_of_kind, seed"),
        ("kinds: {dropped_end: lots}\n", r"kinds.dropped_end: Input should be a valid number"),
        ("kinds: {dropped_end: 1}\nby: luck\n", "by: Input should be 'best_worst' or 'margin'"),
        ("kinds: [\n", r":2: expected the node content"),
        ("kinds: {dropped_end: 1}\nseed: 1\nseed: 2\n", r":3: seed is given twice, first on line 2"),
        ("kinds: {dropped_end: 1, dropped_end: 2}\n", r":1: dropped_end is given twice"),
        ("kinds: {dropped_end: 010}\nseed: 1:30\n", "seed: Input should be a valid integer"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_plan(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="there is no such file"):
        read_plan(tmp_path / "none.yaml")
