"""The page in Chromium: what a reader is promised, done as a reader would do it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_files import adapter_members, write_adapter, write_zip, zip_folder
from browser_page import SITES, Reader, served, small_library

from explorer import open_library

pytestmark = pytest.mark.browser
Open = Callable[..., Reader]


def click_point(reader: Reader, index: int) -> None:
    box = reader.page.locator("#map-plot .points path").nth(index).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    reader.page.mouse.move(x, y)
    reader.page.wait_for_timeout(200)
    reader.page.mouse.click(x, y)


def card_name(reader: Reader) -> str:
    return str(reader.page.inner_text("#adapter-card .lx-card-name"))


def route(reader: Reader, prompt: str) -> None:
    reader.type_prompt(prompt)
    reader.page.click("#route-button")
    reader.wait_status("Routed")


def upload(reader: Reader, path: Path) -> None:
    if not reader.page.locator("#zip-upload").is_visible():
        reader.page.click("#intake button")
    reader.page.set_input_files("#zip-upload input[type=file]", str(path))


def test_a_click_on_the_map_shows_the_adapter(reader: Open) -> None:
    one = reader()
    before = card_name(one)
    for index in range(6):
        click_point(one, index)
        one.page.wait_for_timeout(600)
        if card_name(one) != before:
            break
    one.page.wait_for_function("old => document.querySelector('.lx-card-name').innerText !== old", arg=before)
    assert card_name(one) in one.names_on_map()
    assert one.complaints == []
    assert one.outside == []


def test_route_changes_the_heat_map_and_a_token_its_detail(reader: Open) -> None:
    one = reader()
    route(one, "the quick brown fox")
    assert re.search(r"Routed \d+ tokens x 6 layers x 2 modules in [0-9.]+ s", one.status())
    one.tab("Routing")
    one.page.wait_for_selector("#overview-plot .js-plotly-plot")
    first = one.cells()
    route(one, "what is the sum of one and two")
    one.page.wait_for_function(
        "old => JSON.stringify(document.querySelector('#overview-plot .js-plotly-plot').data[0].z) !== old", arg=first
    )
    note = one.page.locator("text=Looking at token").first
    told = note.inner_text()
    one.page.locator("#strip [data-token]").first.click()
    one.page.wait_for_function("old => !document.body.innerText.includes(old)", arg=told)
    assert one.page.locator("#strip [aria-selected=true]").count() == 1
    one.page.keyboard.press("ArrowRight")
    one.page.wait_for_timeout(700)
    assert one.page.locator("#strip [data-token]").nth(1).get_attribute("aria-selected") == "true"
    assert one.complaints == []


def test_a_changed_prompt_makes_the_routing_stale(reader: Open) -> None:
    one = reader()
    route(one, "the fox")
    one.tab("Routing")
    one.type_prompt("the dog")
    one.wait_status("Route to refresh")
    assert "lx-stale" in (one.page.get_attribute("#routing-views", "class") or "")
    one.type_prompt("the fox")
    one.wait_status("Routed")
    one.put("#arrow-top-k input", "2")
    one.wait_status("Route to refresh")
    one.page.click("#route-button")
    one.wait_status("Routed")
    one.page.wait_for_function("!document.querySelector('#routing-views').classList.contains('lx-stale')")
    assert "Arrow, top 2" in one.page.inner_text("body")


def test_generate_streams_text_and_tokens(reader: Open) -> None:
    one = reader()
    one.tab("Routing")
    one.type_prompt("a story about the sea")
    one.put("#generate-tokens input", "200")
    one.page.click("#generate-button")
    one.page.wait_for_selector("#answer .lx-answer.running")
    lengths = set()
    while one.page.locator("#answer .lx-answer.running").count():
        lengths.add(one.page.locator("#strip .lx-token.generated").count())
        one.page.wait_for_timeout(60)
    assert len(lengths) > 2, "the strip grew while the answer streamed"
    assert "Generated 200 tokens" in one.wait_status("Generated 200 tokens")
    assert one.page.locator("#strip .lx-token.generated").count() == 199
    assert one.complaints == []


def test_four_columns_stream_at_once_and_stop_ends_all(reader: Open) -> None:
    one = reader()
    one.tab("Compare")
    one.type_prompt("a story about the sea")
    one.put("#compare-tokens input", "256")
    one.page.click("#compare-button")
    one.page.wait_for_function("document.querySelectorAll('#columns .lx-answer.running').length === 4")
    one.page.click("#stop-button")
    one.wait_status("Stopped")
    one.page.wait_for_function("document.querySelectorAll('#columns .lx-answer.stopped').length === 4")
    texts = one.page.locator("#columns .lx-answer-text").all_inner_texts()
    one.page.wait_for_timeout(800)
    assert one.page.locator("#columns .lx-answer-text").all_inner_texts() == texts
    one.put("#compare-tokens input", "6")
    one.page.fill("#reference textarea, #reference input", "the sea")
    one.page.click("#compare-button")
    one.wait_status("The reference answer was scored")
    columns = one.page.locator("#columns .lx-answer").all_inner_texts()
    assert len(columns) == 4
    assert all("6 tokens" in text and "nats" in text for text in columns)
    assert one.complaints == []


def test_an_uploaded_zip_is_reported_then_opened(reader: Open, tmp_path: Path) -> None:
    one = reader()
    old = one.names_on_map()
    mine = small_library(tmp_path / "mine", "nobody/unknown-model", ["red", "green", "blue"])
    write_adapter(mine / "odd", SITES, seed=9, config_extra={"use_dora": True}, base_model="nobody/unknown-model")
    upload(one, zip_folder(mine, tmp_path / "mine.zip"))
    one.page.wait_for_selector("#report .lx-report")
    report = one.page.inner_text("#report")
    assert "red" in report
    assert "map only" in report
    assert one.names_on_map() == old, "nothing is replaced before the report was answered"
    one.page.click("#open-candidate button, #open-candidate")
    one.wait_status("is open")
    one.page.wait_for_function(
        "[...document.querySelector('#map-plot .js-plotly-plot').data].flatMap(t => t.customdata || []).includes('red')"
    )
    assert one.names_on_map() == {"red", "green", "blue", "odd"}
    one.type_prompt("the fox")
    one.page.click("#route-button")
    assert "unknown-model" in one.wait_status("not available")
    assert one.complaints == []


def bad_zips(folder: Path) -> dict[str, Path]:
    good = adapter_members(write_adapter(folder / "good", SITES))
    (folder / "text.zip").write_text("this is no zip")
    return {
        "no zip": folder / "text.zip",
        "leaves its folder": write_zip(folder / "up.zip", {"../../evil/adapter_config.json": b"{}"}),
        "absolute": write_zip(folder / "absolute.zip", {"/etc/adapter_config.json": b"{}"}),
        "nested": write_zip(folder / "nested.zip", {**good, "inner.zip": b"PK"}),
        "pickles only": write_zip(
            folder / "pickle.zip", {"one/adapter_model.bin": b"x", "one/adapter_config.json": b"{}"}
        ),
        "empty": write_zip(folder / "empty.zip", {"readme.txt": b"hello"}),
        "a bomb": write_zip(folder / "bomb.zip", {"one/adapter_config.json": b"0" * 60_000_000}),
    }


def test_every_bad_zip_is_one_sentence_and_the_old_library_stays(reader: Open, tmp_path: Path) -> None:
    one = reader()
    old = one.names_on_map()
    for kind, path in bad_zips(tmp_path).items():
        one.page.evaluate("document.querySelector('#status .lx-status').className = 'seen'")
        upload(one, path)
        one.page.wait_for_selector("#status .lx-status.error")
        words = one.status().replace("!", "").strip()
        assert words.endswith("."), kind
        assert "\n" not in words, kind
        assert "Traceback" not in words, kind
        assert "went wrong inside" not in words, kind
        assert one.names_on_map() == old, kind
    assert one.complaints == []


def test_two_sessions_never_see_each_other(reader: Open, tmp_path: Path) -> None:
    one, two = reader(), reader()
    mine = small_library(tmp_path / "mine", "nobody/unknown-model", ["secret_a", "secret_b", "secret_c", "secret_d"])
    upload(one, zip_folder(mine, tmp_path / "mine.zip"))
    one.page.wait_for_selector("#report .lx-report")
    one.page.click("#open-candidate")
    one.wait_status("is open")
    route(two, "the fox")
    assert "secret" not in two.page.content()
    assert "add" in two.names_on_map()
    one.page.wait_for_function("document.body.innerText.includes('secret_a')")


def test_a_closed_page_leaves_no_files_behind(browser: Any, base: Path, scratch: Path, tmp_path: Path) -> None:
    kept = tmp_path / "tmp"
    kept.mkdir()
    library = small_library(tmp_path / "three", base, ["one", "two", "three", "four"])
    with served(str(library), scratch, TMPDIR=str(kept)) as url:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        one = Reader(context.new_page(), url).open()
        mine = small_library(tmp_path / "mine", base, ["red", "green", "blue", "grey"])
        upload(one, zip_folder(mine, tmp_path / "mine.zip"))
        one.page.wait_for_selector("#report .lx-report")
        one.page.click("#open-candidate")
        one.wait_status("is open")
        assert list(kept.glob("lora-library-*")), "an open upload lies in its own folder"
        context.close()
        end = time.monotonic() + 60
        while list(kept.glob("lora-library-*")) and time.monotonic() < end:
            time.sleep(0.5)
        assert not list(kept.glob("lora-library-*"))


def test_a_link_restores_the_view_and_hostile_ones_do_no_harm(reader: Open) -> None:
    one = reader("?prompt=the+fox&router=arrow&topk=2&tab=Routing&layer=3&adapter=plural")
    one.wait_status("Routed")
    assert one.page.get_by_role("tab", name="Routing").get_attribute("aria-selected") == "true"
    one.page.wait_for_function("document.body.innerText.includes('layer 3')")
    assert "Arrow, top 2" in one.page.inner_text("body")
    two = reader("?lib=../../etc/passwd&topk=-1&tab=%3Cscript%3Ealert(1)%3C/script%3E&layer=x&router=rm")
    words = two.wait_status("left out")
    assert "lib" in words
    assert two.complaints == []


def test_copy_link_gives_another_reader_the_same_view(reader: Open) -> None:
    one = reader()
    route(one, "the fox")
    one.tab("Routing")
    choose(one, "#router", "Single adapter")
    choose(one, "#single-name", "negate")
    one.page.click("#route-button")
    one.wait_status("Routed")
    one.page.click("#copy-link")
    one.wait_status("The link stands in the address bar")
    query = "?" + one.page.url.partition("?")[2]
    assert "lib=six&prompt=the+fox&router=single&set.name=negate&tab=Routing" in query
    two = reader(query)
    two.wait_status("Routed")
    assert two.page.input_value("#router input") == "Single adapter"
    assert two.page.input_value("#single-name input") == "negate"
    assert "This run: Only negate." in two.page.inner_text("body")
    assert card_name(two) == card_name(one) != "negate"
    # what fits into no link is told, and nothing is copied
    choose(one, "#router", "Arrow")
    one.put("#arrow-top-k input", "0")
    one.page.click("#copy-link")
    one.wait_status("This view fits into no link")
    one.page.wait_for_timeout(500)
    assert "This view fits into no link" in one.status()
    assert one.page.url.endswith(query)
    assert one.complaints == two.complaints == []


def choose(reader: Reader, selector: str, option: str) -> None:
    """Pick an option of a dropdown."""
    reader.page.click(f"{selector} input")
    reader.page.get_by_role("option", name=option, exact=True).click()


def test_a_link_of_another_library_is_told(reader: Open) -> None:
    one = reader("?lib=some/where&prompt=the+fox")
    one.wait_status("The link is of the library some/where, but six is open here.")
    assert one.page.input_value("#prompt textarea") == "the fox"
    assert one.complaints == []


def test_a_row_of_the_table_shows_its_adapter(reader: Open) -> None:
    one = reader()
    name = next(name for name in sorted(one.names_on_map()) if name != card_name(one))
    one.page.locator("#adapters-table").get_by_text(name, exact=True).first.click()
    one.page.wait_for_function(
        "name => document.querySelector('#adapter-card .lx-card-name').innerText === name", arg=name
    )
    assert one.complaints == []


def test_an_empty_prompt_is_told_in_words(reader: Open) -> None:
    one = reader()
    one.type_prompt("   ")
    one.page.click("#route-button")
    assert "Prompt: is empty" in one.wait_status("is empty")
    one.type_prompt("word " * 1500)
    one.page.click("#route-button")
    assert "too long" in one.wait_status("too long")


def test_an_export_is_downloaded_and_opens_as_a_library(reader: Open, tmp_path: Path) -> None:
    one = reader()
    one.page.click("#export button")
    one.put("#export-rank input", "2")
    one.page.click("#export-make")
    one.wait_status("cluster-means.zip is ready")
    assert "adapters" in one.page.inner_text("#export-note")
    with one.page.expect_download() as caught:
        one.page.click("#export-download")
    caught.value.save_as(tmp_path / "got.zip")
    with open_library(tmp_path / "got.zip") as library:
        assert all(adapter.ranks == (2,) for adapter in library.routable)
        assert {adapter.name for adapter in library.routable} >= {"cluster_0"}
    assert one.complaints == []


def test_a_router_that_cannot_be_exported_is_told_where_one_looks(reader: Open) -> None:
    one = reader()
    one.page.click("#export button")
    one.page.click("#export-what input")
    one.page.get_by_role("option", name="Router set in Routing").click()
    one.page.click("#export-make")
    one.wait_status("Arrow: decides anew for each token")
    assert "Arrow: decides anew for each token" in one.page.inner_text("#export-note")
    assert not one.page.locator("#export-download").is_visible()
