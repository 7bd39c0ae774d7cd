"""Groups of real rows are those of one encoding of each whole chat and its offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palate.data import load_records
from palate.records import AnyRecord, LabelledCompletion, Messages, PreferencePair, completions_of
from palate.text.encode import encode_record, encode_records
from palate.text.groups import EncodedGroup
from palate.text.named import TEMPLATES
from palate.text.rendering import Renderer, Rendering
from palate.text.template import Template, load_template
from palate.text.tokens import trained_tokens

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

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n\té\u0301▁<|'🙂ﬁ"), max_size=20)


def test_white_space_without_a_place_belongs_to_the_span_that_has_its_character(
    make_tokenizer: Callable[[str], PreTrainedTokenizerFast],
) -> None:
    template = load_template(make_tokenizer("trimming"), "chatml")
    for text, span, expected in (
        ("a ", (0, 1), [True, False]),
        ("a ", (0, 2), [True, True]),
        ("a \n", (0, 1), [True, False, False]),
        ("a \n", (0, 2), [True, True, False]),
        ("a  ", (0, 2), [True, True, False]),
    ):
        (encoding,) = template.tokenize([text])
        assert encoding.tokens[0] == "a"
        assert trained_tokens(Rendering(text, 0, (span,)), encoding).tolist() == expected, (text, span)


@pytest.mark.parametrize("kind", ["byte_level", "composing", "sentence_piece", "sentence_piece_always", "trimming"])
def test_trained_are_the_tokens_over_a_character_of_a_span(
    make_tokenizer: Callable[[str], PreTrainedTokenizerFast], kind: str
) -> None:
    template = load_template(make_tokenizer(kind), "chatml")

    @settings(max_examples=300, deadline=None)
    @given(text=TEXT, span=st.tuples(st.integers(0, 20), st.integers(0, 20)))
    def check(text: str, span: tuple[int, int]) -> None:
        start, end = sorted(min(edge, len(text)) for edge in span)
        (encoding,) = template.tokenize([text])
        # A token of white space alone may have an empty place; it covers what lies before it.
        before = [0, *(b for _, b in encoding.offsets)]
        covered = [(a if a < b else ends, b) for (a, b), ends in zip(encoding.offsets, before)]
        expected = [max(a, start) < min(b, end) for a, b in covered]
        np.testing.assert_array_equal(trained_tokens(Rendering(text, start, ((start, end),)), encoding), expected)

    check()


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


def test_arrays_hold_no_more_than_their_tokens_and_can_be_written_to(
    plain_bytes: Any, pair: Callable[..., PreferencePair], chat: Any
) -> None:
    template = load_template(plain_bytes, "chatml")
    group = encode_record(pair(chat("u: hello there"), "good day", "bad day"), template)
    assert isinstance(group, EncodedGroup)
    for array in (group.prompt_ids, *(part for one in group.completions for part in (one.ids, one.trained))):
        assert array.flags.writeable
        assert array.base is None
