"""The judge card: what was measured of a judge, as a JSON file, in the store, and for the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from palate.artifacts import file_hash, json_hash, plain, read_json, write_json
from palate.errors import DataError, MissingStoreError, StoreError
from palate.feedback.agreement import AnnotatorQuality, JudgeAgreement, PeopleAgreement
from palate.feedback.calibration.biases import Preference, Share
from palate.feedback.calibration.canaries import CanaryResult
from palate.feedback.calibration.correction import ModelRates
from palate.feedback.calibration.prompts import PromptSpread
from palate.feedback.judges.scores import ScoreJudge
from palate.records import Judge
from palate.stats import PositionReport
from palate.store import open_store
from palate.store.tables import StoredJudgeCard

SCHEMA = 1
"""Version of the file's fields."""

CardVerdict: TypeAlias = Literal["may_decide_alone", "not_alone", "invalid"]


@dataclass(frozen=True, slots=True)
class JudgeIdentity:
    """Which judge a card is about: a card of another prompt or model says nothing about this one.

    Attributes:
        name: as votes have it.
        model: name or content hash of its model; empty for a rule.
        prompt_hash: of its prompt's text; empty without one.
    """

    name: str
    model: str = ""
    prompt_hash: str = ""


def identity_of(judge: Judge) -> JudgeIdentity:
    """A judge's identity: its attributes `model` and `prompt_hash`, or the content of a rule's or a model's files."""
    model = _content_of(judge.name) if isinstance(judge, ScoreJudge) else str(getattr(judge, "model", ""))
    return JudgeIdentity(judge.name, model, str(getattr(judge, "prompt_hash", "")))


def _content_of(spec: str) -> str:
    """A hash of the files that a rule or a reward model is read from; empty for a rule without a file."""
    folder = Path(spec)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".jinja"))
    else:
        parts = [Path(part) for part in (spec.partition(":")[0], spec.partition(":")[2])]
        files = [path for path in parts if path.name and path.is_file()]
    if not files:
        return ""
    return hashlib.sha256("".join(f"{path.name} {file_hash(path)}\n" for path in files).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class JudgeCard:
    """Everything that was measured of a judge.

    Attributes:
        schema: version of the fields.
        judge: which judge.
        when: ISO 8601 in UTC.
        concurrency: requests in flight while it was measured; None for a judge in this process.
        endpoint: what the API of the judge was found to be able to do; None for a judge in this process.
        inputs: SHA-256 of each file that was read, by name.
        questions: pairs of answers that the judge was asked about, each in both orders.
        verdicts: number of verdicts on them; `unparsed` of these could not be read, `missing` were not given at all.
        people: agreement of people with each other.
        annotators: quality of each person.
        agreement: of the judge with the majority of people.
        position: consistency over orders, and preference for a slot; None without a readable verdict.
        length: preference for longer answers.
        own_answers: preference for answers of the judge's own model.
        repetition: share of equal verdicts when the same question is asked again.
        prompts: agreement under other prompts.
        contradictions: share of reasons that contradict their verdict.
        canaries: answers that must lose, by kind.
        models: win rates of models, corrected.
        verdict: `may_decide_alone`; `not_alone`: people must confirm its decisions; `invalid`: a canary won, or nothing
            could be measured.
        reasons: why the verdict is not `may_decide_alone`.
    """

    schema: int
    judge: JudgeIdentity
    when: str
    concurrency: int | None
    endpoint: Mapping[str, Any] | None
    inputs: Mapping[str, str]
    questions: int
    verdicts: int
    unparsed: int
    missing: int
    people: PeopleAgreement
    annotators: tuple[AnnotatorQuality, ...]
    agreement: JudgeAgreement
    position: PositionReport | None
    length: Preference
    own_answers: Preference
    repetition: Share
    prompts: PromptSpread
    contradictions: Share
    canaries: tuple[CanaryResult, ...]
    models: ModelRates
    verdict: CardVerdict
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        found: dict[str, Any] = plain(self)
        return found


@cache
def _reader() -> TypeAdapter[JudgeCard]:
    return TypeAdapter(JudgeCard)


def card_from_json(content: Any, where: str) -> JudgeCard:
    """A card from its JSON object.

    Raises:
        DataError: it is no card, or of a newer palate; names `where`.
    """
    version = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise DataError(f"{where}: not a judge card; `palate judge calibrate` writes one")
    if version > SCHEMA:
        raise DataError(f"{where}: was written by a newer palate (schema {version}, here {SCHEMA}); update palate")
    try:
        return _reader().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: not a judge card: {place}: {first['msg']}; measure the judge again") from error


def load_card(path: str | Path) -> JudgeCard:
    """The card of a file.

    Raises:
        ArtifactError: the file is missing or not JSON.
        DataError: it is no card.
    """
    return card_from_json(read_json(path), str(path))


def write_card(card: JudgeCard, path: str | Path) -> None:
    write_json(path, card.to_json())


def save_card(session: Session, card: JudgeCard) -> None:
    """Add the card to the store; the same card is kept once."""
    content = card.to_json()
    digest = json_hash(content)
    known = session.scalar(select(StoredJudgeCard.id).where(StoredJudgeCard.content_hash == digest))
    if known is None:
        at = datetime.fromisoformat(card.when).astimezone(UTC)
        session.add(StoredJudgeCard(judge=card.judge.name, content_hash=digest, card=content, at=at))


def newest_card(session: Session, judge: JudgeIdentity) -> JudgeCard | None:
    """The newest card of exactly this judge; None if it was never measured."""
    rows = session.scalars(
        select(StoredJudgeCard)
        .where(StoredJudgeCard.judge == judge.name)
        .order_by(StoredJudgeCard.at.desc(), StoredJudgeCard.id.desc())
    )
    cards = (card_from_json(row.card, f"judge card {row.id}") for row in rows)
    return next((card for card in cards if card.judge == judge), None)


def unmeasured_note(judge: Judge, store: str | None) -> str | None:
    """A line that says that the judge was not measured, or that its card is not good; None if it may decide alone.

    Args:
        store: URL of the store with the cards, as for `open_store`; it is not created.
    """
    identity = identity_of(judge)
    unmeasured = f"judge {identity.name} was not measured against people's votes; palate judge calibrate measures it"
    try:
        opened = open_store(store, create=False)
    except MissingStoreError:
        return unmeasured
    except StoreError as error:  # the votes are there, and are worth a line in any case
        return f"{unmeasured} ({error})"
    try:
        card = opened.read(lambda session: newest_card(session, identity))
    finally:
        opened.close()
    if card is None:
        return unmeasured
    if card.verdict == "may_decide_alone":
        return None
    word = "is invalid" if card.verdict == "invalid" else "may not decide alone"
    return f"judge {identity.name} {word} by its card of {card.when}: {'; '.join(card.reasons)}"
