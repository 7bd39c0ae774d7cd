"""docs/python.md from the docstrings of palate's public names: `python tools/python_page.py docs/python.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import palate

INTRODUCTION = """\
# Python

<!-- Written by `python tools/python_page.py docs/python.md` from the docstrings. Edit those. -->

The commands are thin: what they do can be called from Python with the same keys and names. The names below and those of
`palate.registry` are stable ([versions](release.md#versions)); everything else may change. All are typed (`py.typed`).

Errors in your input are `palate.PalateError`: `str(error)` is the line that the command prints. `import palate` loads
no torch; each name loads what it needs when it is first used.

## Examples

The tests run these from top to bottom, with a tiny model in place of `smollm2-135m-instruct`.

```yaml title="run.yaml"
stage: dpo
model_name_or_path: smollm2-135m-instruct
dataset: palate-demo
max_samples: 64
val_size: 8
max_steps: 2
sample_prompts: 2
sample_max_new_tokens: 8
output_dir: runs/first
```

Train, and compare the answers before and after:

```python
import palate

loaded = palate.load_config("run.yaml", ["output_dir=runs/dpo"])
print(loaded.notices)
run = palate.train(loaded.config)
print(run.status, run.metrics["loss"])

accuracy = palate.evaluate("runs/dpo")
print(accuracy.policy.estimate, accuracy.policy.low, accuracy.policy.high)
row = palate.compare(["runs/dpo"])[0]
print(row.prompt[-1].content, row.reference, row.outputs["dpo"])
```

Sample answers, let a rule judge them, and make pairs to train on:

```json title="prompts.jsonl"
{"prompt": "What is a fork?"}
{"prompt": "Name a river in Europe."}
{"prompt": "How do I boil an egg?"}
{"prompt": "What is bread made of?"}
```

```python
import json
from pathlib import Path

candidates = palate.generate("prompts.jsonl", "runs/dpo", k=3, max_new_tokens=8, output="candidates.jsonl")
print(candidates[0].completions[0].text)
collected = palate.judge(candidates, "length:shorter", "votes.jsonl")
made = palate.make_pairs(candidates, collected.votes, select="extremes")
rows = [json.dumps(palate.pair_row(pair.record())) for pair in made.pairs]
Path("pairs.jsonl").write_text("".join(row + "\\n" for row in rows))
print(len(palate.load_preferences("pairs.jsonl").records), made.left_out)
```

Put the run into the registry, and serve what `production` names. `gateway.app` is an ASGI app:
`uvicorn.run(gateway.app, port=8000)` serves it; here a test client asks it.

```python
from palate import registry
from starlette.testclient import TestClient

store = palate.open_store("sqlite:///palate.db")
version = registry.add(store, "runs/dpo", models_dir=Path("models"), who="ann", note="first").version
registry.promote(store, version.name, alias="production", who="ann", reason="first")
gateway = palate.gateway({"chat": {"alias": "production"}}, store, max_tokens=16)
with TestClient(gateway.app, base_url="http://127.0.0.1") as client:
    reply = client.post(
        "/v1/chat/completions",
        json={"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8},
    )
print(reply.json()["choices"][0]["message"]["content"])
store.close()
```
"""

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\S[^:\n]*): (.+(?:\n {6,}\S.*)*)", re.MULTILINE)


def page() -> str:
    """The whole page, Markdown."""
    parts = [INTRODUCTION]
    for name in sorted(palate.__all__, key=str.lower):
        value = getattr(palate, name)
        if not name.startswith("__"):
            parts.append("\n".join(_entry(name, value)))
    return "\n".join(parts)


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"## {name}\n"
    if inspect.isfunction(value):
        shape = inspect.signature(value)
        arguments = ",\n    ".join(map(_argument, shape.parameters.values()))
        yield f"```text\npalate.{name}(\n    {arguments},\n) -> {shape.return_annotation}\n```\n"
    text, *sections = _SECTION.split(inspect.getdoc(value) or "")
    yield re.sub(r"\n(?! {4}|\n)", " ", text.strip()).replace("\n ", "\n\n") + "\n"
    for title, body in zip(sections[::2], sections[1::2]):
        rows = [(found[1], " ".join(found[2].split())) for found in _ENTRY.finditer(body)]
        if title in ("Returns", "Yields") or not rows:
            yield f"{title}: {' '.join(body.split())}\n"
        else:
            yield f"| {title.lower()} | |\n|---|---|"
            yield from (f"| `{key}` | {meaning.replace('|', chr(92) + '|')} |" for key, meaning in rows)
            yield ""
    if inspect.isclass(value) and issubclass(value, palate.DpoConfig | palate.SftConfig):
        yield "Its fields are the keys of [config](config.md).\n"


def _argument(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    default = "" if one.default is one.empty else " = …" if callable(one.default) else f" = {one.default!r}"
    return f"{stars}{one.name}: {one.annotation}{default}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
