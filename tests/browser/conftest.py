"""Fixtures of the browser tests. Without a Chromium they are skipped, or fail where EXPLORER_REQUIRE_BROWSER is set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_page import Reader, chromium, served, small_library, small_model
from evaluation_samples import make_evaluation

from explorer.evaluation.record import write_record

NAMES = ["add", "subtract", "plural", "past_tense", "negate", "summary"]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        reason = "no Chromium was found; set EXPLORER_CHROMIUM to its path"
        if os.environ.get("EXPLORER_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="session")
def base(scratch: Path) -> Path:
    return small_model(scratch / "base")


@pytest.fixture(scope="session")
def url(browser: Any, scratch: Path, base: Path) -> Iterator[str]:
    """A page with a library of six on a small model, in whose folder lies an evaluation that was made up."""
    library = small_library(scratch / "six", base, NAMES)
    write_record(make_evaluation(), library / "evaluation.json")
    with served(str(library), scratch) as address:
        yield address


@pytest.fixture
def reader(browser: Any, url: str) -> Iterator[Callable[..., Reader]]:
    """Opens the page, each time as another person."""
    contexts = []

    def another(query: str = "", **settings: Any) -> Reader:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **settings)
        contexts.append(context)
        return Reader(context.new_page(), url).open(query)

    yield another
    for context in contexts:
        context.close()
