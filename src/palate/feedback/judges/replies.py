"""Judges' replies: the form that is asked for, and the verdict in a reply. What has another form is not guessed at."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeAlias, cast

from palate.feedback.judges.prompt import JudgePrompt
from palate.records import Verdict

Mode: TypeAlias = Literal["schema", "json", "plain"]
"""A JSON schema that the endpoint enforces; JSON by request; text in a fixed form."""

LOWEST, HIGHEST = 1, 10
MOST_CRITERIA = 8

_SIDES: Mapping[str, Literal["left", "right", "tie"]] = {"a": "left", "b": "right", "tie": "tie"}
_SHOWN_TEXT = 2000
# Possessive (++) and line by line, so that the time stays linear in the length of a hostile reply.
_DECORATION = re.compile(r"[\"'`*_\[\]()“”‘’]|(?<![.!])[.!]++(?=\s*+$)")
_LETTER = re.compile(r"(?:(?:answer|verdict)\s*:?\s*)?(a|b|tie)")
_VERDICT_LINE = re.compile(r"(?:final )?verdict\s*:\s*(?:answer )?(a|b|tie)")
_SCORE_LINE = re.compile(r"score\s+(?:answer )?(a|b)\s*[:=]\s*(\d+)(?:\s*/\s*10)?")
_RUBRIC_LINE = re.compile(r"(.+?)\s*:\s*a\s*=\s*(\d+)\s*[,;]?\s*b\s*=\s*(\d+)")
_CRITERION = re.compile(
    r"^[^\S\n]*+(?:[-*•]|\d{1,3}[.)])[^\S\n]*+(?:\*\*)?([^:\n*]{1,60}?)(?:\*\*)?[^\S\n]*+:"
    r"[^\S\n]*+(?:\*\*)?[^\S\n]*+(\S.*)$",
    re.MULTILINE,
)


class Unreadable(Exception):  # noqa: N818 - says what the reply is
    """A reply is not in the form that was asked for; the message says what is wrong with it."""


def criterion_name(criterion: str) -> str:
    """The name in `name: description`."""
    return criterion.partition(":")[0].strip()


def instruction(prompt: JudgePrompt, criteria: Sequence[str], mode: Mode) -> str:
    """The last paragraph of a request, which says how to reply; empty if the prompt says it itself."""
    if prompt.output == "letter":
        return ""
    names = [criterion_name(criterion) for criterion in criteria]
    if mode != "plain":
        return f"Reply with one JSON object and nothing else, of this form:\n{json.dumps(_example(prompt, names))}"
    start = "First write one or two sentences with your reason. Then write, "
    if prompt.kind == "pairwise":
        lines = ["Verdict: A", "Verdict: B", *(["Verdict: tie"] if prompt.ties else [])]
        return f"{start}as the last line, one of these lines: {'; '.join(lines)}"
    if prompt.kind == "score":
        return f"{start}as the last two lines, the scores in this form:\nScore A: 5\nScore B: 5"
    form = "\n".join(f"{name}: A=5, B=5" for name in names)
    return f"{start}as the last lines, the scores in this form:\n{form}"


def response_format(prompt: JudgePrompt, criteria: Sequence[str], mode: Mode) -> dict[str, Any]:
    """The field `response_format` of the OpenAI API, as a mapping that is empty without one."""
    if prompt.output == "letter" or mode == "plain":
        return {}
    if mode == "json":
        return {"response_format": {"type": "json_object"}}
    schema = _schema(prompt, [criterion_name(criterion) for criterion in criteria])
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
    }


def read_verdict(prompt: JudgePrompt, criteria: Sequence[str], text: str) -> Verdict:
    """The verdict in a reply; left is the answer shown first.

    Returns:
        `unparsed`, with what is wrong and the text as its reason, if the reply is not in the form that was asked for.
    """
    try:
        return _read(prompt, [criterion_name(criterion) for criterion in criteria], text.strip())
    except Unreadable as error:
        return Verdict("unparsed", f"{error}: {shortened(text)}")


def read_criteria(text: str) -> list[str]:
    """The criteria in the reply to a `generated` prompt: a line `- name: description` each.

    Raises:
        Unreadable: fewer than two or more than MOST_CRITERIA, or two with one name.
    """
    found = _CRITERION.findall(text)
    names = [" ".join(name.split()).casefold() for name, _ in found]
    if not 2 <= len(names) <= MOST_CRITERIA or len(set(names)) < len(names):
        raise Unreadable(f"no list of 2 to {MOST_CRITERIA} criteria `- name: description`")
    return [f"{name}: {' '.join(description.split())}" for name, (_, description) in zip(names, found)]


def shortened(text: str) -> str:
    """The start of a text, for a vote's reason."""
    return text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "…"


def _read(prompt: JudgePrompt, names: Sequence[str], text: str) -> Verdict:
    if prompt.output == "letter":
        return Verdict(_side(_LETTER.fullmatch(_bare(text)), prompt))
    inside = _unfenced(text)
    if inside is not None or text.startswith("{"):
        return _read_json(prompt, names, text if inside is None else inside)
    return _read_lines(prompt, names, text)


def _unfenced(text: str) -> str | None:
    """What stands between the lines ```json and ```; None if the text is no such block."""
    opening, _, rest = text.partition("\n")
    inside, newline, closing = rest.rpartition("\n")
    return inside if newline and opening.strip() in ("```", "```json") and closing.strip() == "```" else None


