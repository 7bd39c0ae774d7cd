"""Makes the pairs of an online round: the current policy answers prompts, a judge compares the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from palate.artifacts import read_json, write_json, write_text
from palate.charts.text import amount
from palate.config.functions import load_function
from palate.config.pipeline import SamplingFields
from palate.config.run import RunConfig
from palate.data.mix import drawn_key
from palate.data.prompts import load_prompts
from palate.errors import ArtifactError, DataError, EngineError
from palate.evaluation.subject import Subject
from palate.feedback.candidates import Answerer, read_candidates, write_candidates
from palate.feedback.export.pairs import pairs_from_votes
from palate.feedback.judges.load import load_judge
from palate.feedback.judging import collect_votes, questions
from palate.models.generation.decoding import Decoding
from palate.models.generation.endpoints.engine import Engine
from palate.models.loading.spec import starting_model
from palate.models.precision import default_device, resolve

SETTINGS = "sampling.json"

# Keys that do not change the answers.
_NOT_COMPARED = ("candidate_url", "candidate_sync")


def check_sampling(config: RunConfig, sampling: SamplingFields) -> None:
    """Check that the round's existing answers, votes and pairs were made with the same settings.

    Raises:
        ArtifactError: a setting differs; names the key.
    """
    path = Path(str(config.dataset)).with_name(SETTINGS)
    recorded = read_json(path) if path.exists() else {}
    for key, value in sampling.resolved().items():
        if key not in _NOT_COMPARED and recorded.get(key, value) != value:
            raise ArtifactError(
                f"{path.parent}: was started with {key}: {recorded[key]}, the config now says {value}; restore it, "
                "delete that folder and the run made of it, or start again with overwrite_output_dir: true"
            )


def make_pairs(name: str, config: RunConfig, sampling: SamplingFields, *, on_progress: Callable[[str], None]) -> int:
    """Write the round's pairs to the dataset path of its config; returns the number of pairs.

    `candidates.jsonl` and `votes.jsonl` in the same folder are appended to, so that an interrupted round continues.

    Raises:
        DataError: every comparison was a tie or unreadable.
    """
    path = Path(str(config.dataset))
    if path.exists():
        return len(path.read_text(encoding="utf-8").splitlines())
    prompts, dropped = load_prompts(sampling.prompts, dataset_dir=config.dataset_dir)
    if dropped:
        on_progress(
            f"{name}: {amount(len(dropped), 'row')} of {sampling.prompts} without a prompt, first {dropped[0].id}"
        )
    if sampling.prompts_per_round is not None:
        # A random sample by the hash of seed, round and row, in the order of the file.
        key = {prompt.id: drawn_key(config.seed, f"{name}\0{prompt.id}") for prompt in prompts}
        drawn = set(sorted(key, key=key.__getitem__)[: sampling.prompts_per_round])
        prompts = [prompt for prompt in prompts if prompt.id in drawn]
    judge = load_judge(sampling.judge, key="judge")
    answerer = _answerer(config, sampling)
    decoding = Decoding(
        sampling.candidate_max_new_tokens,
        sampling.candidate_temperature,
        seed=config.seed + int.from_bytes(drawn_key(config.seed, name)[:4], "big"),
    )
    write_json(path.with_name(SETTINGS), sampling.resolved())
    candidates = path.with_name("candidates.jsonl")
    write_candidates(prompts, answerer, sampling.candidates, decoding, path=candidates)
    on_progress(f"{name}: {amount(len(prompts), 'prompt')} with {amount(sampling.candidates, 'answer')} each")
    rows = read_candidates(candidates)
    collected = collect_votes(questions(rows), judge, path.with_name("votes.jsonl"))
    if collected.missing:
        raise EngineError(
            f"{name}: {len(collected.missing)} of {collected.asked} verdicts of {sampling.judge} are missing "
            f"({collected.missing[0][1]}); run again, what was answered is kept"
        )
    votes = collected.votes
    pairs = pairs_from_votes(rows, votes, select=sampling.select)
    if not pairs:
        raise DataError(
            f"{name}: judge {sampling.judge} preferred no answer to another; raise candidates or the temperature"
        )
    write_text(path, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))
    unparsed = sum(vote.outcome == "unparsed" for vote in votes)
    unread = f"; {unparsed} of {len(votes)} verdicts are left out: no score, or not readable" if unparsed else ""
    on_progress(f"{name}: {amount(len(pairs), 'pair')} by {sampling.judge}{unread}")
    return len(pairs)


def _answerer(config: RunConfig, sampling: SamplingFields) -> Answerer:
    """The model that the round starts from: loaded here, or in an engine, to which `candidate_sync` sends it first."""
    start = starting_model(config.resolved(), saved_in=config.output_dir)
    if sampling.candidate_url is None:
        device = default_device()
        return Subject(start, resolve(config.precision, device), device)
    name = str(sampling.candidate_model)
    engine = Engine(sampling.candidate_url, name)
    if sampling.candidate_sync != "none":
        sync = load_function(str(sampling.candidate_sync), "candidate_sync")
        path = Path((start.adapters or (start.model,))[-1])
        sync(str(path.resolve() if path.exists() else path), name)
    return engine
