"""The pairs that are trained on: real texts, shortened so that every one fits, so that nobody's truncation matters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from palate.data import load_records
from palate.records import Message, Messages, PreferencePair
from palate.text.encode import encode_record
from palate.text.groups import EncodedGroup
from palate.text.template import Template

Row = dict[str, Any]

# A cut text may take a token or two more than the tokens that it was cut from.
_MARGIN = 4

_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def short_pairs(
    source: Path, template: Template, *, rows: int, cutoff_len: int, prompt_ratio: float = 0.0
) -> list[Row]:
    """The first `rows` pairs of `source` that stay two different answers when shortened, as {prompt, chosen, rejected}.

    Args:
        source: a file of pairs.
        template: renders and tokenises.
        rows: how many.
        cutoff_len: most tokens of prompt + completion.
        prompt_ratio: 0 keeps the prompts, cut to half of `cutoff_len`. Above 0 every row is `cutoff_len` tokens long
            with a prompt that many times its longer answer: earlier texts of the file stand before the question.
    """
    records = load_records(str(source), kind=PreferencePair).records
    if prompt_ratio:
        background = "\n\n".join(record.chosen[-1].content for record in records)
        made = (_long_prompt(record, template, cutoff_len, prompt_ratio, background) for record in records)
    else:
        made = (_cut(record, template, cutoff_len) for record in records)
    found = list(islice((row for row in made if row is not None), rows))
    if len(found) < rows:
        raise SystemExit(f"{source}: only {len(found)} pairs can be shortened to {cutoff_len} tokens, not {rows}")
    return found


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def _cut(record: PreferencePair, template: Template, cutoff_len: int) -> Row | None:
    """Prompt to half of `cutoff_len` at most, each message by the same share; then each answer to what is left."""
    group = encode_record(record, template)
    if not isinstance(group, EncodedGroup):
        return None
    prompt = record.prompt
    over = len(group.prompt_ids) - cutoff_len // 2
    if over > 0:
        sizes = [_count(template, message.content) for message in prompt]
        keep = max(0.0, 1 - (over + _MARGIN * len(sizes)) / sum(sizes))
        prompt = tuple(
            Message(message.role, _first_tokens(template, message.content, int(size * keep)))
            for message, size in zip(prompt, sizes)
        )
    return _fitted(record, prompt, template, cutoff_len)


def _long_prompt(
    record: PreferencePair, template: Template, cutoff_len: int, ratio: float, background: str
) -> Row | None:
    """A prompt `ratio` times as long as the longer answer, together `cutoff_len` tokens."""
    answer = int(cutoff_len / (1 + ratio))
    if min(_count(template, record.chosen[-1].content), _count(template, record.rejected[-1].content)) < answer:
        return None
    question = _first_tokens(template, record.prompt[-1].content, answer // 2)
    bare = encode_record(_with(record, (Message("user", question),)), template)
    if not isinstance(bare, EncodedGroup):
        return None
    missing = cutoff_len - answer - len(bare.prompt_ids) - _MARGIN
    filled = f"{_first_tokens(template, background, missing)}\n\n{question}"
    return _fitted(record, (Message("user", filled),), template, cutoff_len, answer=answer)


def _fitted(
    record: PreferencePair, prompt: Messages, template: Template, cutoff_len: int, answer: int | None = None
) -> Row | None:
    """The row with both answers cut to what `cutoff_len` leaves beside the prompt; None if one of them is lost."""
    bare = encode_record(_with(record, prompt), template)
    if not isinstance(bare, EncodedGroup):
        return None
    room = cutoff_len - len(bare.prompt_ids) - _MARGIN if answer is None else answer - _MARGIN
    chosen, rejected = (
        _first_tokens(template, text, room).rstrip()
        for text in (record.chosen[-1].content, record.rejected[-1].content)
    )
    cut = PreferencePair(
        id=record.id,
        prompt=prompt,
        chosen=(Message("assistant", chosen),),
        rejected=(Message("assistant", rejected),),
    )
    group = encode_record(cut, template, cutoff_len=cutoff_len, truncation="drop")
    if not isinstance(group, EncodedGroup) or chosen == rejected:
        return None
    if not all(message.content.strip() for message in (*prompt, *cut.chosen, *cut.rejected)):
        return None
    return {"prompt": _turns(prompt), "chosen": _turns(cut.chosen), "rejected": _turns(cut.rejected)}


def _with(record: PreferencePair, prompt: Messages) -> PreferencePair:
    return PreferencePair(id=record.id, prompt=prompt, chosen=record.chosen, rejected=record.rejected)


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _count(template: Template, text: str) -> int:
    return len(template.tokenizer(text, add_special_tokens=False)["input_ids"])


def _first_tokens(template: Template, text: str, count: int) -> str:
    """The text of its first `count` tokens."""
    offsets = _offsets(template, text)
    if len(offsets) <= count:
        return text
    return text[: offsets[count - 1][1]] if count > 0 else ""


def _offsets(template: Template, text: str) -> list[tuple[int, int]]:
    """Where each token of the text begins and ends."""
    encoded = template.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(encoded["offset_mapping"])


def exact_rows(source: Path, template: Template, *, rows: int, length: int, completions: int = 2) -> Iterator[Row]:
    """Rankings of real text in which prompt + completion has `length` tokens or up to 8 less, half of it the prompt.

    They are written as {instruction, output: [best, …]}; two completions make a pair. Rows repeat the texts of the file
    from other places on, so any number of different ones can be made.
    """
    records = load_records(str(source), kind=PreferencePair).records
    text = "\n\n".join(part for record in records for part in (record.chosen[-1].content, record.rejected[-1].content))
    offsets = [start for start, _ in _offsets(template, text)]
    probe = PreferencePair(
        id="probe",
        prompt=(Message("user", "a"),),
        chosen=(Message("assistant", "b"),),
        rejected=(Message("assistant", "c"),),
    )
    group = encode_record(probe, template)
    assert isinstance(group, EncodedGroup)
    prompt = max(1, length // 2 - len(group.prompt_ids))
    answer = max(1, length - length // 2 - len(group.completions[0].ids) - _MARGIN)
    place = 0

    def take(count: int) -> str:
        nonlocal place
        if place + count >= len(offsets):
            # From another place than before, so that a later round has other texts.
            place = (place + count) % 97
        piece = text[offsets[place] : offsets[place + count]].strip()
        place += count
        return piece

    for number in range(rows):
        yield {"instruction": f"{number} {take(prompt)}", "output": [take(answer) for _ in range(completions)]}


def numbered_rows(records: Sequence[PreferencePair], rows: int) -> Iterator[Row]:
    """`rows` different rows: the records again and again, each with its own number before the question."""
    for number, record in zip(range(rows), cycle(records)):
        prompt = _turns(record.prompt)
        prompt[-1]["content"] = f"{number}: {prompt[-1]['content']}"
        yield {"prompt": prompt, "chosen": _turns(record.chosen), "rejected": _turns(record.rejected)}


def small_tokenizer(texts: Iterable[str], vocabulary: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with ChatML turns, trained on the texts."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = _CHATML
    return fast
