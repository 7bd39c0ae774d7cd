"""Every page of the manual is typed top to bottom: its files, commands and Python, on a tiny model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from chat_server import ChatServer, make_httpserver
from doc_pages import DOCS, PAGES, REPOSITORY, Block, blocks, command_lines
from doc_shell import ADDRESS, Shell
from doc_world import inside, make_world, variables

TYPED = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "configs" / "README.md", *PAGES]
SHELL = ("sh", "console")
NOT_TYPED: Mapping[str, tuple[str, ...]] = {}


def typed(block: Block) -> bool:
    return block.language in (*SHELL, "python") or bool(block.title)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def engine(make_httpserver: HTTPServer) -> ChatServer:
    return ChatServer(make_httpserver)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in TYPED if any(map(typed, blocks(page)))], ids=lambda page: page.stem
)
def test_it_can_be_typed(page: Path, world: Path, engine: ChatServer, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    shutil.copytree(world / "files", folder, symlinks=True)
    names: dict[str, Any] = {"__name__": page.stem}
    not_typed = {command for commands in NOT_TYPED.values() for command in commands}
    with inside(folder, world), Shell({**variables(world), "PALATE_BASE_URL": engine.url}, engine.url) as shell:
        for block in blocks(page):
            text = block.text
            if block.title:
                (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.title).write_text(ADDRESS.sub(shell.address, text) + "\n", encoding="utf-8")
            elif block.language in SHELL:
                for command in command_lines(text):
                    if command not in not_typed:
                        try:
                            shell.run(command)
                        except AssertionError as error:
                            raise AssertionError(f"{block.where}: {command}\n{error}") from None
            elif block.language == "python":
                exec(compile(ADDRESS.sub(shell.address, text), block.where, "exec"), names)
