"""A page for each stage, with that stage's figures first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palate.report.contents import read_contents
from palate.report.curves import lead_charts
from palate.report.judgements.directions import directions, verdict
from palate.report.judgements.stages import counted
from palate.report.key_figures import cards
from palate.report.pages.run import run_report
from stage_runs import offline_rows, online_rows, write_run

FIRST = {
    "sft": ["Held-out loss", "Training loss"],
    "rm": ["Reward accuracy", "Reward margin"],
    "dpo": ["Reward accuracy", "Reward margin"],
    "kto": ["Answers rewarded as labelled", "Reward margin"],
    "ppo": ["Reward", "KL to the reference", "Length of answers", "Answers that end their turn", "Entropy"],
    "grpo": ["Reward", "KL to the reference", "Length of answers", "Answers that end their turn", "Entropy"],
}


@pytest.mark.parametrize("stage", FIRST)
def test_every_stage_has_a_page_with_its_own_figures_first(tmp_path: Path, stage: str) -> None:
    rows = online_rows() if stage in ("ppo", "grpo") else offline_rows(stage)
    contents = read_contents(write_run(tmp_path, stage, rows))
    found = cards(contents)
    assert [card.label for card in found][: len(FIRST[stage])] == FIRST[stage]
    assert "held-out" in found[0].note, "a figure says how many rows it rests on"
    assert verdict(contents, directions(contents))[0] == "right"
    page = run_report(contents)
    assert f"{stage.upper()} of tiny" in page
    sections = re.findall(r'<section id="(\w+)">', page)
    assert sections[:3] == ["directions", "charts", "samples"]
    assert sections.index("samples") < sections.index("health")


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_online_stages_show_reward_kl_length_and_entropy_before_the_loss(tmp_path: Path, stage: str) -> None:
    contents = read_contents(write_run(tmp_path, stage, online_rows()))
    assert [title for title, _ in lead_charts(contents)] == [
        "Reward",
        "KL to the reference",
        "Length of answers",
        "Entropy",
        "Answers that end their turn",
    ]
    page = run_report(contents)
    assert page.index("<figcaption>Reward<") < page.index('id="samples"') < page.index("<figcaption>Loss<")


def test_a_reward_model_is_not_judged_by_the_sign_of_its_rewards(tmp_path: Path) -> None:
    contents = read_contents(write_run(tmp_path, "rm", offline_rows("rm")))
    assert {one.metric for one in directions(contents)} == {"loss", "rewards/margins", "rewards/accuracies"}


def test_counts_are_told_in_the_words_of_the_stage() -> None:
    assert counted("dpo", 120, 60) == "120 held-out pairs of 60 prompts"
    assert counted("dpo", 1, 1) == "1 held-out pair of 1 prompt"
    assert counted("grpo", 16, 16) == "16 held-out prompts"
    assert counted("kto", 9) == "9 held-out labelled answers"
    assert counted("rm", None) == "held-out pairs"
