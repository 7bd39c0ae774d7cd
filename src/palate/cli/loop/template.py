"""The commented configs that `palate loop init` writes."""

from __future__ import annotations

from palate.config.reader import dump_yaml

_LOOP = """\
# A loop: from collected interactions to the next served model; docs/loop.md explains each key.
# `palate loop tick` runs what is ready. Paths are relative to this file. An edit counts from the next cycle.
name: {name}
# store: sqlite:///palate.db    # default: PALATE_STORE, else this
folder: cycles
schedule: {schedule}

collect:
{collect}
  sample: 300                   # prompts to annotate in a cycle

candidates: {{k: 2, temperature: 1.0, max_new_tokens: 256}}

annotate:
{annotate}

sources: {sources}   # weights; a data set is a source by its file: old.jsonl: 0.2

train: {train}
gate: gate.yaml                 # prompts, judge, margins: fixed before anything is trained

evaluate:
  judge: {judge}
  # card: judge-card.json       # of `palate judge calibrate`; needed unless the gate has judge_card: false
  benchmarks: {{}}                # for each guard of the gate: {{truthfulqa: mc_task.json}}

canary: none                    # or {{share: 0.1}}: 10 % of people get a candidate that passed
deploy: person                  # a person signs with `palate loop sign`; on_pass: a PASS is enough
"""
_WEEK = "{collect: mon, annotate: tue, train: wed, evaluate: thu, deploy: fri}   # not before, in UTC; or none"
_GATE = """\
# What a candidate must show; docs/gate.md explains each key. Write it before anything is trained.
prompts: {prompts}
n: {n}
judge: {judge}    # as `judge` in winrate.json has it
judge_card: {card}
# guards:
#   - {{metric: truthfulqa/mc1, margin: 0.03, n: 817, discordant: 0.10}}
"""


def loop_text(
    *, name: str, train: str, judge: str, people: bool, annotator: str | None, collect: str | None, schedule: str
) -> str:
    """The content of loop.yaml."""
    from_gateway = "  at_least: 200                 # interactions of the gateway since the last cycle, with consent"
    annotate = ["  people: {votes_per_item: 1, quota: 0.95, days: 1}"] if people else []
    annotate += [f"  judge: {dump_yaml(annotator)}"] if annotator is not None else []
    sources = {
        **({"people": 1.0} if people else {}),
        **({"judge": 0.5 if people else 1.0} if annotator is not None else {}),
        **({"edits": 1.0, "choices": 1.0} if collect is None else {}),
    }
    return _LOOP.format(
        name=dump_yaml(name),
        schedule=_WEEK if schedule == "week" else "none",
        collect=from_gateway if collect is None else f"  prompts: {dump_yaml(collect)}",
        annotate="\n".join(annotate) or "  judge:                        # name a judge, or people: {}",
        sources=dump_yaml(sources),
        train=dump_yaml(train),
        judge=dump_yaml(judge),
    )


def gate_text(prompts: str, n: int, judge: str) -> str:
    """The content of gate.yaml."""
    card = "false    # of votes of people" if judge == "people" else "true"
    return _GATE.format(prompts=dump_yaml(prompts), n=n, judge=dump_yaml(judge), card=card)
