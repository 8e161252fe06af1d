"""README and docs are true to the program: commands, links, names, length and language."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

ARCHAIC = re.compile(
    r"\banew\b|\bso that\b|\bwhich is what\b|\bwhat is no\b|\bas it were\b|\bit were\b|\bthereof\b|\bwhereby\b"
    r"|\bis there already\b|\bnot there yet\b",
    re.IGNORECASE,
)
"""Phrases that stop a reader. Each has a plain substitute: again, to, that is, existing, missing."""


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_the_page_of_commands_is_the_help() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "write_commands.py"))
    assert script["FILE"].read_text(encoding="utf-8") == script["document"](), "run scripts/write_commands.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(found), f"{page.name}: {target}"


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    for name in _named(page):
        if _is_file(name):
            assert any((folder / name).exists() for folder in _folders()), f"{page} names {name}"


def test_every_function_and_class_of_the_design_exists() -> None:
    sources = [path.read_text(encoding="utf-8") for path in _sources()]
    modules = {path.stem for path in _sources()} | {path.name for path in _folders()}
    for name in _named("docs/design.md"):
        *owners, last = name.split(".")
        if not (_is_file(name) or {name, name.replace("-", "_")} & modules):
            parts = [part for part in (*owners, last) if part not in modules]
            wanted = [re.compile(rf"^ *(?:def|class) {part}\b|^ *{part}(?::| =)", re.MULTILINE) for part in parts]
            assert any(all(one.search(text) for one in wanted) for text in sources), f"docs/design.md names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_docs_are_in_plain_english(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not ARCHAIC.findall(text)


def test_what_the_program_says_is_in_plain_english() -> None:
    """Strings and docstrings."""
    said = [
        f"{path.relative_to(ROOT)}:{line}: {match.group()}"
        for path in _sources()
        for line, string in _strings(path)
        for match in ARCHAIC.finditer(" ".join(string.split()))
    ]
    assert not said


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _named(page: str) -> set[str]:
    """The files, classes and functions between backquotes."""
    return set(re.findall(r"`([A-Za-z_][\w./]+)(?:\(\))?`", (ROOT / page).read_text(encoding="utf-8")))


def _is_file(name: str) -> bool:
    return "/" in name or name.endswith((".py", ".md", ".toml"))


def _folders() -> list[Path]:
    return [ROOT, *(path for path in (ROOT / "dgtui", *(ROOT / "dgtui").rglob("*")) if path.is_dir())]


def _sources() -> list[Path]:
    return sorted((ROOT / "dgtui").rglob("*.py"))


def _strings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
