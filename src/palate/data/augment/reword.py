"""Pairs with a reworded prompt or another context, and the same answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from palate.data.augment.made import Made, new_pair, rng_for
from palate.data.augment.sampled import Sampler
from palate.data.formats.rows import same_text
from palate.data.turns.cells import RowError
from palate.records import Message, PreferencePair, plain_text

# Phrases that can be added before or after a request without changing its meaning.
_BEFORE = ("Hi! ", "Hello. ", "I have a question. ", "Could you help me with this? ", "Please answer: ")
_AFTER = (" Thanks!", " Thank you in advance.", " I would be grateful for an answer.", " Please.")
_LONGER = {
    "what's": "what is", "how's": "how is", "who's": "who is", "where's": "where is", "i'm": "I am", "i've": "I have",
    "don't": "do not", "doesn't": "does not", "can't": "cannot", "isn't": "is not", "it's": "it is",
}  # fmt: skip
# Flag `a` (ASCII): without it İ and ſ would match i and s, but their lower case is not a key of _LONGER.
_SHORT_FORM = re.compile(rf"\b(?ai:{'|'.join(map(re.escape, _LONGER))})\b")

REWRITE = (
    "Rewrite the following request in other words. Keep its meaning, its language and every detail. "
    "Reply with the rewritten request only.\n\n"
)


def reworded(record: PreferencePair, seed: int) -> PreferencePair:
    """A pair whose last question gets a polite phrase, with English short forms written out, by rule."""
    question = _question(record)
    rng = rng_for(seed, "reworded", record.id)
    question = _SHORT_FORM.sub(lambda match: _longer(match[0]), question.replace("’", "'"))
    before = rng.random() < 0.5
    question = rng.choice(_BEFORE) + question if before else question.rstrip() + rng.choice(_AFTER)
    prompt = (*record.prompt[:-1], replace(record.prompt[-1], content=question))
    return new_pair(record, Made("reworded", record.id, seed=seed), prompt=prompt)


def paraphrased(record: PreferencePair, sampler: Sampler, model: str, seed: int) -> PreferencePair:
    """A pair whose last question is paraphrased by a model.

    Raises:
        RowError: the paraphrase is unchanged, empty, or much shorter or longer.
    """
    question = _question(record)
    ((answer,),) = sampler.sample([(Message("user", REWRITE + question),)], 1, seed=seed)
    paraphrase = answer.strip().strip('"')
    if not paraphrase or not 0.3 < len(paraphrase) / len(question) < 4:
        raise RowError("bad_paraphrase", f"{len(paraphrase)} characters for {len(question)}")
    if plain_text(paraphrase) == plain_text(question):
        raise RowError("unchanged", "the paraphrase is the request itself")
    prompt = (*record.prompt[:-1], replace(record.prompt[-1], content=paraphrase))
    return new_pair(record, Made("paraphrased", record.id, model=model, seed=seed), prompt=prompt)


def swapped_context(record: PreferencePair, others: Sequence[PreferencePair], seed: int) -> PreferencePair:
    """A pair whose question, which has no context, follows the earlier turns of another conversation; same answers."""
    asked = [message for message in record.prompt if message.role != "system"]
    if len(asked) != 1:
        raise RowError("has_context", "only a question without context can be moved")
    rng = rng_for(seed, "swapped_context", record.id)
    pool = [o for o in others if o.id != record.id and sum(message.role == "user" for message in o.prompt) > 1]
    pool = [o for o in pool if not same_text((o.prompt[-1],), tuple(asked))]
    if not pool:
        raise RowError("no_other", "no row has earlier turns")
    other = rng.choice(pool)
    system = tuple(message for message in record.prompt if message.role == "system")
    earlier = tuple(message for message in other.prompt[:-1] if message.role != "system")
    if not earlier or earlier[-1].role != "assistant":
        raise RowError("no_other", f"the earlier turns of {other.id} do not end with an answer")
    made = Made("swapped_context", record.id, seed=seed, note=f"after the turns of {other.id}")
    return new_pair(record, made, prompt=(*system, *earlier, *asked))


def _question(record: PreferencePair) -> str:
    """The user turn at the end of the prompt."""
    if not record.prompt or record.prompt[-1].role != "user":
        raise RowError("no_question", "the prompt does not end with a user turn")
    return record.prompt[-1].content


def _longer(short: str) -> str:
    full = _LONGER[short.lower()]
    return full[0].upper() + full[1:] if short[0].isupper() else full
