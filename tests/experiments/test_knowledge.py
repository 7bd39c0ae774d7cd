"""Multiple choice by hand; perplexity against transformers' own loss; pairs drawn by their ids."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from _knowledge import (
    Question,
    knowledge_kept,
    mc_scores,
    multiple_choice,
    neutral_losses,
    perplexity,
    read_questions,
)
from _measured import accuracies, changed, opened
from _real_pairs import DEMO, drawn, read_pairs, template_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.errors import DataError
from palate.evaluation.subject import model_spec
from small import small_data, small_model

QUESTION = Question("?", {"a": 1, "b": 0, "c": 0}, {"a": 1, "d": 1, "b": 0})


def test_multiple_choice_by_hand() -> None:
    # Probabilities 0.2, 0.1, 0.05 and 0.1 of a, b, c, d: a is likeliest of a, b, c; a and d have 0.3 of 0.4.
    likely = {choice: math.log(p) for choice, p in {"a": 0.2, "b": 0.1, "c": 0.05, "d": 0.1}.items()}
    assert mc_scores(likely, QUESTION) == pytest.approx((1.0, 0.75))
    # Now c is likeliest of a, b, c; it is no choice of MC2, where a and d have 0.2 of 0.3.
    assert mc_scores({**likely, "a": math.log(0.1), "c": math.log(0.4)}, QUESTION) == pytest.approx((0.0, 2 / 3))


def test_a_tie_is_not_right_and_tiny_probabilities_do_not_vanish() -> None:
    assert mc_scores({"a": -2000.0, "b": -2000.0, "c": -3000.0, "d": -2000.0}, QUESTION) == pytest.approx((0, 2 / 3))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


def test_questions_are_asked_through_the_chat_template(model: Path, tmp_path: Path) -> None:
    questions, of = read_questions(small_data(tmp_path) / "benchmark" / "truthfulqa_mc_task.json", 2, seed=0)
    assert of == 5
    subject = opened(model_spec(str(model)))
    found = multiple_choice(subject, questions)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    for question, scores in zip(questions, found, strict=True):
        logps = {}
        for choice in question.choices:
            asked = [{"role": "user", "content": question.text}, {"role": "assistant", "content": choice}]
            prompt = tokenizer.apply_chat_template(asked[:1], tokenize=False, add_generation_prompt=True)
            whole = tokenizer(prompt + choice + "<|im_end|>", return_tensors="pt")["input_ids"]
            start = len(tokenizer(prompt)["input_ids"])
            with torch.no_grad():
                logits = network(whole).logits[0].log_softmax(-1)
            logps[choice] = float(logits[range(start - 1, whole.shape[1] - 1), whole[0, start:]].sum())
        assert scores == pytest.approx(list(mc_scores(logps, question)), abs=1e-4)


def test_perplexity_is_that_of_the_models_own_loss(model: Path) -> None:
    text = "A river begins where\nwater gathers.\n\nBread needs flour, water and time."
    losses = neutral_losses(opened(model_spec(str(model))), text)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    expected = []
    for paragraph in ("A river begins where water gathers.", "Bread needs flour, water and time."):
        ids = tokenizer(paragraph, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            loss = network(ids, labels=ids).loss.item()
        expected.append([loss * (ids.shape[1] - 1), ids.shape[1] - 1])
    assert [tokens for _, tokens in losses] == [tokens for _, tokens in expected]
    assert [loss for loss, _ in losses] == pytest.approx([loss for loss, _ in expected], rel=1e-4)
    total = sum(loss for loss, _ in expected) / sum(tokens for _, tokens in expected)
    assert perplexity(losses) == pytest.approx(math.exp(total), rel=1e-4)


def test_long_paragraphs_are_read_in_windows_that_miss_no_token(model: Path) -> None:
    text = "one two three four five six seven eight nine ten " * 60
    losses = neutral_losses(opened(model_spec(str(model))), text)
    ids = AutoTokenizer.from_pretrained(model)(" ".join(text.split()), add_special_tokens=False)["input_ids"]
    assert len(losses) > 1
    assert sum(tokens for _, tokens in losses) == len(ids) - 1


def test_what_is_kept_counts_questions_lost_and_won() -> None:
    before = {"choice": [[1, 0.6], [1, 0.6], [0, 0.2], [1, 0.5]], "neutral": [[10.0, 5], [20.0, 10]]}
    after = {"choice": [[0, 0.4], [1, 0.6], [1, 0.4], [0, 0.1]], "neutral": [[12.0, 5], [21.0, 10]]}
    kept = knowledge_kept(before, after)
    assert (kept["won"], kept["lost"]) == (1, 2)
    assert kept["mc1"]["estimate"] == pytest.approx(-0.25)
    assert kept["mc2"]["estimate"] == pytest.approx((-0.2 + 0 + 0.2 - 0.4) / 4)
    assert kept["loss"]["estimate"] == pytest.approx((2 / 5 + 1 / 10) / 2)
    assert kept["mc1_p"] == pytest.approx(0.625)  # 2 · (P(0) + P(1) / 2) of 3 coin tosses


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('[{"question": "?"}]', encoding="utf-8")
    with pytest.raises(DataError, match="rows need question, mc1_targets and mc2_targets"):
        read_questions(path, 2, seed=0)


def test_accuracies_by_mean_and_by_sum_part() -> None:
    # Chosen is long: by the sum it is less likely, per token it is likelier; training raises it by 1 nat.
    before = {"a": [[-10.0, -6.0], [10.0, 2.0]], "only here": [[0.0, -1.0], [1.0, 1.0]]}
    after = {"a": [[-9.0, -6.0], [10.0, 2.0]]}
    found = accuracies(before, {**after, "only there": [[0.0, 1.0], [1.0, 1.0]]})
    assert found["n"] == 1
    assert [found[key]["estimate"] for key in ("reference_mean", "reference_sum", "implied")] == [1.0, 0.0, 1.0]
    assert found["margin"]["estimate"] == pytest.approx(1.0)


def test_changed_answers_keep_pairs_of_words() -> None:
    before = [{"text": "one two three"}, {"text": "as it was"}]
    after = [{"text": "one two four"}, {"text": "as it was"}]
    assert changed(before, after) == {"n": 2, "different": 1, "words_kept": 0.75}


def test_which_pairs_are_drawn_does_not_depend_on_their_order(model: Path) -> None:
    pairs, template = read_pairs(DEMO)[:30], template_of(str(model))
    first, fitting = drawn(pairs, template, cutoff_len=512, count=5, seed=1)
    again, _ = drawn(pairs[::-1], template, cutoff_len=512, count=5, seed=1)
    other, _ = drawn(pairs, template, cutoff_len=512, count=5, seed=2)
    assert fitting == 30
    assert [pair.id for pair in first] == [pair.id for pair in again]
    assert [pair.id for pair in first] != [pair.id for pair in other]
