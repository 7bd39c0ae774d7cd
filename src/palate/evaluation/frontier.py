"""True reward against KL to the reference: how much a method gains for how far it goes.

The frontier of the DPO paper (https://arxiv.org/abs/2305.18290, section 6.1) and the over-optimisation curves of
https://arxiv.org/abs/2210.10760: each model answers the same prompts, every answer is rewarded by what is known to be
true (and, beside it, by what was learned), and the KL of the model to its reference is taken on the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from palate.data.scores import check_columns, checked_scores, columns_of
from palate.errors import DataError, FunctionError, ModelError, UsageError
from palate.evaluation.divergence import AnswerScore, score_answers
from palate.evaluation.frontier_kept import KeptAnswers
from palate.evaluation.frontier_points import Frontier, FrontierAnswer, FrontierModel, FrontierPoint
from palate.evaluation.subject import ModelSpec, Subject
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.generate import Decoding, sampling_seed
from palate.models.precision import default_device, resolve
from palate.records import Record, RewardFunction, prompt_key
from palate.stats import Interval, cluster_mean_interval, rate_interval, standard_error
from palate.text.groups import EncodedGroup
from palate.text.prompts import prompt_ids

REFERENCE = "reference"


def measure_frontier(
    points: Sequence[FrontierModel],
    reference: ModelSpec,
    prompts: Sequence[Record],
    rewards: Mapping[str, RewardFunction],
    *,
    samples: int = 4,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 42,
    precision: str = "auto",
    cutoff_len: int = 2048,
    kept_in: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Frontier:
    """Place models, and the reference itself, on the plane of reward and KL.

    Two estimates of KL(π ‖ π_ref) of whole answers come from the same answers sampled from π. `kl_sampled` is the plain
    Monte Carlo mean of log π(y|x) − log π_ref(y|x). `kl` sums, over the positions of an answer, the KL between the two
    next-token distributions over the whole vocabulary: by the chain rule its mean over prefixes sampled from π is the
    same KL, and it is Monte Carlo over prefixes only, so its variance is never larger (Rao-Blackwell,
    https://arxiv.org/abs/2504.10637) and it is never negative. Answers are cut at `max_new_tokens`, and the KL is that
    of the distributions of answers cut there.

    The reference stays loaded and the points are loaded one after the other beside it. Sample k of prompt i is drawn by
    the same random numbers for every point.

    Args:
        points: models to place; names must differ from each other and from `reference`.
        reference: π_ref, which is also the first point, with KL 0.
        prompts: records whose prompts go up to the answer, the unit of every interval; rewards get the columns in their
            `extra` by name.
        rewards: name → reward; a learned one may stand beside the true one. An answer that a reward gives None is left
            out of its mean and counted.
        samples: answers to each prompt.
        max_new_tokens: longest answer.
        temperature: 1, since the KL is that of the distribution that is sampled.
        seed: of the sampling.
        precision: of the forward passes, as in a config.
        cutoff_len: prompts that leave no room for a longest answer within it are left out, and counted.
        kept_in: folder that keeps the answers of each measured point until all are measured, so that the same call
            after an interruption goes on with the next point; None keeps nothing.
        say: a line before each model is loaded.

    Raises:
        UsageError: another temperature, no reward, or a name that is given twice.
        DataError: no prompt is short enough.
        ModelError: a model cannot be loaded, or its tokenizer or template is not the reference's.
        ConfigError: a reward asks for a column that no row has.
        FunctionError: a reward fails, gives something else than a finite number or None for each answer, or None for
            all answers of a point.
    """
    _check(points, rewards, samples, temperature)
    for name, reward in rewards.items():
        check_columns(f"reward {name}", reward, {column for one in prompts for column in one.extra})
    device = default_device()
    how = resolve(precision, device)
    say(f"loading the reference, {reference.model}")
    before = Subject(reference, how, device)
    rendered = [prompt_ids(one, before.template) for one in prompts]
    kept = [place for place, ids in enumerate(rendered) if len(ids) + max_new_tokens <= cutoff_len]
    if not kept:
        raise DataError(
            f"none of {len(prompts)} prompts leaves room for an answer of {max_new_tokens} tokens within "
            f"{cutoff_len}; raise cutoff_len or lower max_new_tokens"
        )
    asked = [prompts[place] for place in kept]
    wanted = [rendered[place] for place in kept]
    settings: dict[str, object] = {
        "reference": before.identity,
        "prompts": wanted,
        "samples": samples,
        "precision": how.name,
    }
    settings |= {"max_new_tokens": max_new_tokens, "seed": seed, "places": kept}
    store = None if kept_in is None else KeptAnswers(kept_in, settings)
    taken = _Sampling(kept, asked, wanted, rewards, samples, max_new_tokens, seed, store)
    for point in points:  # before anything is measured, which may take hours
        taken.compare_tokens(point, before)
    first = FrontierModel(REFERENCE, reference)
    found = [taken.measure(first, before, before)]
    for number, point in enumerate(points, 1):
        say(f"{number} of {len(points)}: {point.name}")
        found.append(taken.measure(point, Subject(point.spec, how, device), before))
        give_back_memory()
    if store is not None:
        store.remove()
    return Frontier(
        reference=REFERENCE,
        points=[point for point, _ in found],
        rewards=list(rewards),
        prompts=len(kept),
        left_out=len(prompts) - len(kept),
        samples=samples,
        max_new_tokens=max_new_tokens,
        seed=seed,
        precision=how.name,
        answers=[answer for _, answers in found for answer in answers],
    )


def _check(
    points: Sequence[FrontierModel], rewards: Mapping[str, RewardFunction], samples: int, temperature: float
) -> None:
    if temperature != 1.0:
        raise UsageError(
            f"temperature {temperature:g}: KL is that of the distribution that is sampled, which is the model's own at "
            "temperature 1 only"
        )
    if samples < 1:
        raise UsageError(f"samples {samples}: at least one answer to each prompt is needed")
    if not rewards:
        raise UsageError("no reward is named, so nothing can stand against the KL")
    names = [REFERENCE, *(point.name for point in points)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two points are called {twice}; name each model once, and none {REFERENCE}, which is what the others are "
            "compared with: a point is called as its folder is"
        )


class _Sampling:
    """Prompts and rewards that are the same for every point."""

    def __init__(
        self,
        places: Sequence[int],
        prompts: Sequence[Record],
        rendered: Sequence[Sequence[int]],
        rewards: Mapping[str, RewardFunction],
        samples: int,
        max_new_tokens: int,
        seed: int,
        kept: KeptAnswers | None,
    ) -> None:
        self._kept = kept
        self._places = places
        self._prompts = prompts
        self._rendered = rendered
        self._rewards = rewards
        self._samples = samples
        # The unit of every interval: all answers to one prompt, also where the prompt was given twice.
        self._units = [prompt_key(one.prompt) for one in prompts for _ in range(samples)]
        self._decoding = Decoding(max_new_tokens, temperature=1.0, seed=seed)
        self._seeds = [sampling_seed(seed, "frontier", place, sample) for place in places for sample in range(samples)]

    def measure(
        self, point: FrontierModel, policy: Subject, reference: Subject
    ) -> tuple[FrontierPoint, list[FrontierAnswer]]:
        groups, scores = self._measured(policy, reference)
        answers = self._answers(point.name, policy, groups, scores)
        return self._point(point, policy, answers, reference=policy is reference), answers

    def _measured(self, policy: Subject, reference: Subject) -> tuple[list[EncodedGroup], list[AnswerScore]]:
        """The answers of a point and their scores: kept ones, or sampled, scored and kept now."""
        found = self._kept.read(policy.identity, self._rendered) if self._kept is not None else None
        if found is not None:
            return found
        groups = self._sample(policy)
        scores = [score for group in score_answers(policy, reference, groups) for score in group]
        if self._kept is not None:
            self._kept.write(policy.identity, groups, scores)
        return groups, scores

    def compare_tokens(self, point: FrontierModel, reference: Subject) -> None:
        """Refuse a model that does not read the prompts as the reference does; only its tokenizer is loaded.

        Raises:
            ModelError: its tokenizer, or what its template makes of the prompts, is another one.
        """
        template = point.spec.chat_template(point.spec.tokenizer())
        if template.tokenizer.get_vocab() != reference.template.tokenizer.get_vocab():
            raise ModelError(
                f"{point.name}: its tokenizer is not that of the reference {reference.spec.model}, and a KL needs the "
                "same tokens; name the model that it was trained from with --reference"
            )
        for one, ids in zip(self._prompts, self._rendered, strict=True):
            if prompt_ids(one, template) != ids:
                raise ModelError(
                    f"{point.name}: its chat template writes prompts in another way than that of the reference "
                    f"{reference.spec.model}; name one template for both"
                )

    def _sample(self, policy: Subject) -> list[EncodedGroup]:
        """A group for each prompt, its samples as completions."""
        repeated = [one for one in self._prompts for _ in range(self._samples)]
        single = policy.sampled(
            [one.prompt for one in repeated], self._decoding, self._seeds, tools=[one.tools for one in repeated]
        )
        return [
            EncodedGroup(
                str(place),
                single[place * self._samples].prompt_ids,
                tuple(one.completions[0] for one in single[place * self._samples : (place + 1) * self._samples]),
            )
            for place in range(len(self._prompts))
        ]

    def _answers(
        self, name: str, policy: Subject, groups: Sequence[EncodedGroup], scores: Sequence[AnswerScore]
    ) -> list[FrontierAnswer]:
        stops = set(policy.template.stop_ids)
        ids = [completion.ids.tolist() for group in groups for completion in group.completions]
        texts = [policy.template.decode(one) for one in ids]
        asked = [one for one in self._prompts for _ in range(self._samples)]
        prompts, columns = [one.prompt for one in asked], columns_of([one.extra for one in asked])
        given = {
            reward: checked_scores(f"reward {reward}", function, prompts, texts, columns)
            for reward, function in self._rewards.items()
        }
        return [
            FrontierAnswer(
                point=name,
                prompt=self._places[place // self._samples],
                sample=place % self._samples,
                text=text,
                tokens=len(one),
                ended=bool(one) and one[-1] in stops,
                rewards={reward: values[place] for reward, values in given.items()},
                logp=score.logp,
                ref_logp=score.ref_logp,
                kl=score.kl,
            )
            for place, (one, text, score) in enumerate(zip(ids, texts, scores, strict=True))
        ]

    def _point(
        self, point: FrontierModel, policy: Subject, answers: Sequence[FrontierAnswer], *, reference: bool
    ) -> FrontierPoint:
        def mean(values: Sequence[float | None]) -> Interval:
            """Over the answers that have a value."""
            given = [(value, unit) for value, unit in zip(values, self._units, strict=True) if value is not None]
            return cluster_mean_interval([value for value, _ in given], [unit for _, unit in given])

        scores = {reward: [answer.rewards[reward] for answer in answers] for reward in self._rewards}
        silent = next((reward for reward, given in scores.items() if all(score is None for score in given)), None)
        if silent is not None:
            raise FunctionError(f"reward {silent} gave no score to any of the {len(answers)} answers of {point.name}")
        kl = [answer.kl for answer in answers]
        sampled = [answer.logp - answer.ref_logp for answer in answers]
        texts = [answer.text for answer in answers]
        different = [
            len(set(texts[start : start + self._samples])) / self._samples
            for start in range(0, len(texts), self._samples)
        ]
        return FrontierPoint(
            name=point.name,
            group=point.group,
            method=point.method,
            step=point.step,
            model=point.spec.model,
            identity=policy.identity,
            reference=reference,
            rewards={reward: mean(given) for reward, given in scores.items()},
            kl=mean(kl),
            kl_error=standard_error(kl, self._units),
            kl_sampled=mean(sampled),
            kl_sampled_error=standard_error(sampled, self._units),
            tokens=mean([answer.tokens for answer in answers]),
            ended=rate_interval([answer.ended for answer in answers], clusters=self._units),
            distinct=rate_interval(different, clusters=self._units[:: self._samples]),
            unscored={reward: sum(score is None for score in given) for reward, given in scores.items()},
        )
