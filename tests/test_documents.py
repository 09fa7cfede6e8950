"""What README, docs and docstrings say is true: their Python runs, their TOML loads."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import landscape as ls

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("plugins/*/README.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = sorted([*ROOT.glob("src"), *ROOT.glob("plugins/*/src"), *ROOT.glob("examples/*/src")])
FENCE = re.compile(r"^```(\S+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int  # of its first line, counted from 0


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start(2)))


def modules_with_examples() -> list[str]:
    """The dotted names of modules with a prompt in them; nothing is imported to find out."""
    return [
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for source in SOURCES
        for path in sorted(source.rglob("*.py"))
        if ">>> " in path.read_text(encoding="utf-8")
    ]


def check(test: doctest.DocTest) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples may leave runs behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LANDSCAPE_STORE", raising=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_tell_the_truth(page: Path) -> None:
    """Python blocks run in the order of the page, in one namespace; those with prompts are doctests."""
    namespace: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        if block.language == "toml" and "component" in block.text:
            ls.loads(block.text, "toml")
        elif block.language != "python":
            continue
        elif ">>>" in block.text:
            example = doctest.DocTestParser().get_doctest(
                block.text, namespace, page.name, str(page), block.line
            )
            example.globs = namespace
            check(example)
        else:
            source = "\n" * block.line + block.text
            exec(compile(source, str(page), "exec"), namespace)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_hold(name: str) -> None:
    for test in doctest.DocTestFinder().find(importlib.import_module(name)):
        check(test)
