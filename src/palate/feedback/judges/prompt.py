"""Prompts of judges: built in, or a file of the user's with placeholders."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import yaml

from palate.artifacts import json_hash
from palate.errors import ConfigError

PromptKind: TypeAlias = Literal["pairwise", "score", "rubric", "generated"]
Output: TypeAlias = Literal["letter", "reasoned"]

BUILT_IN = ("criteria", "concise", "score", "rubric", "generated-rubric")
DEFAULT = "criteria"

_FOLDER = Path(__file__).parent / "prompts"
_PLACEHOLDERS = ("prompt", "answer_a", "answer_b", "criteria")
_REQUIRED = ("prompt", "answer_a", "answer_b")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_DEFAULT_CRITERIA = ("helpfulness", "accuracy", "clarity", "safety")


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """What a judge is asked.

    Attributes:
        name: of a built-in prompt, or the file's name.
        version: of the text; a changed text has a new version, and another hash.
        kind: `pairwise` (A, B, tie), `score` (1 to 10 for each answer), `rubric` (1 to 10 for each answer and
            criterion), `generated` (the same, with criteria that the judge writes for each prompt).
        output: `letter` for the verdict alone, as the text asks for it; `reasoned` for a reason and a verdict, in a
            form that palate asks for and that depends on what the endpoint can do.
        ties: whether a pairwise verdict may be a tie.
        max_tokens: of the reply.
        criteria: for `{criteria}`.
        text: with the placeholders {prompt}, {answer_a}, {answer_b} and {criteria}.
        rubric: of kind `generated`, the text that asks for the criteria, with {prompt}.
    """

    name: str
    version: int
    kind: PromptKind
    output: Output
    ties: bool
    max_tokens: int
    criteria: tuple[str, ...]
    text: str
    rubric: str = ""

    @property
    def sha256(self) -> str:
        """Of everything but the name."""
        fields = {name: value for name, value in asdict(self).items() if name != "name"}
        return json_hash(fields)

    def fill(self, *, prompt: str, answer_a: str, answer_b: str, criteria: str) -> str:
        """The text with its placeholders filled; braces inside the values stay as they are."""
        values = {"prompt": prompt, "answer_a": answer_a, "answer_b": answer_b, "criteria": criteria}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.text)

    def fill_rubric(self, prompt: str) -> str:
        """The text that asks for criteria."""
        return _PLACEHOLDER.sub(lambda _: prompt, self.rubric)


def load_prompt(name: str) -> JudgePrompt:
    """A built-in prompt by name, or a file: YAML with the fields of `JudgePrompt`, or plain text.

    A plain text asks for a reason and a verdict with ties, unless it asks itself to answer only "A" or "B".

    Raises:
        ConfigError: there is no such prompt, or the file lacks a placeholder or has an unknown one.
    """
    if name in BUILT_IN:
        return _from_yaml(_FOLDER / f"{name}.yaml", name)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"--prompt {name}: no such file; write a file's name or one of {', '.join(BUILT_IN)}")
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path, path.stem)
    text = _read(path)
    letter = re.search(r'answer (?:with )?only "?A"? or "?B"?', text, re.IGNORECASE) is not None
    prompt = JudgePrompt(
        name=path.stem,
        version=1,
        kind="pairwise",
        output="letter" if letter else "reasoned",
        ties=not letter,
        max_tokens=16 if letter else 300,
        criteria=_DEFAULT_CRITERIA,
        text=text,
    )
    return _checked(prompt, name)


def _from_yaml(path: Path, name: str) -> JudgePrompt:
    try:
        found = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"--prompt {path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        raise ConfigError(f"--prompt {path}: needs a text with {', '.join(f'{{{each}}}' for each in _REQUIRED)}")
    defaults: dict[str, Any] = {
        "name": name,
        "version": 1,
        "kind": "pairwise",
        "output": "reasoned",
        "ties": True,
        "max_tokens": 500,
        "criteria": list(_DEFAULT_CRITERIA),
        "text": "",
        "rubric": "",
    }
    unknown = next((str(key) for key in found if key not in defaults), None)
    if unknown is not None:
        raise ConfigError(f"--prompt {path}: {unknown} is not a field of a prompt; those are {', '.join(defaults)}")
    values = {**defaults, **found, "name": str(found.get("name", name))}
    for field, allowed in (("kind", get_args(PromptKind)), ("output", get_args(Output))):
        if values[field] not in allowed:
            raise ConfigError(f"--prompt {path}: {field} {values[field]!r} is not one of {', '.join(allowed)}")
    for field, default in defaults.items():
        value, kind = values[field], type(default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(f"--prompt {path}: {field} must be of type {kind.__name__}, not {value!r}")
    return _checked(JudgePrompt(**{**values, "criteria": tuple(map(str, values["criteria"]))}), str(path))


def _checked(prompt: JudgePrompt, where: str) -> JudgePrompt:
    used = _PLACEHOLDER.findall(prompt.text)
    missing = next((name for name in _REQUIRED if name not in used), None)
    unknown = next((name for name in used if name not in _PLACEHOLDERS), None)
    problem = None
    if missing is not None:
        problem = f"the placeholder {{{missing}}} is missing"
    elif unknown is not None:
        allowed = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
        problem = f"{{{unknown}}} is not a placeholder; those are {allowed}"
    elif prompt.output == "letter" and prompt.kind != "pairwise":
        problem = f"output: letter is for kind: pairwise, not {prompt.kind}"
    elif prompt.kind == "rubric" and not prompt.criteria:
        problem = "kind: rubric needs criteria"
    elif prompt.kind == "generated" and _PLACEHOLDER.findall(prompt.rubric) != ["prompt"]:
        problem = "kind: generated needs a rubric, the text that asks for the criteria, with {prompt} in it"
    elif prompt.kind in ("rubric", "generated") and "criteria" not in used:
        problem = "the placeholder {criteria} is missing"
    elif prompt.max_tokens < 1:
        problem = "max_tokens must be at least 1"
    if problem is not None:
        raise ConfigError(f"--prompt {where}: {problem}")
    return prompt


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--prompt {path}: cannot be read: {error}") from error
