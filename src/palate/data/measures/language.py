"""The language of a text, by py3langid's model; why this one: docs/decisions/0010-languages.md."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

_MAX_CHARACTERS = 200
_MIN_CONFIDENCE = 0.4
_NO_LANGUAGE = "zxx"  # the model's own label for numbers, markup and identifiers

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_OBJECT = re.compile(r"\{[^{}]*\}|\[\s*[\"{][^\[\]]*\]")
_CALL = re.compile(r"^\s*(?:Action(?: Input)?|Observation|Function|Tool|Arguments)\s*:.*$", re.MULTILINE)
_ADDRESS = re.compile(r"https?://\S+")


def language(text: str) -> str:
    """The ISO 639-1 code of a text's language, by its first 200 characters; `und` if there is too little text.

    Code blocks, JSON, tool calls and addresses do not count.
    """
    found: str = _identifier().classify(prose(text)[:_MAX_CHARACTERS])[0]
    return "und" if found == _NO_LANGUAGE else found


def prose(text: str) -> str:
    """The text with spaces in place of code blocks, JSON, tool calls and addresses."""
    if "`" in text:
        text = _FENCED.sub(" ", text)
    while "{" in text or "[" in text:  # from the innermost object outwards
        shorter = _OBJECT.sub(" ", text)
        if shorter == text:
            break
        text = shorter
    if ":" in text:
        text = _ADDRESS.sub(" ", _CALL.sub(" ", text))
    return text


@cache
def _identifier() -> LanguageIdentifier:
    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_MIN_CONFIDENCE)
    # Without languages that have no two-letter code: Cantonese and Wu would take Chinese texts, for example.
    found.set_languages([label for label in found.labels if len(label) == 2 or label == _NO_LANGUAGE])
    # float16 [features, languages]; the selection leaves it in column order, in which looking up rows is slow.
    found.nb_ptc = np.ascontiguousarray(found.nb_ptc)
    return found
