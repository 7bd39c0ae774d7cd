"""Accuracy and answers of the demo run on held-out topics; reference and policy are loaded once each."""

from __future__ import annotations

import gc
from collections.abc import Callable

from palate.artifacts import JsonlWriter, RunDir, write_json
from palate.data.prompts import load_prompts
from palate.evaluation.accuracy.evaluate import implied_beta
from palate.evaluation.accuracy.held_out import encode_pairs, held_out_pairs
from palate.evaluation.accuracy.measure import accuracy_of_scores
from palate.evaluation.accuracy.preference import Accuracy
from palate.evaluation.answers.table import SideBySide
from palate.evaluation.subject import RunSpec, Subject
from palate.models.generation.decoding import Decoding
from palate.models.precision import default_device, resolve
from palate.records import as_turns

_PROMPTS = "palate-demo-prompts"


def measure(run: RunSpec, *, on_progress: Callable[[str], None]) -> tuple[Accuracy, list[SideBySide]]:
    """Measure the run; returns its accuracy and answers, and writes both into its directory for the report."""
    device = default_device()
    precision = resolve("auto", device)
    pairs = held_out_pairs(run)
    prompts = [record.prompt for record in load_prompts(_PROMPTS)[0]]
    scores, answers = [], []
    for name, spec in (("reference", run.reference), ("policy", run.policy)):
        on_progress(f"{name}: scoring {len(pairs)} held-out pairs and answering {len(prompts)} questions")
        subject = Subject(spec, precision, device)
        groups = encode_pairs(pairs, subject.template, int(run.config["cutoff_len"]))
        scores.append(dict(zip((group.id for group in groups), subject.score(groups), strict=True)))
        answers.append([one.text for one in subject.answers(prompts, Decoding(max_new_tokens=64))])
        del subject
        gc.collect()
    accuracy = accuracy_of_scores(pairs, *scores, beta=implied_beta(run), name=run.policy.name)
    folder = RunDir.open(run.path)
    write_json(folder.accuracy, accuracy.to_json())
    step = int(run.config["max_steps"])
    with JsonlWriter(folder.samples, append=False) as samples:
        for prompt, before, after in zip(prompts, *answers, strict=True):
            samples.write({"step": step, "prompt": as_turns(prompt), "policy": after, "reference": before})
    rows = [
        SideBySide(prompt, {"policy": after}, before) for prompt, before, after in zip(prompts, *answers, strict=True)
    ]
    return accuracy, rows