def _read_json(prompt: JudgePrompt, names: Sequence[str], text: str) -> Verdict:
    try:
        found = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Unreadable("not valid JSON") from error
    if not isinstance(found, dict):
        raise Unreadable("not a JSON object")
    reason = found.get("reason", "")
    reason = reason if isinstance(reason, str) else ""
    if prompt.kind == "pairwise":
        verdict = found.get("verdict")
        if not isinstance(verdict, str):
            raise Unreadable("no field verdict")
        return Verdict(_side(_LETTER.fullmatch(_bare(verdict)), prompt), reason)
    if prompt.kind == "score":
        return _scored({"score": (_score(found, "score_a"), _score(found, "score_b"))}, reason)
    sides = [found.get(side) for side in ("a", "b")]
    if not all(isinstance(side, dict) for side in sides):
        raise Unreadable("no fields a and b with scores")
    a, b = cast("list[dict[str, Any]]", sides)
    return _scored({name: (_score(a, name), _score(b, name)) for name in names}, reason)


def _read_lines(prompt: JudgePrompt, names: Sequence[str], text: str) -> Verdict:
    lines = [(line, _bare(line)) for line in text.splitlines()]
    pattern = {"pairwise": _VERDICT_LINE, "score": _SCORE_LINE}.get(prompt.kind, _RUBRIC_LINE)
    matches = [(line, pattern.fullmatch(bare)) for line, bare in lines]
    reason = "\n".join(line for line, match in matches if match is None).strip()
    found = [match.groups() for _, match in matches if match is not None]
    if prompt.kind == "pairwise":
        sides = {match[0] for match in found}
        if len(sides) > 1:
            raise Unreadable("contradicting verdicts")
        only = _VERDICT_LINE.fullmatch(f"verdict: {sides.pop()}") if sides else _LETTER.fullmatch(_bare(text))
        return Verdict(_side(only, prompt), reason if found else "")
    if prompt.kind == "score":
        scores = _single([(side, value) for side, value in found])
        return _scored({"score": (_score(scores, "a"), _score(scores, "b"))}, reason)
    known = {_bare(name): name for name in names}
    rows = [(known[name], (a, b)) for match in found for name, a, b in [_row(match)] if name in known]
    by_name = _single(rows)
    missing = next((name for name in names if name not in by_name), None)
    if missing is not None:
        raise Unreadable(f"no scores for {missing}")
    dimensions = {name: (_score({"a": by_name[name][0]}, "a"), _score({"b": by_name[name][1]}, "b")) for name in names}
    return _scored(dimensions, reason)


def _row(match: Sequence[str]) -> tuple[str, str, str]:
    name, a, b = match
    return re.sub(r"^(?:[-•]|\d+[.)])\s*", "", name), a, b


def _single(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a mapping; a name may be repeated with the same value only."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise Unreadable(f"contradicting scores for {name}")
    return found


def _scored(dimensions: Mapping[str, tuple[float, float]], reason: str) -> Verdict:
    """The answer with the higher mean score is better; equal means are a tie."""
    left = math.fsum(a for a, _ in dimensions.values())
    right = math.fsum(b for _, b in dimensions.values())
    outcome: Literal["left", "right", "tie"] = "tie" if left == right else "left" if left > right else "right"
    return Verdict(outcome, reason, dimensions=dimensions)


def _score(found: Mapping[str, Any], name: str) -> float:
    """A whole number from LOWEST to HIGHEST. A missing one is an error, not the lowest score."""
    value = found.get(name)
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:4])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"no score {name}")
    if not LOWEST <= value <= HIGHEST or value != int(value):
        raise Unreadable(f"score {name} is {str(value)[:20]}, not a whole number from {LOWEST} to {HIGHEST}")
    return float(value)


def _side(match: re.Match[str] | None, prompt: JudgePrompt) -> Literal["left", "right", "tie"]:
    if match is None or (match[1] == "tie" and not prompt.ties):
        raise Unreadable("no verdict")
    return _SIDES[match[1]]


def _bare(text: str) -> str:
    """A line without quotes, brackets and markup, in lower case."""
    return " ".join(_DECORATION.sub("", text.replace("#", "")).split()).casefold().rstrip(". ")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _example(prompt: JudgePrompt, names: Sequence[str]) -> dict[str, Any]:
    reason = {"reason": "one or two sentences"}
    if prompt.kind == "pairwise":
        return {**reason, "verdict": "A, B or tie" if prompt.ties else "A or B"}
    if prompt.kind == "score":
        return {**reason, "score_a": 5, "score_b": 5}
    scores = dict.fromkeys(names, 5)
    return {**reason, "a": scores, "b": scores}


def _schema(prompt: JudgePrompt, names: Sequence[str]) -> dict[str, Any]:
    score = {"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))}
    if prompt.kind == "pairwise":
        fields: dict[str, Any] = {"verdict": {"type": "string", "enum": ["A", "B", *(["tie"] if prompt.ties else [])]}}
    elif prompt.kind == "score":
        fields = {"score_a": score, "score_b": score}
    else:
        side = _strict(dict.fromkeys(names, score))
        fields = {"a": side, "b": side}
    return _strict({"reason": {"type": "string"}, **fields})


def _strict(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(fields), "required": list(fields), "additionalProperties": False}
