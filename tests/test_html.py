"""Cards, strip, table and the data of page events: what they say, and that hostile text stays text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import gradio as gr
import numpy as np
import pytest
from ui_samples import make_record, make_trace

from explorer.adapters.adapter import Status, Verdict
from explorer.ui import answers, bridge, cards, theme
from explorer.ui.html import figure_text, short_name, shortened, size_text, text, visible
from explorer.ui.naming import in_cluster_order, members
from explorer.ui.strip import strip_html
from explorer.ui.tables import COLUMNS, adapters_table

EVIL = "\"><img src=x onerror=alert(1)><script>alert(2)</script>'`${alert(3)}{{value}}"


class Reader(HTMLParser):
    """Collects elements and text, and checks that elements are closed in order."""

    void = frozenset({"br", "img", "circle", "rect", "path"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def with_attribute(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if name in attributes]


def assert_harmless(source: str) -> Reader:
    reader = Reader(source)
    assert not {tag for tag, _ in reader.elements} & {"img", "script", "iframe", "a"}
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    return reader


# --- small helpers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "the"),
        ("\n", "↵"),
        (" \n\n", " ↵↵"),
        ("  ", "␣␣"),
        ("", "∅"),
        ("\t", "⇥"),
        ("   x", "␣␣␣x"),
        ("x ", "x␣"),
    ],
)
def test_invisible_tokens_are_shown(token: str, shown: str) -> None:
    assert visible(token).strip() == shown.strip()


def test_texts_for_html_and_figures() -> None:
    assert text("<a href='x'>&") == "&lt;a href=&#x27;x&#x27;&gt;&amp;"
    assert figure_text("<b>a</b>\n$x$") == "&lt;b&gt;a&lt;/b&gt; &#36;x&#36;"
    assert (shortened("abcdef", 4), shortened("abcd", 4)) == ("abc…", "abcd")
    assert (short_name("sentiment-task-17", 12), short_name("a", 12)) == ("sentim…sk-17", "a")
    assert [size_text(count) for count in (12, 1500, 2_000_000, 3_100_000_000)] == [
        "12 B",
        "1.5 kB",
        "2.0 MB",
        "3.1 GB",
    ]


# --- the strip --------------------------------------------------------------------------------------------------


def test_strip_is_a_listbox_with_one_selected_and_one_focusable_option() -> None:
    record = make_record()
    trace = make_trace(record, layers=2, generated=3)
    reader = assert_harmless(strip_html(trace, record, 5))
    options = reader.with_attribute("data-token")
    assert [option["data-token"] for option in options] == [str(i) for i in [*range(3, 13), 14, 15, 16]]
    assert [option["data-token"] for option in options if option["aria-selected"] == "true"] == ["5"]
    assert [option["data-token"] for option in options if option["tabindex"] == "0"] == ["5"]
    assert {option["role"] for option in options} == {"option"}
    assert "4 tokens of the chat template hidden" in reader.words


def test_strip_names_the_adapter_that_weighs_most() -> None:
    record = make_record()
    trace = make_trace(record, layers=2)
    options = Reader(strip_html(trace, record, layer=1, module="v_proj")).with_attribute("data-token")
    best = trace.names[int(np.argmax(trace.weights[trace.sites.index("model.layers.1.self_attn.v_proj"), 4]))]
    described = next(option["aria-label"] for option in options if option["data-token"] == "4")
    assert described is not None and described.startswith(f"this, typed, {best}, mean weight ")


def test_template_tokens_can_be_shown_and_are_when_there_is_nothing_else() -> None:
    record = make_record()
    trace = make_trace(record, layers=1)
    assert len(Reader(strip_html(trace, record, show_template=True)).with_attribute("data-token")) == 14
    trace = replace(trace, typed=(False,) * 14)
    assert len(Reader(strip_html(trace, record)).with_attribute("data-token")) == 14


def test_the_structure_of_a_token_does_not_depend_on_its_state() -> None:
    """The page updates the strip in place; focus is kept only if elements stay what they are."""
    record = make_record()
    trace = make_trace(record, layers=1)
    first, second = (Reader(strip_html(trace, record, index)) for index in (3, 9))
    assert [tag for tag, _ in first.elements] == [tag for tag, _ in second.elements]


# --- hostile text -----------------------------------------------------------------------------------------------


def test_hostile_text_stays_text_everywhere() -> None:
    names = (EVIL, EVIL + "2", "c", "d")
    record = make_record(names, clusters=2)
    evil = replace(
        record.adapters[0],
        task=EVIL,
        family=EVIL,
        description=EVIL,
        examples=(EVIL,),
        reason=EVIL,
        base_model=EVIL,
        targets=(EVIL,),
        content_hash=EVIL,
        warnings=(EVIL,),
    )
    record = replace(
        record,
        adapters=(evil, *record.adapters[1:]),
        title=EVIL,
        description=EVIL,
        license_name=EVIL,
        source=EVIL,
        base_model=EVIL,
        remarks=(EVIL,),
    )
    trace = replace(make_trace(record, layers=1), tokens=(EVIL,) * 14)
    for source in (
        cards.adapter_card_html(evil, record),
        cards.library_card_html(record),
        cards.legend_html(record),
        cards.empty_html(EVIL),
        strip_html(trace, record, 4, show_template=True),
        answers.status_html("error", EVIL),
        answers.report_html((Verdict(EVIL, Status.REFUSED, EVIL, (EVIL,)),), EVIL, EVIL, (EVIL,)),
        answers.compare_column_html(EVIL, EVIL, "done"),
        answers.compare_column_html("a", "", "failed", problem=EVIL),
    ):
        assert EVIL[:20] in assert_harmless(source).words


# --- cards, report, columns -------------------------------------------------------------------------------------


def test_card_lists_facts_and_the_nearest_five_as_buttons() -> None:
    record = make_record(map_only=("topic-task-01",))
    reader = Reader(cards.adapter_card_html(record.summary("topic-task-01"), record))
    buttons = [attributes["data-adapter"] for attributes in reader.with_attribute("data-adapter")]
    assert buttons == [near.name for near in record.summary("topic-task-01").neighbours]
    for words in (
        "460,800",
        "1.8 MB",
        "q_proj, v_proj",
        "map only",
        "Uses DoRA",
        f"{record.adapters[1].neighbours[0].score:.3f}",
    ):
        assert words in reader.words


def test_note_under_the_map_says_what_distances_mean() -> None:
    assert "no evidence" in cards.map_note_html(make_record())


def test_report_counts_and_puts_the_refused_first() -> None:
    verdicts = (Verdict("a", Status.ACCEPTED), Verdict("b", Status.REFUSED, "Is a pickle."))
    words = Reader(answers.report_html(verdicts, "Mine", "mine.zip")).words
    assert "1 accepted, 1 refused" in words
    assert words.index("Is a pickle.") < words.index("accepted", words.index("reason"))


def test_remarks_stand_in_the_report_and_on_the_librarys_card() -> None:
    said = "library.json cannot be read and was left out."
    assert said in Reader(answers.report_html((), "Mine", "mine.zip", (said,))).words
    assert said in Reader(cards.library_card_html(replace(make_record(), remarks=(said,)))).words


def test_column_says_speed_and_departure() -> None:
    words = Reader(
        answers.compare_column_html(
            "Arrow", "a\nb", "running", tokens=12, seconds=2.0, log_likelihood=-3.5, departs_at=0
        )
    ).words
    assert "a\nb" in words
    assert "12 tokens · 6.0 tokens/s · reference -3.50 nats · departs from the first column at token 1" in words


def test_errors_are_announced() -> None:
    assert 'role="alert"' in answers.status_html("error", "x")
    assert 'role="status"' in answers.status_html("busy", "x")


def test_table_has_every_adapter_in_cluster_order() -> None:
    record = make_record()
    table = adapters_table(record)
    assert tuple(table.columns) == COLUMNS
    assert tuple(table["name"]) == in_cluster_order(record, record.names)


# --- events from the page ---------------------------------------------------------------------------------------


def event(data: Any) -> gr.EventData:
    return gr.EventData(None, data)


def test_picked_names_and_tokens_are_checked() -> None:
    allowed = ("a", "b", "c")
    assert bridge.picked_name(event({"name": "a"}), allowed) == "a"
    assert bridge.picked_names(event({"names": ["a", "x", 3, "b"]}), allowed) == {"a", "b"}
    assert bridge.picked_names(event({"cluster": 1}), allowed, {1: ("b", "c")}) == {"b", "c"}
    assert bridge.picked_token(event({"index": 2}), 3) == 2
    assert bridge.picked_cell(event({"layer": 4, "name": "b"}), range(5), allowed) == (4, "b")
    assert bridge.picked_cell(event({"layer": None, "name": "b"}), range(5), allowed) == (None, "b")


@pytest.mark.parametrize(
    "data", [None, 3, "a", [], {}, {"name": "x"}, {"name": ["a"]}, {"name": {"a": 1}}, {"name": None}]
)
def test_a_name_that_is_not_known_is_none(data: Any) -> None:
    assert bridge.picked_name(event(data), ("a",)) is None
    assert bridge.picked_cell(event(data), range(3), ("a",)) is None


@pytest.mark.parametrize("names", [[], "ab", {"a": 1}, [["a"]], [None], 5, ["x"]])
def test_nothing_known_in_the_box_means_show_all(names: Any) -> None:
    assert bridge.picked_names(event({"names": names}), ("a", "b")) is None


@pytest.mark.parametrize("cluster", [9, -1, True, "1", None, 1.0, [1]])
def test_an_unknown_cluster_means_show_all(cluster: Any) -> None:
    assert bridge.picked_names(event({"cluster": cluster}), ("a",), {1: ("a",)}) is None


@pytest.mark.parametrize("index", [-1, 3, True, 1.0, "1", None, [1]])
def test_an_index_out_of_range_or_of_another_kind_is_none(index: Any) -> None:
    assert bridge.picked_token(event({"index": index}), 3) is None


def test_a_cell_needs_a_known_layer() -> None:
    for layer in (7, -1, True, "1", 1.5):
        assert bridge.picked_cell(event({"layer": layer, "name": "a"}), range(3), ("a",)) is None


def test_the_bridge_has_its_four_events_and_is_in_the_page_unseen() -> None:
    block = bridge.page_bridge()
    assert all(callable(getattr(block, name)) for name in ("pick", "lasso", "token", "cell"))
    assert block.visible == "hidden"
    with pytest.raises(AttributeError):
        _ = block.other


# --- theme ------------------------------------------------------------------------------------------------------


def test_theme_asks_no_other_host_for_fonts() -> None:
    look = theme.theme()
    assert look._stylesheets == []
    assert "http" not in theme.css().replace("http://www.w3.org", "")


def test_script_and_style_are_loaded() -> None:
    style, _, script = theme.head().partition("<script>")
    assert style.startswith("<style>") and style.count("</style>") == 1
    assert "explorerPage" in script
    assert script.endswith("</script>") and script.count("</script>") == 1
    assert ".lx-token" in theme.css()


def test_members_are_in_order() -> None:
    record = make_record()
    assert [label for label in members(record)] == list(range(6))
