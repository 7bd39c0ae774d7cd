"""What the pages of the manual take for granted: a folder with data, runs, answers and votes on a tiny model."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from pytest_httpserver import HTTPServer
from safetensors.torch import load_file, save_file
from werkzeug import Response

from chat_server import ChatServer, Reply, longer_wins
from cycle_results import write_cycle
from doc_pages import DOCS, REPOSITORY, RUN_PAGES, blocks
from palate.artifacts import iter_jsonl
from palate.cli.main import main
from palate.models.loading.builtin import SMOLLM2
from palate.store import open_store
from palate.store.tables import utc_now
from recorded import Clock, Recording
from tiny import save_tiny, tiny_tokenizer

LAYERS = 5
"""As many as the presets train at most."""
RUNS: Mapping[str, Mapping[str, Any]] = {
    "dpo": {"stage": "dpo", "dataset": "pairs.jsonl", "val_size": 0.25, "save_strategy": "steps", "save_steps": 1},
    "sft": {"stage": "sft", "dataset": "pairs.jsonl"},
    "rm": {"stage": "rm", "dataset": "pairs.jsonl"},
    "lora": {"stage": "dpo", "dataset": "pairs.jsonl", "val_size": 0.25, "finetuning_type": "lora"},
}
COPIES = {"dpo": ("ppo", "ipo")}
"""Runs under the further names that pages have for a run."""


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def variables(world: Path) -> dict[str, str]:
    """The environment in which a page is typed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PALATE_", "OPENAI_"))}
    kept |= {name: os.environ[name] for name in ("PALATE_REFERENCES", "PALATE_TOKENS")}
    path = f"{world / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = {"HOME": str(world), "PALATE_CACHE": str(world / "cache"), "PATH": path}
    return {**kept, **home, "PALATE_PASSWORD": "correct horse battery"}


def make_engine(server: HTTPServer) -> str:
    """The address of an engine that answers everything, as a judge for the longer answer."""
    engine = ChatServer(server)
    engine.answer = reply
    engine.listed["id"] = "qwen3-8b"
    engine.others = ("gpt-4.1", "gpt-5", "gpt-5-mini")
    return engine.url


