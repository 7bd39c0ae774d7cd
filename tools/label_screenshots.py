"""Makes the screenshots of docs/label.md with Debian's chromium: wide, phone and dark.

PYTHONPATH=src python tools/label_screenshots.py [FOLDER, by default docs/figures]
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign, make_tasks
from palate.feedback.candidates import Candidates
from palate.feedback.transfer import import_candidates
from palate.records import Answer, Message
from palate.store import open_store
from palate.web.app import create_app
from palate.web.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
CAMPAIGN = "assistant-answers"
SCHEMA = CampaignSchema(
    criteria="correct first, then complete, then short.",
    tags=("wrong fact", "unclear", "too long", "ignores the question"),
    dimensions=("accuracy", "clarity"),
    seed=1,  # the item of the screenshots is the fourth one
)
MEDIAN = """Sort the list and take the middle element, or the mean of the two middle ones.

```python
def median(numbers):
    if not numbers:
        raise ValueError("median of an empty list")
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
```

`statistics.median` of the standard library does the same."""
SHORT_MEDIAN = """Sort the list and take the middle element:

```python
def median(numbers):
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]
```

This works for any list:

- `median([3, 1, 2])` gives `2`
- `median([4, 1, 2, 3])` gives `3`"""
PLANTS = (
    "Twice a week is right for most houseplants. Water until it runs out of the bottom.",
    "It depends on the plant: feel the soil, and water when the top two centimetres are **dry**.",
)
ITEMS = [
    ("How often should I water houseplants?", PLANTS),
    ("Write a Python function that gives the median of a list.", (MEDIAN, SHORT_MEDIAN)),
    ("How do I cook rice?", ("One part rice, two parts water, 15 minutes with the lid on.", "Boil it.")),
    ("What does HTTP status 409 mean?", ("A conflict with the state of the resource.", "The server is down.")),
    ("Is a tomato a fruit?", ("In botany yes, in the kitchen no.", "Yes.")),
    ("Name three rivers of Europe.", ("Rhine, Danube, Loire.", "Rhine, Danube and Nile.")),
]
# Name, width, height, colours, whether the field for reasons is open.
SHOTS = (("wide", 1280, 900, "light", False), ("phone", 390, 844, "light", False), ("dark", 1280, 900, "dark", True))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as temporary,
        _served(_app(Path(temporary))) as address,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height, colours, reason in SHOTS:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=colours, device_scale_factor=1
            )
            page = context.new_page()
            page.goto(f"{address}/label/{CAMPAIGN}")
            _go_to(page, "median")
            if reason:
                page.keyboard.press("r")
                wrong, right = ("A", "B") if "any list" in page.inner_text("#first-text") else ("B", "A")
                page.fill("#reason", f"{wrong} is wrong for an even number of elements.")
                page.check("text=wrong fact")
                for letter, score in ((wrong, 2), (right, 5)):
                    page.click(f"[aria-label^='accuracy of answer {letter}'] label:has-text('{score}')")
            file = folder / f"label-{name}.png"
            file.write_bytes(_small(page.screenshot()))
            print(f"{file}: {file.stat().st_size / 1000:.0f} kB")
            context.close()
        browser.close()


def _app(folder: Path) -> FastAPI:
    store = open_store(str(folder / "palate.db"))
    rows = [
        Candidates(f"prompts.jsonl:{number}", (Message("user", prompt),), tuple(Answer(text, "stop") for text in texts))
        for number, (prompt, texts) in enumerate(ITEMS, 1)
    ]

    def fill(session) -> None:  # type: ignore[no-untyped-def]
        campaign = create_campaign(session, CAMPAIGN, SCHEMA, "")
        import_candidates(session, CAMPAIGN, rows)
        make_tasks(session, campaign)

    store.write(fill)
    return create_app(store, Settings(local=True))


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def _go_to(page: Page, word: str) -> None:
    """Vote until the item with `word` in its prompt is there."""
    while word not in page.inner_text(".prompt"):
        before = page.get_attribute("#ballot", "data-draft")
        page.keyboard.press("2")
        expect(page.locator(f"#ballot[data-draft='{before}']")).to_have_count(0)


def _small(png: bytes) -> bytes:
    """The image with 128 colours."""
    out = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "figures")
