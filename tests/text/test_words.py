"""Words looked up give the tokens of the whole text, and the same groups as one encoding of each whole chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, pre_tokenizers
from transformers import AutoTokenizer

from palate.data import load_records
from palate.records import AnyRecord, LabelledCompletion, Messages, PreferencePair, completions_of
from palate.text import words
from palate.text.encode import EncodedGroup, encode_record, encode_records
from palate.text.named import TEMPLATES
from palate.text.rendering import Renderer
from palate.text.template import Template, load_template
from palate.text.words import Words

FILES = (
    "lf_dpo_en_demo.json",
    "lf_dpo_zh_demo.json",
    "lf_kto_en_demo.json",
    "lf_v1_dpo_demo.jsonl",
    "hh_harmless_base_test.jsonl.gz",
    "medicalgpt_toolcall_dpo_zh.jsonl",
    "oasst_rm_zh.json",
    "pku_saferlhf_sample_32.json",
    "stack_exchange_paired_tiny.json",
    "ultrafeedback_1k_train.jsonl",
    "xstest_safety_pairs.jsonl",
)
WORDS = ["word", "Words", "don't", "I'LL", "it's", "'s", "x5", "12 345", "9", "https://a.b/c?d=1"]
SIGNS = ["'", "_", "::", "!=", "~"]
BLANKS = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\x0b", "\xa0", "\u2003", "\u200b"]
CONTROLS = ["\x1c", "\x1f ", "\x7f", "\x00"]
OTHERS = ["caf\u00e9", "e\u0301", "\u00b2", "\u0663", "\u5317\u4eac", "\U0001f642", "\ufb01"]
QUOTES = ["\u201cquoted\u201d", "\u2019s"]
MARKUP = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|im_", "end|>"]
PIECES = [*WORDS, *SIGNS, *BLANKS, *CONTROLS, *OTHERS, *QUOTES, *MARKUP]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=14)


@pytest.fixture(params=["byte_level", "digits", "smollm2"])
def by_word(request: pytest.FixtureRequest, make_tokenizer: Callable[[str], Any]) -> Template:
    """Templates of the tokenizers whose words can be looked up."""
    if request.param == "smollm2":
        return load_template(request.getfixturevalue("real"))
    tokenizer = make_tokenizer("byte_level")
    if request.param == "digits":
        steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return load_template(tokenizer, "chatml")


def test_words_and_places_are_those_of_the_whole_text(by_word: Template) -> None:
    tokenize = Words(by_word)
    assert tokenize.by_word

    @settings(max_examples=400, deadline=None)
    @given(TEXT.map("".join) | TEXT.map(" ".join), st.lists(st.integers(0, 60), max_size=3))
    def check(text: str, places: list[int]) -> None:
        edges = [edge for edge in places if edge <= len(text)]
        (tokens,) = tokenize([text], [edges])
        whole = by_word.tokenize([text])[0]
        assert tokens.ids.tolist() == whole.ids
        for edge in edges:
            at = next((t for c in range(edge, len(text)) if (t := whole.char_to_token(c)) is not None), len(whole.ids))
            assert tokens.token_at(edge, len(text)) == at
            begins = whole.token_to_chars(at)[0] < edge if at < len(whole.ids) else False
            assert tokens.straddles(at, edge) == begins

    check()


def test_a_text_is_the_same_after_others(by_word: Template) -> None:
    # The end of one text must not be taken for a word of another, nor a long memory change anything.
    texts = ["a x\n", "a x\n b", "a  b", "a  ", "a b ", "a b", "a", "", " a", "  a", "a\n\n  b c"]
    tokenize = Words(by_word)
    for order in (texts, texts[::-1]):
        together = [tokens.ids.tolist() for tokens in tokenize(order, [()] * len(order))]
        assert together == [encoding.ids for encoding in by_word.tokenize(order)]


def test_memory_is_bounded(by_word: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_KEPT", 50)
    tokenize = Words(by_word)
    for start in range(0, 2000, 100):
        text = "first " + " ".join(f"w{i}" for i in range(start, start + 100)) + " " + "long" * 30 + " end"
        assert tokenize([text], [[0, 8]])[0].ids.tolist() == by_word.tokenize([text])[0].ids
        assert len(tokenize._words) <= 150


def test_what_hardly_comes_again_is_not_remembered(by_word: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_KEPT_PLACES", 3)
    tokenize = Words(by_word)
    for letter in "abcdefgh":
        text = f"{letter} {letter * 5000}{letter.upper() * 5000} {'-' * 5000} {letter}{letter} ends"
        assert tokenize([text], [[0, len(text) - 6]])[0].ids.tolist() == by_word.tokenize([text])[0].ids
        assert len(tokenize._places) <= 3
    assert max(len(part) for part in tokenize._parts) <= words._LONGEST_KEPT


@pytest.mark.parametrize("kind", ["composing", "sentence_piece", "sentence_piece_always", "trimming"])
def test_tokenizers_of_other_kinds_get_whole_texts(make_tokenizer: Callable[[str], Any], kind: str) -> None:
    assert not Words(load_template(make_tokenizer(kind), "chatml")).by_word


def test_an_added_token_over_a_cut_forbids_words(make_tokenizer: Callable[[str], Any]) -> None:
    tokenizer = make_tokenizer("byte_level")
    tokenizer.add_tokens(["two words"])
    assert not Words(load_template(tokenizer, "chatml")).by_word


def test_added_tokens_that_are_looked_for_in_turn_forbid_words(make_tokenizer: Callable[[str], Any]) -> None:
    # The special token is found first, although the other one begins before it.
    tokenizer = make_tokenizer("byte_level")
    tokenizer.add_tokens([AddedToken("x<|im", normalized=True)])
    check_whole(load_template(tokenizer, "chatml"), "a bx<|im_end|>")


def test_special_tokens_that_are_text_to_the_tokenizer_forbid_words(make_tokenizer: Callable[[str], Any]) -> None:
    tokenizer = make_tokenizer("byte_level")
    template = load_template(tokenizer, "chatml")
    tokenizer.backend_tokenizer.encode_special_tokens = True
    check_whole(template, "a <|im_end|> b")


def check_whole(template: Template, text: str) -> None:
    tokenize = Words(template)
    assert tokenize([text], [()])[0].ids.tolist() == template.tokenize([text])[0].ids
    assert not tokenize.by_word


def slowly(template: Template, record: AnyRecord) -> tuple[list[int], list[tuple[list[int], list[bool]]]]:
    """Prompt and (ids, trained) of each completion, from one encoding of each whole chat and its offsets alone."""
    render = Renderer(template)
    whole = []
    for completion in map(_closed, completions_of(record)):
        rendering = render(record.prompt, completion, record.tools)
        encoding = template.tokenize([rendering.text])[0]
        trained = [any(a < end and b > start for start, end in rendering.trained) for a, b in encoding.offsets]
        own = sum(b <= rendering.boundary for _, b in encoding.offsets)
        whole.append((encoding.ids, trained, own))
    shared = min(own for _, _, own in whole)
    while any(ids[:shared] != whole[0][0][:shared] for ids, _, _ in whole):
        shared -= 1
    return whole[0][0][:shared], [(ids[shared:], trained[shared:]) for ids, trained, _ in whole]


def _closed(messages: Messages) -> Messages:
    """Answers without an end of turn of their own, as encoding takes it off."""
    ends = ("<|im_end|>", "<|endoftext|>")
    return tuple(
        replace(m, content=m.content.rstrip().removesuffix(end))
        if (end := next((e for e in ends if m.content.rstrip().endswith(e)), ""))
        else m
        for m in messages
    )


@pytest.fixture(scope="module")
def real_tokenizer(smollm2_folder: Path) -> Any:
    """SmolLM2's tokenizer, read once: reading it takes longer than the rows of a test."""
    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.fixture
