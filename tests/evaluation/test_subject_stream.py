"""A loaded model streams what it answers, one answer at a time."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import torch

from palate.evaluation.subject import Subject, model_spec
from palate.models.generation.decoding import Decoding
from palate.models.precision import FP32
from palate.records import Message
from tiny import save_tiny

PROMPT = (Message("user", "what was said?"),)
HOW = Decoding(max_new_tokens=16, temperature=1.0)


def test_two_threads_get_the_answers_that_the_model_gives_alone(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", initializer_range=0.2)
    subject = Subject(model_spec(str(folder)), FP32, torch.device("cpu"))
    expected = [subject.answers([PROMPT], HOW, [seed])[0] for seed in (1, 2)]
    streamed: dict[int, list[str]] = {1: [], 2: []}
    order: list[int] = []
    answers = {}

    def stream(seed: int) -> None:
        def on_text(text: str) -> None:
            streamed[seed].append(text)
            order.append(seed)

        answers[seed] = subject.stream(PROMPT, HOW, seed, on_text)

    threads = [threading.Thread(target=stream, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[1], answers[2]] == expected
    assert ["".join(streamed[seed]) for seed in (1, 2)] == [answer.text for answer in expected]
    assert sum(a != b for a, b in itertools.pairwise(order)) == 1, "one after the other"
