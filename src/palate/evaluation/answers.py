"""Fresh answers of runs and their references to prompts from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from palate.data.prompts import load_prompts
from palate.evaluation.subject import ModelSpec, RunSpec, Subject
from palate.evaluation.table import SideBySide
from palate.models.generate import Decoding
from palate.models.precision import default_device, resolve
from palate.records import Messages


def answer_prompts(
    runs: Mapping[str, RunSpec], prompts: str, *, max_new_tokens: int, say: Callable[[str], None]
) -> list[SideBySide]:
    """Greedy answers of every run's policy, and of the first run's reference, one model in memory at a time.

    Args:
        runs: name → run.
        prompts: a dataset with prompts, as `data.prompts` reads it.
        say: told before each model is loaded.
    """
    asked = [messages for _, messages in load_prompts(prompts)[0]]
    first = next(iter(runs.values()))
    say(f"answering {len(asked)} prompts with the reference, {first.reference.model}")
    reference = _answers(first.reference, asked, max_new_tokens)
    outputs: dict[str, list[str]] = {}
    for name, run in runs.items():
        say(f"answering {len(asked)} prompts with {name}")
        outputs[name] = _answers(run.policy, asked, max_new_tokens)
    return [
        SideBySide(prompt, {name: texts[number] for name, texts in outputs.items()}, reference[number])
        for number, prompt in enumerate(asked)
    ]


def _answers(spec: ModelSpec, prompts: list[Messages], max_new_tokens: int) -> list[str]:
    device = default_device()
    subject = Subject(spec, resolve("auto", device), device)
    return subject.answer(prompts, Decoding(max_new_tokens=max_new_tokens))
