"""Private data does not reach the disk under `redacted`, and no text does under `metadata`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from palate.serving.recording import RecordedChoice
from palate.serving.recording.privacy import kept_json, kept_settings, kept_text
from palate.store import Store
from recorded import Recording

SECRETS = (
    "jane.roe@example.com", "+49 170 1234567", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00",
    "sk-proj-a1B2c3D4e5F6g7H8", "192.168.17.4", "2001:db8::8a2e:370:7334",
)  # fmt: skip


@pytest.mark.parametrize("policy", ["metadata", "redacted", "full"])
def test_what_is_on_the_disk(sqlite_store: Store, tmp_path: Path, policy: str) -> None:
    recording = Recording(sqlite_store)
    text = "Mine: " + ", ".join(SECRETS) + ". What now?"
    identifier = recording.reserve(
        [{"role": "user", "content": [{"type": "text", "text": text}], "name": SECRETS[0]}],
        policy=policy, decoding={"stop": [SECRETS[0]], "n": 1}, tools=[{"description": text}], user=SECRETS[0],
    )  # fmt: skip
    called = [{"function": {"arguments": text}}]
    recording.recorder.update(identifier, "streaming")
    recording.recorder.update(identifier, "complete", [RecordedChoice(text, "stop", called)], error=text)
    recording.rate(identifier, comment=text, edit=text, thumbs="up", idempotency_key=SECRETS[0])
    sqlite_store.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    found = [secret for secret in SECRETS if secret.encode() in stored]
    assert found == (list(SECRETS) if policy == "full" else [])
    assert (b"What now?" in stored) == (policy != "metadata")


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ("Write to jane.roe@exam", "Write to "),
        ("My card is 4111 1111 11", "My card is "),
        ("The key is sk-a1", "The key is "),
        ("It was in 1999", "It was in "),
        ("No secret at all", "No secret at all"),
        ("", ""),
    ],
)
def test_the_end_of_a_cut_text_may_be_half_an_address(cut: str, kept: str) -> None:
    assert kept_text(cut, "redacted", ended=False) == kept
    assert kept_text(cut, "full", ended=False) == cut


def test_images_and_sounds_are_left_out_where_texts_are_redacted() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    assert "AAAA" not in str(kept_json(parts, "redacted"))
    assert kept_json(parts, "full") == parts
    assert kept_json(parts, "metadata") is None


def test_settings_lose_their_texts_only() -> None:
    decoding = {"temperature": 0.7, "n": 2, "stop": ["a@b.org"], "seed": None, "logprobs": True}
    numbers = {"temperature": 0.7, "n": 2, "logprobs": True}
    assert kept_settings(decoding, "metadata") == numbers
    assert kept_settings(decoding, "redacted") == {**numbers, "stop": ["[email]"]}


@pytest.mark.parametrize(
    "unit", ["a", "1 ", "a.", "a@", "(1", "+1 ", "DE89 ", "4111 ", "a1:", "-----BEGIN PRIVATE KEY", "x "]
)
def test_no_text_takes_long(unit: str) -> None:
    began = time.process_time()
    kept_text((unit * 100_000)[:100_000], "redacted", ended=False)
    assert time.process_time() - began < 2
