"""Measures reward against KL to the reference: the reward that a method gains for its distance from the reference.

This is the frontier of the DPO paper (https://arxiv.org/abs/2305.18290, section 6.1) and the over-optimisation curves
of https://arxiv.org/abs/2210.10760. Every model answers the same prompts; each answer gets the true reward (and learned
ones, if given), and the KL of the model to its reference is estimated on the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from palate.data.scores import check_columns, checked_scores, columns_of
from palate.errors import DataError, FunctionError, ModelError, UsageError
from palate.evaluation.frontier.answers import AnswerScore, KeptAnswers, score_answers
from palate.evaluation.frontier.points import Frontier, FrontierAnswer, FrontierModel, FrontierPoint
from palate.evaluation.subject import ModelSpec, Subject
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding, sampling_seed
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
    seed: int = 42,
    precision: str = "auto",
    cutoff_len: int = 2048,
    kept_in: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Frontier:
    """Measures reward and KL(π ‖ π_ref) of models and of the reference itself.

    Two estimates of the KL of whole answers come from the same answers, sampled from π. `kl_sampled` is the Monte Carlo
    mean of log π(y|x) − log π_ref(y|x). `kl` sums, over the positions of an answer, the KL between the two next-token
    distributions over the whole vocabulary. By the chain rule its mean over prefixes sampled from π is the same KL. It
    is never negative, and its variance is never larger (Rao-Blackwell, https://arxiv.org/abs/2504.10637). Answers are
    truncated at `max_new_tokens`, and the KL is that of the truncated answers.

    The reference stays loaded; the other models are loaded one after the other. Sample k of prompt i uses the same
    random numbers for every model.

    Args:
        points: models to measure; names must differ from each other and from `reference`.
        reference: π_ref, which is also the first point, with KL 0.
        prompts: records whose prompts end before the answer, the unit of every interval; rewards get the columns in
            their `extra` by name.
        rewards: name → reward, true or learned. An answer with the reward None is left out of the mean and counted.
        samples: answers to each prompt.
        max_new_tokens: longest answer.
        cutoff_len: prompts that leave no room for a longest answer are left out and counted.
        kept_in: folder that keeps the answers of each measured point until all are measured, so that the same call
            continues after an interruption; None keeps nothing.

    Raises:
        UsageError: no reward, or a name that occurs twice.
        DataError: no prompt is short enough.
        ModelError: a model cannot be loaded, or its tokenizer or template differs from the reference's.
        ConfigError: a reward needs a column that no row has.
        FunctionError: a reward fails, returns something else than a finite number or None for each answer, or None for
            all answers of a point.
    """
    _check(points, rewards, samples)
    for name, reward in rewards.items():
        check_columns(f"reward {name}", reward, {column for prompt in prompts for column in prompt.extra})
    device = default_device()
    forward = resolve(precision, device)
    on_progress(f"loading the reference, {reference.model}")
    before = Subject(reference, forward, device)
    fitting = _fitting(prompts, before, max_new_tokens, cutoff_len)
    settings = {
        "reference": before.identity,
        "prompts": list(fitting.values()),
        "samples": samples,
        "precision": forward.name,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "places": list(fitting),
    }
    kept = None if kept_in is None else KeptAnswers(kept_in, settings)
    # At another temperature the KL would not be that of the models themselves.
    decoding = Decoding(max_new_tokens, temperature=1.0, seed=seed)
    measurement = _Measurement(before, prompts, fitting, rewards, samples, decoding, kept)
    for point in points:  # first, since measuring may take hours
        measurement.compare_tokens(point)
    found = [measurement.measure(FrontierModel(REFERENCE, reference), before)]
    for number, point in enumerate(points, 1):
        on_progress(f"{number} of {len(points)}: {point.name}")
        found.append(measurement.measure(point, Subject(point.spec, forward, device)))
        give_back_memory()
    if kept is not None:
        kept.remove()
    return Frontier(
        reference=REFERENCE,
        points=[point for point, _ in found],
        rewards=list(rewards),
        prompts=len(fitting),
        left_out=len(prompts) - len(fitting),
        samples=samples,
        max_new_tokens=max_new_tokens,
        seed=seed,
        precision=forward.name,
        answers=[answer for _, answers in found for answer in answers],
    )


def _check(points: Sequence[FrontierModel], rewards: Mapping[str, RewardFunction], samples: int) -> None:
    if samples < 1:
        raise UsageError(f"samples {samples}: at least one answer to each prompt is needed")
    if not rewards:
        raise UsageError("no reward is named: nothing to measure against the KL")
    names = [REFERENCE, *(point.name for point in points)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two points are called {twice}; name each model once, and no folder {REFERENCE}, which is the name of the "
            "model that all are compared with"
        )


def _fitting(
    prompts: Sequence[Record], reference: Subject, max_new_tokens: int, cutoff_len: int
) -> dict[int, list[int]]:
    """Index → token ids of the prompts that leave room for a longest answer."""
    rendered = {index: prompt_ids(prompt, reference.template) for index, prompt in enumerate(prompts)}
    fitting = {index: ids for index, ids in rendered.items() if len(ids) + max_new_tokens <= cutoff_len}
    if not fitting:
        raise DataError(
            f"no prompt leaves room for an answer of {max_new_tokens} tokens within "
            f"{cutoff_len}; raise cutoff_len or lower max_new_tokens"
        )
    return fitting


@dataclass(frozen=True, slots=True)
class _Measurement:
    """What is the same for every point.

    Attributes:
        reference: the loaded model.
        prompts: all of them; `fitting` are those that are answered, index → token ids.
        rewards: by name.
        samples: answers to each prompt.
        decoding: of the answers.
        kept: answers of points that were measured before.
    """

    reference: Subject
    prompts: Sequence[Record]
    fitting: Mapping[int, list[int]]
    rewards: Mapping[str, RewardFunction]
    samples: int
    decoding: Decoding
    kept: KeptAnswers | None

    @property
    def asked(self) -> list[tuple[int, int]]:
        """Index of the prompt and number of the sample, of every answer."""
        return [(index, sample) for index in self.fitting for sample in range(self.samples)]

    def measure(self, point: FrontierModel, policy: Subject) -> tuple[FrontierPoint, list[FrontierAnswer]]:
        """The point, and its answers."""
        groups, scores = self._scored(policy)
        answers = self._answers(point.name, policy, groups, scores)
        return self._point(point, policy, answers), answers

    def _scored(self, policy: Subject) -> tuple[list[EncodedGroup], list[AnswerScore]]:
        """The answers of a point and their scores: kept ones, or sampled, scored and kept now."""
        rendered = list(self.fitting.values())
        found = self.kept.read(policy.identity, rendered) if self.kept is not None else None
        if found is not None:
            return found
        groups = self._sample(policy)
        scores = [score for group in score_answers(policy, self.reference, groups) for score in group]
        if self.kept is not None:
            self.kept.write(policy.identity, groups, scores)
        return groups, scores

    def compare_tokens(self, point: FrontierModel) -> None:
        """Refuses a model that reads the prompts differently from the reference; only its tokenizer is loaded.

        Raises:
            ModelError: its tokenizer differs, or its template renders the prompts differently.
        """
        reference = self.reference
        template = point.spec.chat_template(point.spec.tokenizer())
        if template.tokenizer.get_vocab() != reference.template.tokenizer.get_vocab():
            raise ModelError(
                f"{point.name}: its tokenizer is not that of the reference {reference.spec.model}, and a KL needs the "
                "same tokens; name the model that it was trained from with --reference"
            )
        for index, ids in self.fitting.items():
            if prompt_ids(self.prompts[index], template) != ids:
                raise ModelError(
                    f"{point.name}: its chat template writes prompts in another way than that of the reference "
                    f"{reference.spec.model}; use one template for both"
                )

    def _sample(self, policy: Subject) -> list[EncodedGroup]:
        """A group for each prompt, its samples as completions."""
        repeated = [self.prompts[index] for index, _ in self.asked]
        seeds = [sampling_seed(self.decoding.seed, "frontier", *one) for one in self.asked]
        single = policy.sampled(
            [one.prompt for one in repeated], self.decoding, seeds, tools=[one.tools for one in repeated]
        )
        parts = [single[start : start + self.samples] for start in range(0, len(single), self.samples)]
        return [
            EncodedGroup(str(number), part[0].prompt_ids, tuple(one.completions[0] for one in part))
            for number, part in enumerate(parts)
        ]

    def _answers(
        self, name: str, policy: Subject, groups: Sequence[EncodedGroup], scores: Sequence[AnswerScore]
    ) -> list[FrontierAnswer]:
        stops = set(policy.template.stop_ids)
        ids = [completion.ids.tolist() for group in groups for completion in group.completions]
        texts = [policy.template.decode(one) for one in ids]
        repeated = [self.prompts[index] for index, _ in self.asked]
        prompts, columns = [one.prompt for one in repeated], columns_of([one.extra for one in repeated])
        given = {
            reward: checked_scores(f"reward {reward}", function, prompts, texts, columns)
            for reward, function in self.rewards.items()
        }
        return [
            FrontierAnswer(
                point=name,
                prompt=prompt,
                sample=sample,
                text=text,
                tokens=len(one),
                ended=bool(one) and one[-1] in stops,
                rewards={reward: values[number] for reward, values in given.items()},
                **asdict(score),
            )
            for number, ((prompt, sample), one, text, score) in enumerate(
                zip(self.asked, ids, texts, scores, strict=True)
            )
        ]

    def _point(self, point: FrontierModel, policy: Subject, answers: Sequence[FrontierAnswer]) -> FrontierPoint:
        # The unit of every interval: all answers to a prompt, also of a prompt that was given twice.
        units = [prompt_key(self.prompts[index].prompt) for index, _ in self.asked]

        def mean(values: Sequence[float | None]) -> Interval:
            """Mean over the answers that have a value."""
            given = [(value, unit) for value, unit in zip(values, units, strict=True) if value is not None]
            return cluster_mean_interval([value for value, _ in given], [unit for _, unit in given])

        scores = {reward: [answer.rewards[reward] for answer in answers] for reward in self.rewards}
        silent = next((reward for reward, given in scores.items() if all(score is None for score in given)), None)
        if silent is not None:
            raise FunctionError(f"reward {silent} gave no score to any answer of {point.name}")
        kl = [answer.kl for answer in answers]
        sampled = [answer.logp - answer.ref_logp for answer in answers]
        texts = [answer.text for answer in answers]
        different = [
            len(set(texts[start : start + self.samples])) / self.samples for start in range(0, len(texts), self.samples)
        ]
        return FrontierPoint(
            name=point.name,
            group=point.group,
            method=point.method,
            step=point.step,
            model=point.spec.model,
            identity=policy.identity,
            reference=policy is self.reference,
            rewards={reward: mean(given) for reward, given in scores.items()},
            kl=mean(kl),
            kl_error=standard_error(kl, units),
            kl_sampled=mean(sampled),
            kl_sampled_error=standard_error(sampled, units),
            tokens=mean([answer.tokens for answer in answers]),
            ended=rate_interval([answer.ended for answer in answers], clusters=units),
            distinct=rate_interval(different, clusters=units[:: self.samples]),
            unscored={reward: sum(score is None for score in given) for reward, given in scores.items()},
        )
