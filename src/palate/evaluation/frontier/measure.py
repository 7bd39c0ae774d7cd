"""Measures reward against KL to the reference: the reward that a method gains for its distance from the reference.

This is the frontier of the DPO paper (https://arxiv.org/abs/2305.18290, section 6.1) and the over-optimisation curves
of https://arxiv.org/abs/2210.10760. Every model answers the same prompts; each answer gets the true reward (and learned
ones, if given), and the KL of the model to its reference is estimated on the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    measurement = _Measurement(before, prompts, fitting, rewards, samples, max_new_tokens, seed, kept_in)
    for point in points:  # first, since measuring may take hours
        measurement.compare_tokens(point)
    found = [measurement.measure(FrontierModel(REFERENCE, reference), before)]
    for number, point in enumerate(points, 1):
        on_progress(f"{number} of {len(points)}: {point.name}")
        found.append(measurement.measure(point, Subject(point.spec, forward, device)))
        give_back_memory()
    measurement.remove_kept()
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


class _Measurement:
    """The reference, prompts and rewards, the same for every point."""

    def __init__(
        self,
        reference: Subject,
        prompts: Sequence[Record],
        fitting: Mapping[int, list[int]],
        rewards: Mapping[str, RewardFunction],
        samples: int,
        max_new_tokens: int,
        seed: int,
        kept_in: Path | None,
    ) -> None:
        self._reference = reference
        self._indices = list(fitting)
        self._prompts = [prompts[index] for index in fitting]
        self._rendered = list(fitting.values())
        self._rewards = rewards
        self._samples = samples
        # The unit of every interval: all answers to a prompt, also of a prompt that was given twice.
        self._units = [prompt_key(one.prompt) for one in self._prompts for _ in range(samples)]
        # At another temperature the KL would not be that of the models themselves.
        self._decoding = Decoding(max_new_tokens, temperature=1.0, seed=seed)
        self._seeds = [sampling_seed(seed, "frontier", index, sample) for index in fitting for sample in range(samples)]
        settings = {
            "reference": reference.identity,
            "prompts": self._rendered,
            "samples": samples,
            "precision": reference.precision.name,
            "max_new_tokens": max_new_tokens,
            "seed": seed,
            "places": self._indices,
        }
        self._kept = None if kept_in is None else KeptAnswers(kept_in, settings)

    def measure(self, point: FrontierModel, policy: Subject) -> tuple[FrontierPoint, list[FrontierAnswer]]:
        """The point, and its answers."""
        groups, scores = self._scored(policy)
        answers = self._answers(point.name, policy, groups, scores)
        return self._point(point, policy, answers), answers

    def remove_kept(self) -> None:
        """All points are measured."""
        if self._kept is not None:
            self._kept.remove()

    def _scored(self, policy: Subject) -> tuple[list[EncodedGroup], list[AnswerScore]]:
        """The answers of a point and their scores: kept ones, or sampled, scored and kept now."""
        found = self._kept.read(policy.identity, self._rendered) if self._kept is not None else None
        if found is not None:
            return found
        groups = self._sample(policy)
        scores = [score for group in score_answers(policy, self._reference, groups) for score in group]
        if self._kept is not None:
            self._kept.write(policy.identity, groups, scores)
        return groups, scores

    def compare_tokens(self, point: FrontierModel) -> None:
        """Refuses a model that reads the prompts differently from the reference; only its tokenizer is loaded.

        Raises:
            ModelError: its tokenizer differs, or its template renders the prompts differently.
        """
        reference = self._reference
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
                    f"{reference.spec.model}; use one template for both"
                )

    def _sample(self, policy: Subject) -> list[EncodedGroup]:
        """A group for each prompt, its samples as completions."""
        repeated = [one for one in self._prompts for _ in range(self._samples)]
        single = policy.sampled(
            [one.prompt for one in repeated], self._decoding, self._seeds, tools=[one.tools for one in repeated]
        )
        return [
            EncodedGroup(
                str(index),
                single[index * self._samples].prompt_ids,
                tuple(one.completions[0] for one in single[index * self._samples : (index + 1) * self._samples]),
            )
            for index in range(len(self._prompts))
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
                prompt=self._indices[index // self._samples],
                sample=index % self._samples,
                text=text,
                tokens=len(one),
                ended=bool(one) and one[-1] in stops,
                rewards={reward: values[index] for reward, values in given.items()},
                logp=score.logp,
                ref_logp=score.ref_logp,
                kl=score.kl,
            )
            for index, (one, text, score) in enumerate(zip(ids, texts, scores, strict=True))
        ]

    def _point(self, point: FrontierModel, policy: Subject, answers: Sequence[FrontierAnswer]) -> FrontierPoint:
        def mean(values: Sequence[float | None]) -> Interval:
            """Mean over the answers that have a value."""
            given = [(value, unit) for value, unit in zip(values, self._units, strict=True) if value is not None]
            return cluster_mean_interval([value for value, _ in given], [unit for _, unit in given])

        scores = {reward: [answer.rewards[reward] for answer in answers] for reward in self._rewards}
        silent = next((reward for reward, given in scores.items() if all(score is None for score in given)), None)
        if silent is not None:
            raise FunctionError(f"reward {silent} gave no score to any answer of {point.name}")
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
            reference=policy is self._reference,
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
