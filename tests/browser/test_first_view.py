"""The first view: no click, no model, no request to anybody else, nothing in the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser_page import Reader, served

from explorer.adapters.sources import DEFAULT_SAMPLE, sample_names
from explorer.ui.desk import FIRST_VIEW, read_first_view

pytestmark = pytest.mark.browser


@pytest.mark.skipif(DEFAULT_SAMPLE not in sample_names(), reason="the sample library is not there")
def test_the_sample_is_shown_without_its_model(browser: Any, scratch: Path, tmp_path: Path) -> None:
    nothing = {"EXPLORER_CACHE": str(tmp_path / "empty"), "PIP_NO_INDEX": "1"}
    first = read_first_view(FIRST_VIEW)
    assert first is not None, "the stored first view is missing or of another format: make it again"
    with served("sample", scratch, **nothing) as url:
        for width, height in ((1280, 900), (390, 844)):
            context = browser.new_context(viewport={"width": width, "height": height})
            one = Reader(context.new_page(), url).open()
            assert one.names_on_map() == set(first.record.names)
            assert "Stored run" in one.status()
            typed = sum(first.prompt.trace.typed)
            assert one.page.locator("#strip [data-token]").count() == typed
            assert one.page.locator(".lx-glance-cell").count() == 4
            for name in ("Routing", "Compare", "Evaluate", "Library"):
                one.tab(name)
                one.page.wait_for_timeout(500)
                assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
            assert one.complaints == []
            assert one.outside == []
            context.close()


def test_a_library_that_cannot_be_opened_is_told_in_words(browser: Any, scratch: Path) -> None:
    (scratch / "nothing").mkdir()
    with served(str(scratch / "nothing"), scratch) as url:
        context = browser.new_context()
        one = Reader(context.new_page(), url)
        one.page.goto(url)
        assert "nothing: holds no adapter folder" in one.wait_status("Give a folder of PEFT adapters.")
        assert one.complaints == []
        context.close()
