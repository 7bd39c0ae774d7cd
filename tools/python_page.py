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

The commands are thin: what they do can be called from Python with the same keys and names. These names are stable
([versions](release.md#versions)); everything else may change.

```python
import palate

config = palate.load_config("run.yaml", ["output_dir=runs/python", "max_steps=2"]).config
run = palate.train(config)
print(run.status, run.metrics["loss"])
```

Errors in your input are `palate.PalateError`: `str(error)` is the line that the command prints. `import palate` loads
no torch; each name loads what it needs when it is first used.
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
