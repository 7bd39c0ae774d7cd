"""Prompts: the built-in ones, and files of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import ConfigError
from palate.feedback.judges.prompt import BUILT_IN, load_prompt


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_prompt(name: str) -> None:
    prompt = load_prompt(name)
    assert (prompt.name, prompt.version) == (name, 1)
    filled = prompt.fill(prompt="P", answer_a="{answer_b}", answer_b="B", criteria="C")
    assert "{answer_b}" in filled  # braces of an answer are no placeholder
    assert "{prompt}" not in filled


def test_the_prompt_of_letters() -> None:
    """A criteria list, and the letter alone."""
    prompt = load_prompt("criteria")
    assert prompt.criteria == ("helpfulness", "accuracy", "clarity", "safety")
    assert 'Answer only "A" or "B".' in prompt.text
    assert (prompt.kind, prompt.output, prompt.ties) == ("pairwise", "letter", False)


def test_the_hash_depends_on_everything_but_the_name(tmp_path: Path) -> None:
    text = "kind: score\ntext: '{prompt} {answer_a} {answer_b}'\n"
    first, second, third = (tmp_path / f"{name}.yaml" for name in "abc")
    first.write_text(text)
    second.write_text(text)
    third.write_text(text + "max_tokens: 7\n")
    hashes = [load_prompt(str(path)).sha256 for path in (first, second, third)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_file_of_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("{prompt}\n{answer_a}\n{answer_b}\nWhich?")
    prompt = load_prompt(str(path))
    assert (prompt.name, prompt.kind, prompt.output, prompt.ties) == ("mine", "pairwise", "reasoned", True)
    path.write_text('{prompt}\n{answer_a}\n{answer_b}\nAnswer only "A" or "B".')
    prompt = load_prompt(str(path))
    assert (prompt.output, prompt.ties) == ("letter", False)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.txt", "{prompt} {answer_a}", "the placeholder {answer_b} is missing"),
        ("p.txt", "{prompt} {answer_a} {answer_b} {answerc}", "{answerc} is not a placeholder"),
        ("p.yaml", "text: '{prompt} {answer_a} {answer_b}'\nkind: best", "kind 'best' is not one of pairwise, score"),
        ("p.yaml", "text: '{prompt} {answer_a} {answer_b}'\nknid: score", "knid is not a field of a prompt"),
        ("p.yaml", "text: '{prompt} {answer_a} {answer_b}'\nmax_tokens: many", "max_tokens must be of type int"),
        ("p.yaml", "text: '{prompt} {answer_a} {answer_b}'\nmax_tokens: 0", "max_tokens must be at least 1"),
        ("p.yaml", "text: '{prompt} {answer_a} {answer_b}'\nkind: score\noutput: letter", "output: letter is for kind"),
        ("p.yaml", "text: '{prompt} {answer_a} {answer_b}'\nkind: rubric", "the placeholder {criteria} is missing"),
        ("p.yaml", "text: '{prompt} {answer_a} {answer_b} {criteria}'\nkind: generated", "needs a rubric"),
        ("p.yaml", "text: [", "not valid YAML"),
        ("p.yaml", "- a", "needs a text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_prompt(str(path))
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_such_prompt() -> None:
    with pytest.raises(ConfigError, match="no such file; write a file's name or one of criteria, concise"):
        load_prompt("best")
