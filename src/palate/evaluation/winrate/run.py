"""From two sides and prompts to a measured win rate; everything that was done is kept in its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from palate.charts.text import amount, by_endpoint
from palate.errors import DataError, UsageError
from palate.evaluation.subject import check_models, model_spec
from palate.evaluation.winrate.folder import WinRateFolder, pair_answers
from palate.evaluation.winrate.items import (
    WinRateItem,
    in_order_of,
    judged_items,
    people_items,
    people_shares,
    prompts_hash,
    with_groups,
)
from palate.evaluation.winrate.leaks import Leaks, PromptIndex, leaks_of
from palate.evaluation.winrate.measure import measure
from palate.evaluation.winrate.result import Result, SideFacts
from palate.evaluation.winrate.sides import (
    Side,
    SideAnswers,
    check_different,
    check_weights,
    load_side,
    recorded_answers,
)
from palate.feedback.calibration.card import identity_of
from palate.feedback.candidates import endpoint_counts, write_candidates
from palate.feedback.judging import collect_votes, questions
from palate.feedback.people_votes import PeopleVotes
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding
from palate.records import Judge, Record
from palate.stats import Interval

NAMES = ("a", "b")


@dataclass(frozen=True, slots=True)
class WinRatePlan:
    """What to measure.

    Attributes:
        a, b: the two sides.
        prompts: to answer, each with an id of its own.
        decoding: of generated answers; its temperature is replaced by those of a sweep.
        template, precision: of models in this process.
        category, cluster: columns of the prompts; empty for none.
        style: whether to control for style, too.
    """

    a: Side
    b: Side
    prompts: Sequence[Record]
    decoding: Decoding
    template: str | None = None
    precision: str = "auto"
    category: str = ""
    cluster: str = ""
    style: bool = False

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.a, self.b


def check_plan(plan: WinRatePlan) -> None:
    """Check that the plan is a win rate before anything is loaded.

    Raises:
        UsageError: it names one model twice, or a column that no prompt has.
        DataError: two prompts have one id.
    """
    check_different(plan.a, plan.b)
    twice = [name for name, count in Counter(record.id for record in plan.prompts).items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} ids belong to two prompts or more, first {twice[0]}; give each its own file name"
        )
    for option, name in (("--by", plan.category), ("--cluster", plan.cluster)):
        if name and not any(name in record.extra for record in plan.prompts):
            columns = ", ".join(sorted({column for record in plan.prompts for column in record.extra})[:8])
            raise UsageError(f"{option} {name}: no prompt has this column; they have {columns or 'none'}")


def check_sides(plan: WinRatePlan) -> None:
    """Check each side before the first one answers, which may take hours.

    Raises:
        DataError: recorded answers are to none of the prompts.
        ModelError, ConfigError: a model has no tokenizer or no chat template.
        EngineError: an engine does not answer, or has another model.
    """
    for side in plan.sides:
        if side.recorded:
            recorded_answers(side.name, plan.prompts)
        elif side.url is not None:
            load_side(side, template=plan.template, precision=plan.precision)
        else:
            check_models([model_spec(side.model, template=plan.template)])


def answer_all(
    plan: WinRatePlan, folders: Mapping[float, WinRateFolder], *, on_progress: Callable[[str], None]
) -> None:
    """Answer the prompts with both sides and write the pairs of answers, at each temperature.

    One model is loaded at a time, once for all temperatures. Answers that there are already are kept.

    Raises:
        UsageError: both sides have the same weights.
        ArtifactError: the folder has answers that were made with other settings.
    """
    identities: list[frozenset[str]] = []
    for name, side in zip(NAMES, plan.sides):
        identities.append(_answer_side(plan, side, name, folders, identities, on_progress))
    for folder in folders.values():
        a, b = _answers(plan, folder)
        check_weights((plan.a.name, plan.b.name), (a.identities, b.identities))
        rows, _ = pair_answers(plan.prompts, a, b)
        folder.write_pairs(rows)


def _answer_side(
    plan: WinRatePlan,
    side: Side,
    name: str,
    folders: Mapping[float, WinRateFolder],
    before: Sequence[frozenset[str]],
    on_progress: Callable[[str], None],
) -> frozenset[str]:
    """Generate the missing answers of one side; returns the identity of its weights, if it is known."""
    if side.recorded:
        recorded = recorded_answers(side.name, plan.prompts)
        if recorded.unused:
            unused = amount(recorded.unused, "recorded answer is", "recorded answers are")
            on_progress(f"{side.name}: {unused} not used: to other prompts, or beyond the first to a prompt")
        return recorded.identities
    on_progress(f"answering {amount(len(plan.prompts), 'prompt')} with {side.name}")
    answerer = load_side(side, template=plan.template, precision=plan.precision)
    identity = frozenset({answerer.identity} if answerer.identity else ())
    for other in before:
        check_weights((plan.a.name, plan.b.name), (other, identity))
    for temperature, folder in folders.items():
        decoding = replace(plan.decoding, temperature=temperature)
        write_candidates(plan.prompts, answerer, 1, decoding, path=folder.answers(name))
    by_endpoint("answered", endpoint_counts(answerer), on_progress)
    del answerer
    if side.url is None:
        give_back_memory()
    return identity


def find_leaks(plan: WinRatePlan) -> list[Leaks]:
    """Prompts in the training data of each side that is a run."""
    index = PromptIndex(plan.prompts)
    return [leaks_of(side, index) for side in plan.sides]


def measure_answers(
    plan: WinRatePlan,
    folder: WinRateFolder,
    judge: Judge | None,
    *,
    temperature: float,
    leaks: Sequence[Leaks],
    people: PeopleVotes | None = None,
) -> Result:
    """Compare the answers in the folder, and measure.

    Args:
        judge: gives verdicts on the pairs that have none yet; None to measure with the votes of people.
        people: their votes; beside a judge on some of the items, to correct the judge with.
    """
    a, b = _answers(plan, folder)
    rows, missing = pair_answers(plan.prompts, a, b)
    labels = None
    if judge is not None:
        found = judged_items(rows, collect_votes(questions(rows), judge, folder.votes))
        labels = people_shares(people) if people is not None else None
    else:
        assert people is not None  # without votes there is nothing to measure
        found = people_items(rows, people)
    ids = [record.id for record in plan.prompts]
    categories = {one.id: str(one.extra.get(plan.category, "")) for one in plan.prompts} if plan.category else {}
    groups = {one.id: str(one.extra.get(plan.cluster, one.id)) for one in plan.prompts} if plan.cluster else None
    items = with_groups(in_order_of(ids, found, missing, categories), groups)
    generated = not (plan.a.recorded and plan.b.recorded)
    return Result(
        a=_facts(plan.a, a),
        b=_facts(plan.b, b),
        judge="people" if judge is None else judge.name,
        judge_kind="person" if judge is None else str(getattr(judge, "kind", "judge")),
        decoding=replace(plan.decoding, temperature=temperature) if generated else None,
        items=items,
        figures=measure(items, with_style=plan.style, labels=labels),
        leaks=leaks,
        without_leaks=_without(items, leaks),
        left_out_votes=_left_out(people, ids) if people is not None else {},
        judge_identity=None if judge is None else identity_of(judge),
        prompts_hash=prompts_hash(plan.prompts),
    )


def _answers(plan: WinRatePlan, folder: WinRateFolder) -> list[SideAnswers]:
    """The answers of A and B: recorded, or those that were generated into the folder."""
    return [
        recorded_answers(side.name if side.recorded else folder.answers(name), plan.prompts)
        for name, side in zip(NAMES, plan.sides)
    ]


def _left_out(people: PeopleVotes, ids: Sequence[str]) -> dict[str, int]:
    """Votes that do not count, by reason; those on other items or answers included."""
    known = set(ids)
    other = sum(vote.item not in known or (vote.left, vote.right) != (0, 1) for vote in people.votes)
    return {**people.left_out, **({"not on these answers": other} if other else {})}


def _facts(side: Side, answers: SideAnswers) -> SideFacts:
    texts = [row.completions[0] for row in answers.answers.values()]
    return SideFacts(
        side.name,
        side.recorded,
        sorted(answers.identities),
        sum(answer.finish_reason == "length" for answer in texts),
        sum(not answer.text.strip() for answer in texts),
    )


def _without(items: Sequence[WinRateItem], leaks: Sequence[Leaks]) -> Interval | None:
    """The win rate over the items that are in no training data; None without leaks, or if no item is left."""
    leaked = {where for one in leaks for where in one.found}
    kept = [item for item in items if item.id not in leaked]
    if not leaked or not any(item.scored for item in kept):
        return None
    return measure(kept).win_rate.rate
