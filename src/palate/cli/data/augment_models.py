"""`palate data augment --delta` and `--critique`: models by name, and what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from palate.cli.console import print_done
from palate.cli.models import model_path
from palate.errors import UsageError
from palate.evaluation.answers.answerer import load_answerer
from palate.records import Answer, DatasetRequest, Messages, RewardFunction

if TYPE_CHECKING:
    from palate.data.augment.answers import ModelSource
    from palate.data.augment.from_prompts import PromptAugmentation
    from palate.data.augment.gaps import Gaps
    from palate.data.augment.made import Recipe
    from palate.feedback.candidates import Answerer

_AT_ONCE = 8
"""Requests in flight to an engine."""


class FromPrompts(NamedTuple):
    """The options of an augmentation from prompts, as given."""

    delta: tuple[str, str] | None
    critique: str | None
    writer: str | None
    principles: str
    gaps: Path | None
    base_url: str | None
    judge: str | None
    temperature: float
    max_new_tokens: int


def augment_from_prompts(request: DatasetRequest, output: Path, options: FromPrompts) -> None:
    """Make a pair of each prompt, and print what was made and how good both sides are."""
    from palate.data.augment.from_prompts import augment_prompts
    from palate.data.augment.gaps import read_gaps

    gaps = None if options.gaps is None else read_gaps(options.gaps)
    recipe = _recipe(options, gaps)
    reward = None if options.judge is None else _reward(options.judge)
    done = augment_prompts(
        request, output, recipe, seed=request.seed, gaps=gaps, reward=reward, judge=options.judge or ""
    )
    print_done("\n".join(_lines(done, gaps)), done)


def _recipe(options: FromPrompts, gaps: Gaps | None) -> Recipe:
    from palate.data.augment.critique import CritiqueAndRevise
    from palate.data.augment.delta import StrongOverWeak
    from palate.data.augment.principles import for_kinds, read_principles

    if options.delta is not None:
        strong, weak = (_source(name, options) for name in options.delta)
        if strong.name == weak.name:
            raise UsageError(f"--delta {' '.join(options.delta)}: give two models with different names, strong first")
        if gaps is not None and not gaps.topics:
            raise UsageError(
                f"--gaps {options.gaps}: names no rare topic, only {', '.join(gaps.kinds)}, which --delta cannot aim "
                "at; use --critique"
            )
        return StrongOverWeak(strong, weak)
    critic = _source(str(options.critique), options)
    writer = critic if options.writer is None else _source(options.writer, options)
    if writer.name == critic.name and options.writer not in (None, options.critique):
        raise UsageError(f"--model {options.writer} and --critique {options.critique} have one name; change one")
    return CritiqueAndRevise(writer, critic, for_kinds(read_principles(options.principles), gaps.kinds if gaps else ()))


def _source(name: str, options: FromPrompts) -> ModelSource:
    """The model that a name stands for: `[openai:]NAME@URL`, a folder, or a name of the engine at --base-url."""
    from palate.data.augment.answers import ModelSource
    from palate.feedback.page.chat import split_model

    spec = f"openai:{name}" if "@http" in name and not name.startswith("openai:") else name
    model, url = split_model(spec, None if Path(name).is_dir() else options.base_url)
    decoding = {"temperature": options.temperature, "top_p": 1.0, "max_new_tokens": options.max_new_tokens}
    return ModelSource(
        model,
        decoding,
        lambda: SeededModel(
            load_answerer(model if url else model_path(model), url), options.temperature, options.max_new_tokens
        ),
        1 if url is None else _AT_ONCE,
    )


class SeededModel:
    """A model or an engine as `data.augment` asks it: each answer has a seed of its own."""

    def __init__(self, answerer: Answerer, temperature: float, max_new_tokens: int) -> None:
        self.identity = answerer.identity
        self._answerer = answerer
        self._temperature = temperature
        self._max_new_tokens = max_new_tokens

    def ask(self, prompts: Sequence[Messages], *, seed: int, tools: Sequence[str | None] | None = None) -> list[Answer]:
        """An answer to each prompt."""
        from palate.models.generation.decoding import Decoding, sampling_seed

        decoding = Decoding(self._max_new_tokens, self._temperature, 1.0, seed)
        seeds = [sampling_seed(seed, *(f"{turn.role}\0{turn.text}" for turn in prompt)) for prompt in prompts]
        return self._answerer.answers(prompts, decoding, seeds, tools=tools)

    def sample(
        self, prompts: Sequence[Messages], k: int, *, seed: int, tools: Sequence[str | None] | None = None
    ) -> list[list[str]]:
        """K answers to each prompt."""
        from palate.models.generation.decoding import Decoding, sampling_seed

        decoding = Decoding(self._max_new_tokens, self._temperature, 1.0, seed)
        asked = [prompt for prompt in prompts for _ in range(k)]
        seeds = [sampling_seed(seed, prompt, number) for prompt in prompts for number in range(k)]
        offered = None if tools is None else [tool for tool in tools for _ in range(k)]
        texts = [answer.text for answer in self._answerer.answers(asked, decoding, seeds, tools=offered)]
        return [texts[start : start + k] for start in range(0, len(texts), k)]


def _reward(judge: str) -> RewardFunction:
    """The score of a reward model or rule; a judge that only compares cannot say how good an answer is in itself."""
    if judge.startswith(("openai:", "jury:")):
        raise UsageError(f"--judge {judge}: compares answers; to score them here, name a rule or a reward model")
    from palate.models.reward_model import load_reward

    return load_reward(judge, "--judge")


def _lines(done: PromptAugmentation, gaps: Gaps | None) -> list[str]:
    lines = [
        f"{done.prompts:>9,}  prompts",
        f"{done.rows:>9,}  pairs by {done.how}",
        *(f"{count:>9,}  prompts without a pair: {reason}" for reason, count in done.not_made.items()),
        f"{done.asked:>9,}  answers asked for, {done.kept:,} kept from earlier runs",
    ]
    if gaps is not None:
        aimed = [*(", ".join(words[:3]) for words in gaps.topics), *gaps.kinds]
        lines.append(f"{'':>9}  aimed at: {'; '.join(aimed)}")
    quality = [f"{'':>9}  {line}" for line in done.quality.lines()]
    return [*lines, *quality, str(done.output / "augmented.jsonl")]
