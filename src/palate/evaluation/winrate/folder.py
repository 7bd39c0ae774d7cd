"""The folder of a win rate: answers of both sides, verdicts, figures and the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.artifacts import plain, read_jsonl, write_text
from palate.errors import ArtifactError
from palate.evaluation.winrate.sides import SideAnswers
from palate.feedback.candidates import Candidates
from palate.records import Record

RESULT, REPORT, SWEEP, GATE = "winrate.json", "report.html", "sweep.json", "gate.json"
_FILES = frozenset(
    {
        RESULT,
        REPORT,
        SWEEP,
        GATE,
        "candidates.jsonl",
        "votes.jsonl",
        "votes.members.jsonl",
        "votes.rubrics.jsonl",
        "answers.a.jsonl",
        "answers.b.jsonl",
    }
)


@dataclass(frozen=True, slots=True)
class WinRateFolder:
    """The paths of a win rate's files."""

    path: Path

    @property
    def candidates(self) -> Path:
        """One row a prompt: the answer of A, then that of B."""
        return self.path / "candidates.jsonl"

    @property
    def votes(self) -> Path:
        return self.path / "votes.jsonl"

    def answers(self, side: str) -> Path:
        """The file with the answers of side `a` or `b`."""
        return self.path / f"answers.{side}.jsonl"

    def at_temperature(self, temperature: float) -> WinRateFolder:
        return WinRateFolder(self.path / f"t{temperature:g}")

    def check(self) -> None:
        """Raises ArtifactError if the folder holds anything but a win rate's files."""
        check_contents(self.path, "win rate", _is_known)

    def write_pairs(self, rows: Sequence[Candidates]) -> None:
        """Write the candidates, once: verdicts in this folder are on exactly these answers.

        Raises:
            ArtifactError: the folder has other answers to one of these prompts.
        """
        lines = [plain(row.to_json()) for row in rows]
        if self.candidates.exists():
            have = {str(row["id"]): row for row in read_jsonl(self.candidates)}
            changed = next((row["id"] for row in lines if row["id"] in have and have[row["id"]] != row), None)
            if changed is not None:
                raise ArtifactError(
                    f"{self.candidates}: {changed} has other answers there; the recorded answers or the prompts "
                    "changed, choose another --output"
                )
        write_text(self.candidates, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def check_contents(folder: Path, what: str, known: Callable[[Path], bool]) -> None:
    """Raises ArtifactError if the path is a file, or a folder with anything that is not known."""
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder}: is a file; choose another --output")
    found = folder.iterdir() if folder.is_dir() else ()
    strange = sorted(path.name for path in found if not known(path))
    if strange:
        raise ArtifactError(f"{folder}: holds files that are no {what} ({strange[0]}); choose another --output")


def pair_answers(
    prompts: Sequence[Record], a: SideAnswers, b: SideAnswers
) -> tuple[list[Candidates], Mapping[str, str]]:
    """The answers of A (index 0) and B (index 1) to each prompt, and prompt id → why a pair is missing."""
    rows, missing = [], {}
    for record in prompts:
        why = a.missing.get(record.id) or b.missing.get(record.id)
        if why is not None:
            missing[record.id] = why
            continue
        first, second = a.answers[record.id], b.answers[record.id]
        row = Candidates(
            record.id,
            record.prompt,
            (first.completions[0], second.completions[0]),
            columns=plain(dict(record.extra)),
            tools=record.tools,
        )
        rows.append(row.with_origins([first.origin(0), second.origin(0)]))
    return rows, missing


def _is_known(path: Path) -> bool:
    """Whether it is a file of a win rate, a hidden one, or the folder of a temperature."""
    if path.name in _FILES or path.name.startswith("."):
        return True
    return path.is_dir() and path.name.startswith("t") and path.name[1:].replace(".", "", 1).isdigit()
