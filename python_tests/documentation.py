"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "csrc" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
    ROOT / "experiments" / "README.md",
    ROOT / "benchmarks" / "README.md",
]


def name_of(page: Path) -> str:
    """The name of a page in messages."""
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: where it stands.
        line: line of the page, from 1.
        language: what its fence says, "" for an indented block.
        content: its lines.
    """

    page: Path
    line: int
    language: str
    content: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}, line {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """All code blocks of a page in order, including those in lists."""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content)


def code_spans(page: Path) -> list[str]:
    """The inline code in a page's prose and tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [
        child.content.replace("\\|", "|")
        for token in tokens
        for child in token.children or []
        if child.type == "code_inline"
    ]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    titles = [
        "".join(child.content for child in content.children or [])
        for heading, content in pairwise(tokens)
        if heading.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table_under(page: Path, heading: str, *, nth: int = 0) -> list[str]:
    """Inline code in the first column of the nth table below a heading."""
    text = page.read_text(encoding="utf-8")
    [section] = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL
    )
    tables = re.findall(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    cells = [row.split("|")[1] for row in tables[nth].splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def shell_lines(script: str) -> list[str]:
    """Commands of a script; lines that end in a backslash are joined with the next."""
    return [line for line in script.replace("\\\n", " ").splitlines() if line.strip()]
