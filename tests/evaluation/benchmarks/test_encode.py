"""Items as groups: boundaries, what does not fit, and one pass equal to one answer at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from palate.evaluation.benchmarks.benchmark import Item
from palate.evaluation.benchmarks.encode import chat_groups, plain_groups, prompt_groups
from palate.evaluation.subject import ModelSpec, Subject
from palate.models.precision import FP32
from palate.records import Dropped, Message
from palate.text.groups import EncodedGroup
from palate.text.template import load_template
from tiny import save_tiny, stock_score, tiny_tokenizer


def item(*choices: str, prompt: str = "is it so", number: int = 1) -> Item:
    return Item(str(number), f"row {number}", (Message("user", prompt),), plain=f"Q: {prompt}\nA:", choices=choices)


def test_a_plain_prompt_ends_where_the_answers_begin() -> None:
    template = load_template(tiny_tokenizer())
    [group] = plain_groups([item("yes, it is", "no")], template, 200)
    assert isinstance(group, EncodedGroup)
    decode = template.tokenizer.decode
    assert decode(group.prompt_ids) == "Q: is it so\nA:"
    assert [decode(completion.ids) for completion in group.completions] == [" yes, it is", " no"]
    assert all(completion.trained.all() for completion in group.completions)


def test_a_token_across_the_boundary_belongs_to_the_answer() -> None:
    """Where prompt and answer share a token, the prompt ends before it, and the shared token is scored."""
    tokenizer = tiny_tokenizer(texts=["x ab"] * 50, size=262)
    template = load_template(tokenizer)
    assert [tokenizer.decode(token) for token in template.token_ids("x ab")] == ["x", " ab"]
    [group] = plain_groups([Item("1", "row 1", (), plain="x a", choices=("b", "z"))], template, 200, separator="")
    assert isinstance(group, EncodedGroup)
    assert tokenizer.decode(group.prompt_ids) == "x"
    assert [tokenizer.decode(completion.ids) for completion in group.completions] == [" ab", " az"]
    # Of " az" the space is the prompt's own token, which is not scored.
    assert [completion.trained.tolist() for completion in group.completions] == [[True], [False, False, True]]


def test_the_bos_that_the_tokenizer_writes_is_there_once() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    plain = load_template(tokenizer)
    assert plain.plain_start == ""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    assert plain.plain_start == "<|im_start|>"
    [group] = plain_groups([item("yes", "no")], plain, 200)
    assert isinstance(group, EncodedGroup)
    assert group.prompt_ids.tolist().count(start) == 1
    assert group.prompt_ids[0] == start


def test_what_does_not_fit_is_left_out_whole() -> None:
    """Nothing is truncated: a group of exactly the limit stays, one token more leaves."""
    template = load_template(tiny_tokenizer())
    for make in (plain_groups, chat_groups):
        [free] = make([item("yes, it is", "no")], template, 200)
        assert isinstance(free, EncodedGroup)
        [kept] = make([item("yes, it is", "no")], template, free.longest_row)
        assert isinstance(kept, EncodedGroup)
        assert kept.content_hash == free.content_hash
        [dropped] = make([item("yes, it is", "no")], template, free.longest_row - 1)
        assert isinstance(dropped, Dropped)
        assert dropped.reason == "too_long"
    [asked] = prompt_groups([item()], template, 200, max_new_tokens=4)
    assert isinstance(asked, EncodedGroup)
    limit = len(asked.prompt_ids) + 4
    assert isinstance(prompt_groups([item()], template, limit, max_new_tokens=4)[0], EncodedGroup)
    assert isinstance(prompt_groups([item()], template, limit, max_new_tokens=5)[0], Dropped)


def test_equal_answers_are_named() -> None:
    [dropped] = plain_groups([item("yes", "yes")], load_template(tiny_tokenizer()), 200)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "equal_after_encoding"


@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_shared_prompts_score_as_one_answer_at_a_time(kind: str, tmp_path: Path) -> None:
    """By transformers alone, one forward for each answer; with packed (llama) and padded batches (bloom)."""
    folder = save_tiny(tmp_path / "model", kind, initializer_range=0.2)
    subject = Subject(ModelSpec("model", str(folder)), FP32, torch.device("cpu"))
    asked = [
        item("yes, it is", "no", "that is what they said of the question", number=1),
        item("never", "it was not", prompt="what was the question of this", number=2),
    ]
    groups = [group for group in plain_groups(asked, subject.template, 200) if isinstance(group, EncodedGroup)]
    stock = AutoModelForCausalLM.from_pretrained(folder).eval()
    for (sums, counts), group in zip(subject.score(groups), groups, strict=True):
        expected = [stock_score(stock, group, index) for index in range(len(group.completions))]
        assert sums == pytest.approx(expected, abs=1e-4)
        assert counts == [len(completion.ids) for completion in group.completions]
