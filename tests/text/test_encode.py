"""Records become tokens: the rendered chat token for token, the right ones trained, the prompt shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from palate.records import (
    Demonstration,
    Dropped,
    LabelledCompletion,
    Message,
    Messages,
    PreferencePair,
    Ranking,
    Rollouts,
    ScoredCompletion,
)
from palate.text import encode
from palate.text.encode import encode_record, encode_records
from palate.text.groups import Cut, EncodedGroup, EncodingStats
from palate.text.named import TEMPLATES
from palate.text.template import Template, load_template

Chat = Callable[..., Messages]
Make = Callable[[str], PreTrainedTokenizerFast]
Pair = Callable[..., PreferencePair]


def group_of(record: Any, template: Template, **options: Any) -> EncodedGroup:
    group = encode_record(record, template, **options)
    assert isinstance(group, EncodedGroup), group
    return group


def rendered(template: Template, prompt: Messages, completion: Messages) -> list[int]:
    """The ids of the whole chat as transformers renders it, up to its end of turn."""
    chat = [{"role": message.role, "content": message.content} for message in (*prompt, *completion)]
    text = template.tokenizer.apply_chat_template(chat, tokenize=False)
    ids: list[int] = template.tokenizer(text.rstrip(), add_special_tokens=False)["input_ids"]
    return ids


def joined(group: EncodedGroup, index: int) -> list[int]:
    return [*group.prompt_ids.tolist(), *group.completions[index].ids.tolist()]


def trained_text(group: EncodedGroup, index: int, template: Template) -> str:
    completion = group.completions[index]
    return str(template.tokenizer.decode(completion.ids[completion.trained].tolist()))


@pytest.mark.parametrize("name", [*TEMPLATES, "thinking", "opened", "headers"])
@pytest.mark.parametrize("kind", ["byte_level", "composing", "sentence_piece", "sentence_piece_always", "trimming"])
def test_prompt_and_completion_are_the_rendered_chat(
    make_tokenizer: Make, chat: Chat, pair: Pair, jinja: dict[str, str], name: str, kind: str
) -> None:
    tokenizer = make_tokenizer(kind)
    tokenizer.chat_template = jinja.get(name)
    template = load_template(tokenizer, None if name in jinja else name)
    prompt = chat("s: Be brief.", "u: What is 12 + 345?", "a:  357.", "u: And in 北京\n\n?")
    record = pair(prompt, "  The answer is\n\n357 🙂", chat("a: call", "t: 357", "a: It is 357.\n"))
    group = group_of(record, template)
    for index, completion in enumerate((record.chosen, record.rejected)):
        assert joined(group, index) == rendered(template, prompt, completion)
        assert len(group.completions[index].ids) == len(group.completions[index].trained)
        assert group.completions[index].trained[-1]


@pytest.mark.parametrize("kind", ["byte_level", "composing", "sentence_piece", "sentence_piece_always"])
@pytest.mark.parametrize("name", ["chatml", "llama3", "hh", "plain", "mistral"])
def test_any_contents(templates: dict[tuple[str, str], Template], pair: Pair, kind: str, name: str) -> None:
    template = templates[kind, name]

    @settings(max_examples=25, deadline=None)
    @given(prompt=TEXT, chosen=TEXT, rejected=TEXT)
    def check(prompt: str, chosen: str, rejected: str) -> None:
        # An end of turn in the data is taken off, which has its own test.
        assume(not any(text.rstrip().endswith(("|>", "</s>")) for text in (chosen, rejected)))
        record = pair((Message("user", prompt),), chosen, rejected)
        result = encode_record(record, template)
        if isinstance(result, Dropped):
            assert result.reason in ("equal_after_encoding", "nothing_trained")
            return
        for index, completion in enumerate((record.chosen, record.rejected)):
            assert joined(result, index) == rendered(template, record.prompt, completion)

    check()


# Letters, marks, spaces, and characters that compose, decompose or have a special meaning to tokenizers.
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n\té\u0301▁<|'🙂ﬁ"), max_size=12)


@pytest.fixture(scope="module")
def templates(make_tokenizer: Make) -> dict[tuple[str, str], Template]:
    kinds = ("byte_level", "composing", "sentence_piece", "sentence_piece_always")
    names = ("chatml", "llama3", "hh", "plain", "mistral")
    return {(kind, name): load_template(make_tokenizer(kind), name) for kind in kinds for name in names}


def test_only_the_assistants_own_tokens_are_trained(plain_bytes: Any, chat: Chat, pair: Pair) -> None:
    template = load_template(plain_bytes, "chatml")
    several = chat("a: call", "t: 42", "a: It is 42.", "u: Thanks", "a: Welcome")
    group = group_of(pair(chat("u: f?"), several, "no"), template)
    assert trained_text(group, 0, template) == "call<|im_end|>It is 42.<|im_end|>Welcome<|im_end|>"
    assert trained_text(group, 1, template) == "no<|im_end|>"
    assert plain_bytes.decode(group.prompt_ids) == "<|im_start|>user\nf?<|im_end|>\n<|im_start|>assistant\n"
    assert group.completions[0].trained.sum() < len(group.completions[0].ids)


def test_a_pad_token_that_is_the_end_token_is_trained(smollm2: Any, chat: Chat, pair: Pair) -> None:
    assert smollm2.pad_token_id == smollm2.eos_token_id
    group = group_of(pair(chat("u: hi"), "ho", "hey"), load_template(smollm2))
    for completion in group.completions:
        assert completion.ids[-1] == smollm2.eos_token_id
        assert completion.trained.all()


def test_a_token_across_the_boundary_belongs_to_each_completion_and_is_trained(
    plain_bytes: Any, chat: Chat, pair: Pair
) -> None:
    template = load_template(plain_bytes, "plain")
    assert len(template.tokenize([" capital"])[0].ids) == 1
    group = group_of(pair(chat("u: The capi"), "tal of", "xyz"), template)
    assert plain_bytes.decode(group.prompt_ids) == "The"
    assert plain_bytes.decode(group.completions[0].ids) == " capital of<|endoftext|>"
    assert group.completions[0].trained.all()
    # The other answer leaves the prompt's end as it is: in that completion, but not its own.
    assert plain_bytes.decode(group.completions[1].ids) == " capixyz<|endoftext|>"
    assert trained_text(group, 1, template) == "xyz<|endoftext|>"


def test_the_prompt_is_what_generation_starts_from(make_tokenizer: Make, chat: Chat, pair: Pair) -> None:
    for name in sorted(set(TEMPLATES) - {"llama3"}):
        template = load_template(make_tokenizer("byte_level"), name)
        prompt = chat("u: What is the answer?")
        group = group_of(pair(prompt, "It is", "The"), template)
        assert group.prompt_ids.tolist() == template.generation_prompt(prompt)


def test_with_an_empty_prompt_the_first_token_is_context(make_tokenizer: Make, chat: Chat) -> None:
    template = load_template(make_tokenizer("letters"), "plain")
    group = group_of(Demonstration(id="1", prompt=(), completion=chat("a: abc")), template)
    assert group.prompt_ids.tolist() == []
    assert group.completions[0].trained.tolist() == [False, True, True, True]
    empty = encode_record(Demonstration(id="1", prompt=(), completion=chat("a: ")), template)
    assert isinstance(empty, Dropped)
    assert empty.reason == "nothing_trained"


def test_completions_that_become_equal_are_dropped(make_tokenizer: Make, chat: Chat, pair: Pair) -> None:
    template = load_template(make_tokenizer("byte_level"), "llama3")
    row = encode_record(pair(chat("u: hi"), "ho", " ho\n", id="f:3"), template)
    assert isinstance(row, Dropped)
    assert (row.id, row.reason) == ("f:3", "equal_after_encoding")
    ranked = Ranking(id="f:4", prompt=chat("u: hi"), completions=(chat("a: x"), chat("a: ho"), chat("a: ho ")))
    assert encode_record(ranked, template) == Dropped(
        "f:4", "equal_after_encoding", "two completions have the same tokens"
    )
    sampled = Rollouts(id="f:5", prompt=chat("u: hi"), completions=(chat("a: x"),) * 3, rewards=(0.0, 1.0, 0.5))
    assert group_of(sampled, template).labels == (0.0, 1.0, 0.5)


def test_a_completion_without_an_answer_is_dropped(plain_bytes: Any, chat: Chat, pair: Pair) -> None:
    row = encode_record(pair(chat("u: hi"), chat("u: again"), "ho"), load_template(plain_bytes, "chatml"))
    assert isinstance(row, Dropped)
    assert row.reason == "nothing_trained"


def test_what_the_template_refuses_is_dropped_with_its_words(plain_bytes: Any, chat: Chat, pair: Pair) -> None:
    plain_bytes.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.content }}<|im_end|>{% endfor %}"
    )
    template = load_template(plain_bytes)
    encoded = encode_records([pair(chat("s: x", "u: hi"), "a", "b"), pair(chat("u: hi"), "a", "b")], template)
    assert len(encoded.groups) == 1
    assert encoded.dropped[0].reason == "template_refused"
    assert "no system role; it has no system turn: write" in encoded.dropped[0].detail


def test_labels_margin_and_dimensions(plain_bytes: Any, chat: Chat, pair: Pair) -> None:
    template = load_template(plain_bytes, "chatml")
    common: Any = {"id": "1", "prompt": chat("u: q"), "weight": 0.5, "source": "s"}
    answer = chat("a: r")
    wanted = group_of(LabelledCompletion(**common, completion=answer, desirable=True), template)
    assert (wanted.labels, wanted.weight, wanted.source, len(wanted.completions)) == ((1.0,), 0.5, "s", 1)
    assert group_of(LabelledCompletion(**common, completion=answer, desirable=False), template).labels == (0.0,)
    assert group_of(ScoredCompletion(**common, completion=answer, score=0.25), template).labels == (0.25,)
    dimensions = {"safety": (5.0, 3.0)}
    paired = group_of(pair(chat("u: q"), "a", "b", margin=2.0, dimensions=dimensions), template)
    assert (paired.margin, paired.dimensions, paired.labels) == (2.0, dimensions, ())
    without = group_of(pair(chat("u: q"), "a", "b"), template)
    assert (without.margin, without.dimensions) == (None, None)


def test_an_end_of_turn_in_the_data_is_not_doubled(plain_bytes: Any, chat: Chat, pair: Pair) -> None:
    template = load_template(plain_bytes, "chatml")
    encoded = encode_records([pair(chat("u: q"), "yes<|im_end|>\n", "no<|im_end|><|endoftext|>")], template)
    assert [trained_text(encoded.groups[0], i, template) for i in (0, 1)] == ["yes<|im_end|>", "no<|im_end|>"]
    assert encoded.stats == EncodingStats(records=1, ends_removed=3)


def test_special_tokens_spelled_in_the_data_are_counted(plain_bytes: Any, chat: Chat, pair: Pair) -> None:
    records = [pair(chat("u: say <|im_start|>system"), "a", "b"), pair(chat("u: |im_start|"), "a", "b")]
    assert encode_records(records, load_template(plain_bytes, "chatml")).stats.control_text == 1


# One token a character: system 10 + n, user 8 + n, assistant 13 + n, generation prompt 11, an answer n + 1.
TURNS = ("s: S", "u: aaaa", "a: bbb", "u: cc")


@pytest.mark.parametrize(
    ("cutoff_len", "prompt", "cut"),
    [
        (65, 60, None),
        (64, 32, Cut("rows.jsonl:1", 28, 1)),
        (37, 32, Cut("rows.jsonl:1", 28, 1)),
        (36, 31, Cut("rows.jsonl:1", 29, 1)),
        (6, 1, Cut("rows.jsonl:1", 59, 1)),
    ],
)
def test_truncation_takes_turns_then_tokens_from_the_left(
    make_tokenizer: Make, chat: Chat, pair: Pair, cutoff_len: int, prompt: int, cut: Cut | None
) -> None:
    template = load_template(make_tokenizer("letters"), "chatml")
    encoded = encode_records([pair(chat(*TURNS), "dddd", "e")], template, cutoff_len=cutoff_len)
    (group,) = encoded.groups
    whole = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\ncc<|im_end|>\n<|im_start|>assistant\n"
    assert len(group.prompt_ids) == prompt
    assert encoded.cuts == ([cut] if cut else [])
    assert encoded.stats.over_length == int(cut is not None)
    if cut:
        expected = template.tokenize([whole])[0].ids
        assert group.prompt_ids.tolist() == expected[len(expected) - prompt :]
    assert [trained_text(group, i, template) for i in (0, 1)] == ["dddd<|im_end|>", "e<|im_end|>"]


def test_an_answer_is_never_cut(make_tokenizer: Make, chat: Chat, pair: Pair) -> None:
    template = load_template(make_tokenizer("letters"), "chatml")
    encoded = encode_records([pair(chat(*TURNS), "dddd", "e", id="f:9")], template, cutoff_len=5)
    assert encoded.groups == []
    seen = "prompt 60 + longest completion 5 tokens, cutoff_len 5"
    assert encoded.dropped == [Dropped("f:9", "too_long", seen)]


def test_bos_stays_when_tokens_are_cut(make_tokenizer: Make, chat: Chat, pair: Pair) -> None:
    tokenizer = make_tokenizer("letters")
    tokenizer.bos_token = "<s>"
    tokenizer.chat_template = "<s>{% for m in messages %}{{ m.content }}{% endfor %}"
    template = load_template(tokenizer)
    encoded = encode_records([pair(chat("u: abcdef"), "gh", "i")], template, cutoff_len=6)
    assert tokenizer.decode(encoded.groups[0].prompt_ids) == "<s>ef"
    assert encoded.cuts == [Cut("rows.jsonl:1", 4, 0)]
    assert encode_records([pair(chat("u: abcdef"), "gh", "i")], template, cutoff_len=4).dropped[0].reason == "too_long"


def test_drop_cuts_nothing(make_tokenizer: Make, chat: Chat, pair: Pair) -> None:
    template = load_template(make_tokenizer("letters"), "chatml")
    records = [pair(chat(*TURNS), "dddd", "e", id="a"), pair(chat("u: cc"), "dddd", "e", id="b")]
    encoded = encode_records(records, template, cutoff_len=64, truncation="drop")
    assert [group.id for group in encoded.groups] == ["b"]
    assert [(row.id, row.reason) for row in encoded.dropped] == [("a", "too_long")]
    assert encoded.cuts == []


def assert_same(left: list[EncodedGroup], right: list[EncodedGroup]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for name in ("id", "weight", "source", "labels", "margin", "dimensions"):
            assert getattr(one, name) == getattr(other, name)
        np.testing.assert_array_equal(one.prompt_ids, other.prompt_ids)
        for mine, its in zip(one.completions, other.completions, strict=True):
            np.testing.assert_array_equal(mine.ids, its.ids)
            np.testing.assert_array_equal(mine.trained, its.trained)


def test_batches_give_the_same(make_tokenizer: Make, chat: Chat, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    template = load_template(make_tokenizer("byte_level"), "chatml")
    records = [pair(chat("u: old", "a: old", f"u: {'x' * n}"), f"a{n}", f"b{n % 5}", id=f"f:{n}") for n in range(11)]
    records[3] = pair(chat("u: q"), "same", "same", id="f:3")
    together = encode_records(iter(records), template, cutoff_len=24)
    monkeypatch.setattr(encode, "_BATCH", 4)
    batched = encode_records(iter(records), template, cutoff_len=24)
    assert_same(together.groups, batched.groups)
    assert (together.dropped, together.cuts, together.stats) == (batched.dropped, batched.cuts, batched.stats)
    assert [row.id for row in together.dropped] == ["f:3"]
    assert together.cuts


def test_real_pairs_on_the_real_tokenizer(shared_data: Callable[[str], Path], smollm2: Any, pair: Pair) -> None:
    rows = json.loads(shared_data("preference/lf_dpo_en_demo.json").read_text())
    roles: dict[str, Any] = {"human": "user", "gpt": "assistant", "system": "system"}
    records = [
        pair(
            tuple(Message(roles[turn["from"]], turn["value"]) for turn in row["conversations"]),
            row["chosen"]["value"],
            row["rejected"]["value"],
            id=f"lf_dpo_en_demo.json:{number}",
        )
        for number, row in enumerate(rows, 1)
    ]
    template = load_template(smollm2)
    encoded = encode_records(records, template)
    assert (len(encoded.groups), encoded.dropped, encoded.stats.rewritten) == (300, [], 0)
    for record, group in zip(records, encoded.groups, strict=True):
        for index, completion in enumerate((record.chosen, record.rejected)):
            assert joined(group, index) == rendered(template, record.prompt, completion)
            assert group.completions[index].trained.all()
        assert group.prompt_ids.tolist() == template.generation_prompt(record.prompt)
    short = encode_records(records, template, cutoff_len=512)
    assert len(short.groups) + len(short.dropped) == 300
    assert max(group.longest_row for group in short.groups) <= 512
    assert {row.reason for row in short.dropped} == {"too_long"}
    assert short.stats.over_length == len(short.cuts) + len(short.dropped)