def reply(body: dict[str, Any]) -> Reply:
    """What a chat model would say to this request."""
    asked = str(body["messages"][-1]["content"])
    if labels := re.search(r"labels: (\[\[[^\]]*\]\])", asked):
        return labels[1]
    if "<<<answer A" in asked:
        return longer_wins(body)
    if asked.startswith(("A or B?", "From 1 to 10?")):
        return "[[A]]" if asked.startswith("A") else "Rating: [[7]]"
    words = f"An answer of seed {body.get('seed')} in {len(asked)} letters."
    if not body.get("stream"):
        return words
    chunks = [{"choices": [{"index": 0, "delta": {"content": words}}]},
              {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]  # fmt: skip
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return Response(f"{events}data: [DONE]\n\n", content_type="text/event-stream")


def palate(*words: str) -> None:
    assert main(words) == 0, words


@contextmanager
def inside(folder: Path, world: Path) -> Iterator[None]:
    """The block runs in a folder, in the environment of the pages."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, variables(world), clear=True):
            yield
    finally:
        os.chdir(before)


def make_world(world: Path) -> Path:
    """Write the folder; `files` in it is what each page gets a copy of."""
    files = world / "files"
    shutil.copytree(REPOSITORY / "configs", files / "configs")
    for name in ("benchmarks", "experiments", "tools", "examples", "src"):
        (files / name).symlink_to(REPOSITORY / name)
    texts = [path.read_text(encoding="utf-8") for path in RUN_PAGES]
    model = world / "cache" / "models" / f"{SMOLLM2}-1"
    tokenizer = tiny_tokenizer(texts=texts, size=600)
    save_tiny(
        model, tokenizer=tokenizer, num_hidden_layers=LAYERS, max_position_embeddings=4096, tie_word_embeddings=False
    )
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"][tokenizer.eos_token_id] = 0  # never the likeliest: an answer has text
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    program = world / "bin" / "palate"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m palate "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    with inside(files, world):
        palate("data", "convert", "palate-demo", "--to", "trl", "--max-samples", "24", "--output", "pairs.jsonl")
        palate(
            "data", "convert", "palate-demo-heldout", "--to", "trl", "--max-samples", "12", "--output", "heldout.jsonl"
        )
        write_rows(files / "prompts.jsonl", [{"prompt": f"What is {n} plus {n}?"} for n in range(4)])
        votes = [{"prompt": f"p{n}", "response_a": "yes", "response_b": "no no", "label": n % 2} for n in range(12)]
        write_rows(files / "votes.jsonl", votes)
        _train(files)
        _compare(files)
        shutil.copy(files / "people.jsonl", files / "experts.votes.jsonl")
    return world


def _train(files: Path) -> None:
    for name, values in RUNS.items():
        file = files / f"{name}.yaml"
        output = f"runs/{name}"
        quick = {"max_steps": 2, "save_strategy": "no", "sample_prompts": 2, "learning_rate": 1e-3, "report_to": "none"}
        if values["stage"] in ("sft", "rm"):
            del quick["sample_prompts"]
        file.write_text(json.dumps({"model_name_or_path": SMOLLM2, "output_dir": output, **quick, **values}))
        palate("train", file.name, "--quiet")
        file.unlink()
        for copy in COPIES.get(name, ()):
            shutil.copytree(files / output, files / "runs" / copy)


def _compare(files: Path) -> None:
    """Candidates, with votes of a judge and of people."""
    generate = ("generate", "prompts.jsonl", "--k", "3", "--max-new-tokens", "6")
    palate(*generate, "--model", "runs/dpo", "--output", "candidates.jsonl")
    palate("judge", "candidates.jsonl", "--judge", "length:shorter")
    write_rows(files / "people.jsonl", list(votes_of_people(files / "candidates.jsonl")))


def votes_of_people(candidates: Path) -> Iterator[dict[str, Any]]:
    """Two people who prefer the first of every two answers."""
    for row in iter_jsonl(candidates):
        for who in ("anna", "ben"):
            for left in range(len(row["completions"]) - 1):
                yield {
                    "item": row["id"], "left": left, "right": left + 1, "outcome": "left", "who": who, "kind": "person",
                    "when": "2026-11-30T12:00:00Z", "shown": "left_first",
                }  # fmt: skip


def named(**runs: str) -> Callable[[Path], None]:
    """Makes runs under further names: `named(large="dpo")`."""

    def copy(files: Path) -> None:
        for name, run in runs.items():
            shutil.copytree(files / "runs" / run, files / "runs" / name)

    return copy


def registry(files: Path) -> None:
    """Versions v1.0 and v1.1 with their runs; the first is in production."""
    named(**{"v1.0": "sft", "v1.1": "dpo"})(files)
    for name in ("v1.0", "v1.1"):
        palate("model", "add", f"runs/{name}", "--name", name)
    palate("model", "promote", "v1.0", "--reason", "first")


def campaign(files: Path) -> None:
    """A campaign with votes of people."""
    palate("label", "import", "--candidates", "candidates.jsonl", "--votes", "people.jsonl")


def campaign_with_judge(files: Path) -> None:
    campaign(files)
    palate("label", "import", "--votes", "candidates.votes.jsonl")


def interactions(files: Path) -> None:
    """Recorded answers to four people, who corrected them."""
    with contextlib.closing(open_store("palate.db")) as store:
        recording = Recording(store, Clock(utc_now()))
        for number in range(4):
            asked = recording.complete(
                f"An answer, number {number}.", prompt=f"Question {number}?", user=f"user {number}"
            )
            recording.rate(asked, thumbs="down", edit=f"A better answer, number {number}.")


def training_file(files: Path, name: str) -> None:
    values = {
        "stage": "dpo",
        "model_name_or_path": SMOLLM2,
        "dataset": "pairs.jsonl",
        "output_dir": f"runs/{name}-yaml",
    }
    (files / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def run_yaml(files: Path) -> None:
    training_file(files, "run")


def resumable(files: Path) -> None:
    """A run that was stopped after its first step."""
    run_yaml(files)
    palate("train", "run.yaml", "--set", "max_steps=1", "--set", "save_steps=1")


def benchmark_files(files: Path) -> None:
    """What the published benchmarks are: questions with answers."""
    for block in blocks(DOCS / "benchmarks.md"):
        if block.title:
            path = files / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n", encoding="utf-8")
    shutil.copy(files / "sft.jsonl", files / "dpo.jsonl")
    shutil.copy(files / "o3-mini.jsonl", files / "mine.jsonl")
    (files / "sets").mkdir()
    shutil.copy(files / "mc_task.json", files / "sets" / "truthfulqa_mc_task.json")
    shutil.copy(files / "xstest_prompts.csv", files / "sets")
    rows = [
        {"name": name + turns, "system_prompt": "You are a judge.", "prompt_template": template(name, turns)}
        for name in ("single-v1", "single-math-v1", "pair-v2", "pair-math-v1") for turns in ("", "-multi-turn")
    ]  # fmt: skip
    write_rows(files / "mt_bench" / "judge_prompts.jsonl", rows)


def template(name: str, turns: str) -> str:
    """A question to the judge of MT-Bench in the place of FastChat's."""
    numbers = ("_1", "_2") if turns else ("",)
    fields = ["question", *(("answer_a", "answer_b") if name.startswith("pair") else ("answer",))]
    asked = "A or B?" if name.startswith("pair") else "From 1 to 10?"
    return "\n".join([asked, *("{" + field + number + "}" for number in numbers for field in fields)])


def hh(files: Path) -> None:
    """Pairs in the form of HH."""
    rows = list(iter_jsonl(files / "pairs.jsonl"))
    texts = [
        {side: f"\n\nHuman: {row['prompt'][-1]['content']}\n\nAssistant: {row[side][-1]['content']}"
         for side in ("chosen", "rejected")}
        for row in rows
    ]  # fmt: skip
    with gzip.open(files / "hh_harmless_base_test.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in texts)
    shutil.copy(files / "pairs.jsonl", files / "hh.jsonl")


def must_pass(files: Path) -> None:
    (block,) = [block for block in blocks(DOCS / "eval.md") if block.title == "must_pass.jsonl"]
    (files / block.title).write_text(block.text, encoding="utf-8")


def many(files: Path) -> None:
    """More comparisons, as many as a gate and the gaps of an inspection need."""
    for name, file, rows in (("palate-demo", "pairs.jsonl", "200"), ("palate-demo-heldout", "heldout.jsonl", "110")):
        (files / file).unlink()
        palate("data", "convert", name, "--to", "trl", "--max-samples", rows, "--output", file)


def gate_prompts(files: Path) -> None:
    """As many prompts as the gate of the page has."""
    write_rows(files / "heldout.jsonl", [{"prompt": f"What is {n} times {n}?"} for n in range(400)])


def cycles(files: Path) -> None:
    """Two cycles of a loop, whose candidates did not pass."""
    for name in ("0001", "0002"):
        (files / "cycles" / name).mkdir(parents=True)
        write_cycle(files / "cycles" / name)


def versions(files: Path) -> None:
    """Answers of three versions, compared with each other by a rule, and two of them by people."""
    named(**{"v1.2": "lora"})(files)
    for name in ("v1.0", "v1.1", "v1.2"):
        answer = ("generate", "heldout.jsonl", "--model", f"runs/{name}", "--max-new-tokens", "4")
        palate(*answer, "--output", f"{name}.jsonl")
    for new, old in (("v1.1", "v1.0"), ("v1.2", "v1.1"), ("v1.2", "v1.0")):
        palate("eval", "winrate", f"{new}.jsonl", f"{old}.jsonl", "--judge", "length:shorter")
    shutil.copy(files / "v1.1.jsonl", files / "after.jsonl")
    shutil.copy(files / "v1.0.jsonl", files / "before.jsonl")
    candidates = "winrate-v1.1-vs-v1.0/candidates.jsonl"
    write_rows(files / "people.jsonl", list(votes_of_people(files / candidates)))
    palate("label", "import", "--candidates", candidates, "--votes", "people.jsonl", "--campaign", "arena")
    for name, right in (("base", 0), ("dpo", 1)):
        (files / "out" / name).mkdir(parents=True)
        item = {"doc": {}, "resps": [], "metrics": ["acc"]}
        rows = [{**item, "doc_id": n, "doc_hash": f"{n}", "acc": float(right or n % 3 == 0)} for n in range(12)]
        write_rows(files / "out" / name / "samples_arc_easy_1.jsonl", rows)


def pickled(files: Path) -> None:
    """A model folder whose weights are a pickle."""
    shutil.copytree(
        files / "runs" / "dpo", files / "old-model", ignore=shutil.ignore_patterns("checkpoint-*", "*.json*l")
    )
    torch.save(load_file(files / "old-model" / "model.safetensors"), files / "old-model" / "pytorch_model.bin")
    (files / "old-model" / "model.safetensors").unlink()


def aligned(files: Path) -> None:
    run_yaml(files)
    block = next(block for block in blocks(DOCS / "pipelines.md") if block.title == "aligned.yaml")
    (files / "aligned.yaml").write_text(block.text, encoding="utf-8")
    demonstrations(files)


def demonstrations(files: Path) -> None:
    shutil.copy(files / "pairs.jsonl", files / "demonstrations.jsonl")


def preferences(files: Path) -> None:
    """What a person chose on the page for free prompts."""
    shutil.copy(files / "pairs.jsonl", files / "preferences.jsonl")


def votes_csv(files: Path) -> None:
    rows = "".join(f"question {n}?,yes {n},no {n},{'response_a' if n % 3 else 'response_b'}\n" for n in range(12))
    (files / "votes.csv").write_text("question,response_a,response_b,winner\n" + rows, encoding="utf-8")


def nothing_generated(files: Path) -> None:
    for name in ("candidates.jsonl", "candidates.votes.jsonl"):
        (files / name).unlink()


def votes_on_prompts(files: Path) -> None:
    """Votes of people on the three answers to each of four prompts."""
    rows = [{"id": f"prompts.jsonl:{number}", "completions": ["a", "b", "c"]} for number in range(1, 5)]
    write_rows(files / "people.jsonl", list(votes_of_people(write_rows(files / "rows.jsonl", rows))))


GIVEN: Mapping[str, Sequence[Callable[[Path], None]]] = {
    "docs/README.md": [many],
    "docs/benchmarks.md": [benchmark_files],
    "docs/config.md": [run_yaml],
    "docs/data.md": [many, hh, named(large="dpo", small="sft")],
    "docs/eval.md": [registry, versions],
    "docs/evaluation.md": [benchmark_files, named(demo="dpo")],
    "docs/gate.md": [gate_prompts, benchmark_files, must_pass, registry],
    "docs/generate.md": [nothing_generated],
    "docs/init.md": [votes_csv],
    "docs/interactions.md": [interactions],
    "docs/label.md": [preferences, named(conservative="dpo", recommended="sft")],
    "docs/label-export.md": [campaign],
    "docs/loop.md": [many, lambda files: training_file(files, "dpo")],
    "docs/model.md": [pickled],
    "docs/pipelines.md": [demonstrations],
    "docs/plan.md": [aligned],
    "docs/serve.md": [registry],
    "docs/sources.md": [hh, campaign_with_judge, interactions, cycles, lambda files: training_file(files, "dpo")],
    "docs/train.md": [resumable],
    "docs/tutorials/judge.md": [votes_on_prompts],
    "docs/web.md": [cycles],
}
"""What a page takes for granted beyond the folder that all have."""


def vote(files: Path) -> None:
    """What a person does on the page that `palate label serve` opens."""
    write_rows(files / "by-hand.votes.jsonl", list(votes_of_people(files / "candidates.jsonl")))
    palate("label", "import", "--votes", "by-hand.votes.jsonl")


TYPED_BEFORE: Mapping[str, Sequence[str]] = {
    "docs/interactions.md": [
        "palate serve --model runs/dpo --record full",
        "curl -s http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' "
        """-d '{"max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}'""",
    ],
}
"""Commands before the page's own."""
MEANWHILE: Mapping[tuple[str, str], Callable[[Path], None]] = {("docs/tutorials/label.md", "palate label serve"): vote}
"""What people do while a server of a page runs."""
