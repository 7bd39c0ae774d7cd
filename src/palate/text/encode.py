"""Records become token ids: one prompt, K completions, and which tokens are trained.

The renderings of a batch of records are tokenised in one call, with offsets, by the tokenizer's own threads. A group's
prompt is the longest token prefix that its completions share and that ends at or before the boundary, which is where
generation would begin. Masks come from the turns' character spans in the text, never from token ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

from palate.errors import DataError
from palate.records import AnyRecord, Dropped, Message, Messages, completions_of
from palate.text.groups import Cut, Encoded, EncodedCompletion, EncodedGroup, EncodingStats
from palate.text.rendering import Renderer, Rendering
from palate.text.template import Template
from palate.text.tokens import make_group
from palate.text.truncate import cut_left, without_oldest_turn

__all__ = [
    "Cut",
    "Encoded",
    "EncodedCompletion",
    "EncodedGroup",
    "EncodingStats",
    "Truncation",
    "encode_record",
    "encode_records",
]

# Enough texts to keep the tokenizer's threads busy; their encodings take about 100 bytes a token while they exist.
_BATCH = 64

Truncation = Literal["auto", "drop"]


def encode_records(
    records: Iterable[AnyRecord],
    template: Template,
    *,
    cutoff_len: int | None = None,
    truncation: Truncation = "auto",
) -> Encoded:
    """Encode records of any kind by a chat template.

    Args:
        records: rows in training order.
        template: from `load_template`.
        cutoff_len: most tokens of prompt + completion; None for no limit.
        truncation: what happens to a longer row. `auto` removes the oldest whole turns of the prompt (system text
            stays), then prompt tokens from the left (BOS stays), and drops the row if an answer still does not fit;
            `drop` drops it at once. No answer is ever shortened.
    """
    encoder = _Encoder(template, cutoff_len, truncation)
    waiting = iter(records)
    done = Encoded([], [], [], EncodingStats())
    while batch := list(islice(waiting, _BATCH)):
        part = encoder(batch)
        done.groups.extend(part.groups)
        done.dropped.extend(part.dropped)
        done.cuts.extend(part.cuts)
        done = replace(done, stats=done.stats + part.stats)
    return done


def encode_record(
    record: AnyRecord, template: Template, *, cutoff_len: int | None = None, truncation: Truncation = "auto"
) -> EncodedGroup | Dropped:
    """Encode one record, as `encode_records` would."""
    encoded = _Encoder(template, cutoff_len, truncation)([record])
    return encoded.groups[0] if encoded.groups else encoded.dropped[0]


class _Encoder:
    """Encodes batches of records; what the renderer learns about the template is kept from one batch to the next."""

    def __init__(self, template: Template, cutoff_len: int | None, truncation: Truncation) -> None:
        self.template = template
        self.cutoff_len = cutoff_len
        self.truncation = truncation
        self._renderer = Renderer(template)
        self._ends = tuple({template.end_of_turn, str(template.tokenizer.eos_token or template.end_of_turn)})
        self._special = template.special_text()

    def __call__(self, records: Sequence[AnyRecord]) -> Encoded:
        """Encode one batch."""
        cleaned = [_without_ends(completions_of(record), self._ends) for record in records]
        answers = [completions for completions, _ in cleaned]
        rows = self._encode([(record, record.prompt, mine) for record, mine in zip(records, answers, strict=True)])
        results = [result for result, _ in rows]
        over = [i for i, row in enumerate(results) if isinstance(row, EncodedGroup) and self._too_long(row)]
        cuts = self._shorten(records, answers, results, over)
        stats = EncodingStats(
            records=len(records),
            over_length=len(over),
            ends_removed=sum(removed for _, removed in cleaned),
            rewritten=sum(rewritten for _, rewritten in rows),
            control_text=sum(self._spells_special(record, mine) for record, mine in zip(records, answers, strict=True)),
            reasoning_differs=sum(map(_reasoning_differs, answers)),
        )
        return Encoded(
            [row for row in results if isinstance(row, EncodedGroup)],
            [row for row in results if isinstance(row, Dropped)],
            cuts,
            stats,
        )

    def _too_long(self, group: EncodedGroup) -> bool:
        return self.cutoff_len is not None and group.longest_row > self.cutoff_len

    def _answers_fit(self, row: EncodedGroup | Dropped) -> bool:
        """Whether a shorter prompt can help: every completion leaves room for at least one token before it."""
        longest = row.longest_row - len(row.prompt_ids) if isinstance(row, EncodedGroup) else 0
        return self.cutoff_len is None or longest < self.cutoff_len

    def _spells_special(self, record: AnyRecord, completions: Sequence[Messages]) -> bool:
        return any(
            self._special.search(message.text) for messages in (record.prompt, *completions) for message in messages
        )

    def _encode(
        self, rows: Sequence[tuple[AnyRecord, Messages, Sequence[Messages]]]
    ) -> list[tuple[EncodedGroup | Dropped, int]]:
        """Each (record, prompt, completions) as a group of any length, or why not, and how many were rewritten."""
        rendered = [self._render(*row) for row in rows]
        texts = [one.text for row in rendered if not isinstance(row, Dropped) for one in row]
        encodings = iter(self.template.tokenize(texts))
        results: list[tuple[EncodedGroup | Dropped, int]] = []
        for (record, _, _), row in zip(rows, rendered, strict=True):
            if isinstance(row, Dropped):
                results.append((row, 0))
            else:
                group = make_group(record, row, list(islice(encodings, len(row))))
                results.append((group, sum(one.rewritten for one in row)))
        return results

    def _render(
        self, record: AnyRecord, prompt: Messages, completions: Sequence[Messages]
    ) -> list[Rendering] | Dropped:
        try:
            return [self._renderer(prompt, completion, record.tools) for completion in completions]
        except DataError as error:
            return Dropped(record.id, "template_refused", str(error))

    def _shorten(
        self,
        records: Sequence[AnyRecord],
        answers: Sequence[Sequence[Messages]],
        results: list[EncodedGroup | Dropped],
        over: Sequence[int],
    ) -> list[Cut]:
        """Make the rows of `over` fit, or drop them, in `results`; says what was cut."""
        before = {i: row.longest_row for i in over if isinstance(row := results[i], EncodedGroup)}
        turns = {i: 0 for i in over if self._answers_fit(results[i])}
        if self.truncation == "auto":
            self._remove_turns(records, answers, results, turns)
        cuts = []
        for i in over:
            group = results[i]
            if isinstance(group, EncodedGroup) and self._too_long(group):
                results[i] = group = self._cut_prompt(group)
            if isinstance(group, EncodedGroup):
                cuts.append(Cut(group.id, before[i] - group.longest_row, turns[i]))
        return cuts

    def _remove_turns(
        self,
        records: Sequence[AnyRecord],
        answers: Sequence[Sequence[Messages]],
        results: list[EncodedGroup | Dropped],
        turns: dict[int, int],
    ) -> None:
        """Take the oldest turn from every row of `turns` that is too long, again and again; counts them in `turns`."""
        prompts = {i: records[i].prompt for i in turns}
        waiting = list(turns)
        while waiting:
            shorter = {i: prompt for i in waiting if (prompt := without_oldest_turn(prompts[i])) is not None}
            waiting = []
            rows = self._encode([(records[i], prompt, answers[i]) for i, prompt in shorter.items()])
            for (i, prompt), (row, _) in zip(shorter.items(), rows, strict=True):
                if isinstance(row, EncodedGroup):
                    results[i], prompts[i], turns[i] = row, prompt, turns[i] + 1
                    if self._too_long(row):
                        waiting.append(i)

    def _cut_prompt(self, group: EncodedGroup) -> EncodedGroup | Dropped:
        """The group with as much of its prompt's end as fits, or `too_long`."""
        limit = self.cutoff_len or 0
        longest = max(len(completion.ids) for completion in group.completions)
        if self.truncation == "auto":
            ids = cut_left(group.prompt_ids, limit - longest, self.template.tokenizer.bos_token_id)
            if ids is not None:
                return replace(group, prompt_ids=ids)
        seen = f"prompt {len(group.prompt_ids)} + longest completion {longest} tokens, cutoff_len {limit}"
        return Dropped(group.id, "too_long", seen)


def _reasoning_differs(completions: Sequence[Messages]) -> bool:
    """Whether some of the answers have reasoning (perhaps in their text) and others none."""
    return len({any(map(_has_reasoning, completion)) for completion in completions}) > 1


def _has_reasoning(message: Message) -> bool:
    return message.reasoning_content is not None or message.content.startswith("<think>")


def _without_ends(completions: Sequence[Messages], ends: Sequence[str]) -> tuple[list[Messages], int]:
    """The completions without an end-of-turn text at the end of an answer, and how many of those there were.

    Some data sets carry the markup of the model that wrote them; the template would write it a second time.
    """
    cleaned = []
    removed = 0
    for completion in completions:
        messages = []
        for message in completion:
            content = message.content
            while message.role == "assistant" and content.rstrip().endswith(tuple(ends)):
                end = next(end for end in ends if content.rstrip().endswith(end))
                content = content.rstrip().removesuffix(end)
                removed += 1
            messages.append(message if content is message.content else replace(message, content=content))
        cleaned.append(tuple(messages))
    return cleaned, removed