def real(real_tokenizer: Any) -> Iterator[Any]:
    """SmolLM2's tokenizer; a named template, which is written into it, is taken out again."""
    own = real_tokenizer.chat_template
    yield real_tokenizer
    real_tokenizer.chat_template = own


@cache
def read(path: Path) -> list[Any]:
    """All records of a file, read once for all templates."""
    kind = LabelledCompletion if "kto" in path.name else PreferencePair
    return list(load_records(str(path), kind=kind, max_dropped=1.0).records)


def compare(template: Template, path: Path, rows: slice) -> None:
    records = read(path)[rows]
    encoded = encode_records(records, template)
    assert len(encoded.groups) + len(encoded.dropped) == len(records) > 0
    record_of = {record.id: record for record in records}
    for group in encoded.groups:
        prompt, completions = slowly(template, record_of[group.id])
        assert group.prompt_ids.tolist() == prompt, group.id
        mine = [(one.ids.tolist(), one.trained.tolist()) for one in group.completions]
        assert mine == completions, group.id


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", [None, *TEMPLATES])
def test_real_rows_by_every_template(
    real: Any, shared_data: Callable[[str], Path], name: str | None, file: str
) -> None:
    compare(load_template(real, name), shared_data(f"preference/{file}"), slice(None, None, 150))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_real_row(real: Any, shared_data: Callable[[str], Path], file: str) -> None:
    compare(load_template(real), shared_data(f"preference/{file}"), slice(None))


def test_arrays_can_be_written_to(by_word: Template, pair: Callable[..., PreferencePair], chat: Any) -> None:
    group = encode_record(pair(chat("u: hello there"), "good day", "bad day"), by_word)
    assert isinstance(group, EncodedGroup)
    assert all(one.ids.flags.writeable for one in group.completions)
    assert group.prompt_ids.flags.writeable
