"""Prompts in other words or in another context, with the same pair of answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from palate.data.augment.made import Made, chance_for, new_pair
from palate.data.formats.rows import same_text
from palate.data.turns.messages import RowError
from palate.records import Message, PreferencePair, Sampler, plain_text

# What is put before or after a request without changing what is asked for.
_BEFORE = ("Hi! ", "Hello. ", "I have a question. ", "Could you help me with this? ", "Please answer: ")
_AFTER = (" Thanks!", " Thank you in advance.", " I would be grateful for an answer.", " Please.")
_LONGER = {
    "what's": "what is", "how's": "how is", "who's": "who is", "where's": "where is", "i'm": "I am", "i've": "I have",
    "don't": "do not", "doesn't": "does not", "can't": "cannot", "isn't": "is not", "it's": "it is",
}  # fmt: skip
# Of ASCII letters only: without `a`, İ and ſ match i and s, and their lower case is another one.
_SHORT_FORM = re.compile(rf"\b(?ai:{'|'.join(map(re.escape, _LONGER))})\b")

REWRITE = (
    "Rewrite the following request in other words. Keep its meaning, its language and every detail. "
    "Reply with the rewritten request only.\n\n"
)


def reworded(record: PreferencePair, seed: int) -> PreferencePair:
    """The last question written out and with a courtesy around it, by rule; English only in its details."""
    if not record.prompt or record.prompt[-1].role != "user":
        raise RowError("no_question", "the prompt does not end with a user turn")
    chance = chance_for(seed, "reworded", record.id)
    asked = record.prompt[-1].content
    said = _SHORT_FORM.sub(lambda match: _longer(match[0]), asked.replace("’", "'"))
    before = chance.random() < 0.5
    said = chance.choice(_BEFORE) + said if before else said.rstrip() + chance.choice(_AFTER)
    prompt = (*record.prompt[:-1], replace(record.prompt[-1], content=said))
    return new_pair(record, Made("reworded", record.id, seed=seed), prompt=prompt)


def paraphrased(record: PreferencePair, sampler: Sampler, model: str, seed: int) -> PreferencePair:
    """The last question as a model puts it; refused where it is the old one, empty, or of quite another length."""
    if not record.prompt or record.prompt[-1].role != "user":
        raise RowError("no_question", "the prompt does not end with a user turn")
    asked = record.prompt[-1].content
    ((answer,),) = sampler.sample([(Message("user", REWRITE + asked),)], 1, seed=seed)
    said = answer.strip().strip('"')
    if not said or not 0.3 < len(said) / len(asked) < 4:
        raise RowError("bad_paraphrase", f"{len(said)} characters for {len(asked)}")
    if plain_text(said) == plain_text(asked):
        raise RowError("unchanged", "the paraphrase is the request itself")
    prompt = (*record.prompt[:-1], replace(record.prompt[-1], content=said))
    return new_pair(record, Made("paraphrased", record.id, model=model, seed=seed), prompt=prompt)


def swapped_context(record: PreferencePair, others: Sequence[PreferencePair], seed: int) -> PreferencePair:
    """A question that stands alone, after the earlier turns of another conversation: the answers stay what they are."""
    asked = [message for message in record.prompt if message.role != "system"]
    if len(asked) != 1:
        raise RowError("has_context", "only a question that stands alone can be moved")
    chance = chance_for(seed, "swapped_context", record.id)
    pool = [o for o in others if o.id != record.id and sum(message.role == "user" for message in o.prompt) > 1]
    pool = [o for o in pool if not same_text((o.prompt[-1],), tuple(asked))]
    if not pool:
        raise RowError("no_other", "no row has earlier turns to lend")
    other = chance.choice(pool)
    system = tuple(message for message in record.prompt if message.role == "system")
    earlier = tuple(message for message in other.prompt[:-1] if message.role != "system")
    if not earlier or earlier[-1].role != "assistant":
        raise RowError("no_other", f"the earlier turns of {other.id} do not end with an answer")
    made = Made("swapped_context", record.id, seed=seed, note=f"after the turns of {other.id}")
    return new_pair(record, made, prompt=(*system, *earlier, *asked))


def _longer(short: str) -> str:
    full = _LONGER[short.lower()]
    return full[0].upper() + full[1:] if short[0].isupper() else full
