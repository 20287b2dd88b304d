"""The Evaluate tab in Chromium: the stored table at one glance, and a file of one's own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from browser_page import Reader
from evaluation_samples import make_evaluation

pytestmark = pytest.mark.browser
Open = Callable[..., Reader]


def opened(reader: Open, query: str = "") -> Reader:
    one = reader(query)
    if not query:
        one.tab("Evaluate")
    one.page.wait_for_selector("#scores-table table")
    return one


def heads(reader: Reader) -> list[str]:
    return [text.strip() for text in reader.page.locator("#scores-table thead tr:last-child th").all_inner_texts()]


def test_the_stored_table_is_there_with_no_more_than_the_tab(reader: Open) -> None:
    one = opened(reader)
    record = make_evaluation()
    assert one.page.locator("#scores-table tbody tr").count() == len(record.methods)
    assert heads(one)[3:] == [task.name for task in record.tasks if task.held_out]
    one.page.wait_for_selector("#scores-means .js-plotly-plot")
    one.page.wait_for_selector("#transfer-plot .js-plotly-plot")
    one.page.click("#scores-part label:has-text('All')")
    one.page.wait_for_function("document.querySelectorAll('#scores-table thead tr:last-child th').length > 10")
    assert heads(one)[3:] == [task.name for task in record.tasks]
    one.page.set_viewport_size({"width": 390, "height": 844})
    one.page.wait_for_timeout(400)
    assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    one.page.evaluate("document.querySelector('.lx-scores').scrollLeft = 400")
    box = one.page.locator("#scores-table tbody th").first.bounding_box()
    assert box is not None
    assert 0 <= box["x"] < 40, "the method stays in sight"
    assert one.complaints == []
    assert one.outside == []


def test_table_and_record_are_saved_by_one_click_each(reader: Open, tmp_path: Path) -> None:
    one = opened(reader)
    for button, name in (("#scores-csv", "evaluation-loss.csv"), ("#scores-json", "evaluation.json")):
        with one.page.expect_download() as caught:
            one.page.click(button)
        assert caught.value.suggested_filename == name
        caught.value.save_as(tmp_path / name)
    with (tmp_path / "evaluation-loss.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + len(make_evaluation().methods)
    assert len(json.loads((tmp_path / "evaluation.json").read_text())["cells"]) == len(make_evaluation().cells)
    assert one.complaints == []


def test_a_file_with_broken_rows_is_evaluated_without_them(reader: Open, tmp_path: Path) -> None:
    one = opened(reader, "?tab=Evaluate")
    assert one.page.get_by_role("tab", name="Evaluate").get_attribute("aria-selected") == "true"
    rows = tmp_path / "mine.csv"
    rows.write_text("prompt,target,task\nthe fox,jumps,tale\n,lost,tale\none and two,three,sums\n")
    one.page.click("#own-file button")
    one.page.set_input_files("#scores-upload input[type=file]", str(rows))
    one.wait_status("2 rows of mine.csv can be evaluated. 1 row cannot")
    assert one.page.locator("#scores-file tbody tr").count() == 1
    one.put("#evaluate-tokens input", "4")
    one.page.click("#evaluate-button")
    one.wait_status("6 results in")
    assert heads(one) == ["All tasks", "tale", "sums"]
    assert one.page.locator("#scores-table tbody tr").count() == 3
    one.page.click("#scores-shown label:has-text('Stored')")
    one.page.wait_for_function("document.querySelector('#scores-head').innerText.includes('Stored')")
    one.put("#evaluate-tokens input", "200")
    one.page.click("#evaluate-button")
    one.page.wait_for_function("document.querySelector('#scores-head').innerText.includes('still running')")
    one.page.click("#stop-evaluate")
    one.page.wait_for_function("document.querySelector('#scores-head').innerText.includes('stopped before its end')")
    one.wait_status("Stopped")
    assert one.complaints == []
