"""Sessions of the page: each has its own library, what is not used is given back, and bad input is one sentence."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_files import write_adapter, zip_folder
from ui_samples import make_record, make_trace

from explorer.adapters.sources import open_folder, open_zip
from explorer.errors import BaseModelError, ExplorerError, LibraryError, PromptError, SettingsError
from explorer.models.base import BaseModel
from explorer.ui import intake, library_acts, page_acts, pictures, routing_acts
from explorer.ui.choices import choice_of, parsed_weights, prompt_text, router_of, token_range
from explorer.ui.controls import SETTINGS, read_choice
from explorer.ui.desk import Desk
from explorer.ui.engine import Engine, ModelState
from explorer.ui.holding import Holding
from explorer.ui.narrate import Stopped, narrated
from explorer.ui.options import PageOptions
from explorer.ui.sessions import Session, Sessions
from explorer.ui.state import Routed, RouterChoice, View, view_of, with_trace
from explorer.ui.streams import departure, joined

NAMES = ("one", "two", "three", "four")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def folder_of(path: Path, names: tuple[str, ...] = NAMES) -> Path:
    for seed, name in enumerate(names):
        write_adapter(path / name, seed=seed)
    return path


def holding(path: Path, names: tuple[str, ...] = NAMES) -> Holding:
    return Holding(open_folder(folder_of(path, names), source="test"), trusted=False)


def sessions(clock: Clock, most_bytes: int = 1 << 40) -> Sessions:
    return Sessions(View, most_bytes=most_bytes, idle_seconds=100.0, clock=clock)


def last(answers: Iterator[dict[str, Any]]) -> dict[str, Any]:
    return list(answers)[-1]


def test_sessions_have_their_own_library_and_closing_one_leaves_the_other(tmp_path: Path) -> None:
    store = sessions(Clock())
    mine, yours = holding(tmp_path / "a"), holding(tmp_path / "b")
    for key, library in (("a", mine), ("b", yours)):
        store.get(key).offer(library)
        store.get(key).adopt(library)
    assert store.get("a").own is mine
    assert store.get("b").own is yours
    store.close("a")
    assert store.get("b").own is yours
    assert store.get("a").own is None


def test_closing_a_session_removes_what_was_unpacked(tmp_path: Path) -> None:
    library = open_zip(zip_folder(folder_of(tmp_path / "src"), tmp_path / "mine.zip"))
    unpacked = library.adapters[0].path
    assert unpacked is not None
    store = sessions(Clock())
    store.get("a").offer(Holding(library, trusted=False))
    assert unpacked.exists()
    store.close("a")
    assert not unpacked.exists()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders are made in here, so that a test can see whether they go away."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def uploaded(tmp_path: Path) -> str:
    """A zip where gradio would have put it."""
    folder = tmp_path / "gradio" / "upload"
    folder.mkdir(parents=True)
    return str(zip_folder(folder_of(tmp_path / "mine"), folder / "mine.zip"))


def wait_until_empty(folder: Path) -> None:
    end = time.monotonic() + 20
    while list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert list(folder.iterdir()) == []


def reading(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Reading a zip tells when it has begun, and goes on only when it is let."""
    begun, let = threading.Event(), threading.Event()

    def slow(*arguments: Any, **named: Any) -> Any:
        library = open_zip(*arguments, **named)
        begun.set()
        assert let.wait(20)
        return library

    monkeypatch.setattr(intake, "open_zip", slow)
    return begun, let


def test_a_page_closed_while_its_zip_is_read_leaves_nothing(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let = reading(monkeypatch)
    desk = desk_with(tmp_path)
    answers = intake.read_zip(desk, desk.sessions.get("a"), uploaded(tmp_path))
    next(answers)
    next(answers)
    assert begun.wait(20)
    assert len(list(temporary.iterdir())) == 1
    answers.close()  # type: ignore[attr-defined]
    desk.sessions.close("a")
    let.set()
    wait_until_empty(temporary)


def test_a_session_closed_while_its_zip_is_read_leaves_nothing(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let = reading(monkeypatch)
    desk = desk_with(tmp_path)
    answers = intake.read_zip(desk, desk.sessions.get("a"), uploaded(tmp_path))
    next(answers)
    next(answers)
    assert begun.wait(20)
    desk.sessions.close("a")
    let.set()
    list(answers)
    assert list(temporary.iterdir()) == []


def test_a_closed_session_takes_no_library(tmp_path: Path, temporary: Path) -> None:
    session = Session(View())
    library = open_zip(zip_folder(folder_of(tmp_path / "src"), tmp_path / "mine.zip"))
    session.close()
    mine = Holding(library, trusted=False)
    session.offer(mine)
    assert list(temporary.iterdir()) == []
    assert session.adopt(mine) is None
    assert (session.candidate, session.own) == (None, None)


def test_only_the_library_that_was_analysed_is_opened(tmp_path: Path) -> None:
    desk = desk_with(tmp_path)
    desk.shared()
    session = desk.sessions.get("a")
    before = session.view
    first, second = holding(tmp_path / "a"), holding(tmp_path / "b", ("red", "green"))
    session.offer(first)
    answers = intake.open_candidate(desk, session)
    recorded = first.record

    def replaced() -> Any:
        session.offer(second)  # another zip arrives while the first is analysed
        return recorded()

    first.record = replaced  # type: ignore[method-assign]
    with pytest.raises(LibraryError, match=r"^The library: was replaced meanwhile. Look at the report again.$"):
        list(answers)
    assert session.own is None
    assert session.candidate is second
    assert session.view is before


def test_a_closed_session_keeps_no_adapter_in_memory(tmp_path: Path) -> None:
    store = sessions(Clock())
    mine = holding(tmp_path)
    store.get("a").offer(mine)
    assert store.get("a").adopt(mine) is mine
    store.get("a").change(lambda _: view_of(mine.record()))
    adapters = [weakref.ref(adapter) for adapter in mine.library]
    assert all(adapter() is not None for adapter in adapters)
    del mine
    store.close("a")
    gc.collect()
    assert [adapter() for adapter in adapters] == [None] * len(adapters)


def test_an_idle_session_is_closed_and_told_once(tmp_path: Path) -> None:
    clock = Clock()
    store = sessions(clock)
    store.get("a").offer(holding(tmp_path))
    clock.now = 50.0
    store.get("b")
    clock.now = 120.0
    with pytest.raises(LibraryError, match=r"has expired.*Reload the page"):
        store.get("a")
    assert store.get("a").candidate is None
    assert len(store) == 2


def test_the_session_used_longest_ago_makes_room(tmp_path: Path) -> None:
    clock = Clock()
    first, second = holding(tmp_path / "a"), holding(tmp_path / "b")
    store = sessions(clock, most_bytes=first.nbytes + second.nbytes - 1)
    store.get("a").offer(first)
    clock.now = 1.0
    session = store.get("b")
    session.offer(second)
    store.make_room(session)
    assert session.candidate is second
    with pytest.raises(LibraryError, match="expired"):
        store.get("a")


def test_a_library_too_large_for_the_page_is_refused(tmp_path: Path) -> None:
    store = sessions(Clock(), most_bytes=10)
    session = store.get("a")
    session.offer(holding(tmp_path))
    with pytest.raises(LibraryError, match="needs more than"):
        store.make_room(session)
    assert session.candidate is None


def test_a_new_run_stops_the_one_before() -> None:
    session = Session(View())
    one = session.begin()
    two = session.begin()
    assert one.stop.is_set()
    assert not two.stop.is_set()
    assert session.stop() is two
    assert two.stop.is_set()


def desk_with(tmp_path: Path, load: Any = None) -> Desk:
    def missing(name: str, **_: Any) -> BaseModel:
        raise BaseModelError(name, "cannot be had", fix="Name another.")

    source = folder_of(tmp_path / "shared")
    return Desk(PageOptions(library=str(source), host="127.0.0.1"), Engine(load or missing), tmp_path / "none")


def test_the_old_library_stays_until_the_new_one_is_opened(tmp_path: Path) -> None:
    desk = desk_with(tmp_path)
    desk.shared()
    session = desk.sessions.get("a")
    assert session.view.record is not None
    before = session.view.record.names
    upload = tmp_path / "gradio" / "mine.zip"
    upload.parent.mkdir()
    zip_folder(folder_of(tmp_path / "mine", ("red", "green", "blue")), upload)
    said = last(intake.read_zip(desk, session, str(upload)))
    assert "red" in said["report"]
    assert session.view.record.names == before
    assert not upload.exists(), "an upload is removed once it was read"
    last(intake.open_candidate(desk, session))
    assert session.view.record is not None
    assert set(session.view.record.names) == {"red", "green", "blue"}
    assert set(desk.sessions.get("b").view.record.names) == set(NAMES)  # type: ignore[union-attr]


def test_keeping_the_current_library_lets_the_other_go(tmp_path: Path) -> None:
    desk = desk_with(tmp_path)
    desk.shared()
    session = desk.sessions.get("a")
    last(intake.read_source(desk, session, str(folder_of(tmp_path / "mine", ("red", "green")))))
    assert session.candidate is not None
    intake.keep_current(desk, session)
    assert session.candidate is None
    with pytest.raises(LibraryError, match="waiting to be opened"):
        list(intake.open_candidate(desk, session))


def test_folders_cannot_be_named_where_others_reach_the_page(tmp_path: Path) -> None:
    assert not PageOptions(host="0.0.0.0").allow_local
    assert not PageOptions(host="127.0.0.1", share=True).allow_local
    assert not PageOptions().allow_local
    desk = Desk(PageOptions(library=str(folder_of(tmp_path / "shared"))), Engine(), tmp_path / "none")
    with pytest.raises(LibraryError, match="is not a library that can be found"):
        desk.read(str(tmp_path / "shared"))


def test_routing_without_a_base_model_says_what_is_missing(tmp_path: Path) -> None:
    desk = desk_with(tmp_path)
    desk.shared()
    settings = [entry.default for _, entry in SETTINGS.values()]
    with pytest.raises(BaseModelError, match=r"tiny/model: is not available for routing.*cannot be had"):
        list(routing_acts.route(desk, desk.sessions.get("a"), "hello", True, "arrow", *settings))


def test_an_engine_keeps_few_models_and_says_what_it_does() -> None:
    asked: list[str] = []

    def load(name: str, **_: Any) -> Any:
        asked.append(name)
        if name == "bad":
            raise RuntimeError("secret details")

        class Model:
            device = type("D", (), {"type": "cpu"})()

        return Model()

    engine = Engine(load, most=2)
    assert engine.state("a", trusted=True) == ModelState("none")
    for name in ("a", "b", "a", "c", "a"):
        engine.model(name, trusted=True)
    assert asked == ["a", "b", "c"]
    assert engine.state("b", trusted=True).kind == "none"
    with pytest.raises(BaseModelError) as raised:
        engine.model("bad", trusted=False)
    assert "secret" not in raised.value.sentence
    with pytest.raises(BaseModelError, match="names no base model"):
        engine.model("", trusted=True)


def test_a_base_models_name_may_be_longer_than_a_file_name() -> None:
    def load(name: str, **_: Any) -> Any:
        raise BaseModelError(name[:5], "cannot be had")

    engine = Engine(load)
    assert engine.state("x" * 300, trusted=True) == ModelState("none")
    with pytest.raises(BaseModelError, match="xxxxx: cannot be had"):
        engine.model("x" * 300, trusted=True)


def test_narrated_work_tells_its_lines_and_gives_its_result() -> None:
    gate = threading.Event()

    def work(say: Any) -> int:
        say("step 1 of 2")
        gate.wait(5)
        return 7

    told = narrated("first", work)
    assert "step 1 of 2" in next(told)["status"]
    gate.set()
    with pytest.raises(StopIteration) as done:
        while True:
            next(told)
    assert done.value.value == 7


def test_narrated_work_can_be_left() -> None:
    stop, gate = threading.Event(), threading.Event()
    told = narrated("first", lambda _: gate.wait(5), stop)
    next(told)
    stop.set()
    with pytest.raises(Stopped):
        next(told)
    gate.set()


@pytest.mark.parametrize("value", [None, 3, "", "  ", "x" * 8_001, ["a"], {"a": 1}, "\udfff"])
def test_prompts_that_are_none(value: Any) -> None:
    with pytest.raises(PromptError):
        prompt_text(value)


def test_router_settings_are_read_from_the_controls() -> None:
    values = [{"top_k": 2.0, "temperature": 0.5}.get(entry.name, entry.default) for _, entry in SETTINGS.values()]
    choice = read_choice("arrow", values)
    assert router_of(choice, NAMES).label == "Arrow, top 2, T 0.5"
    for key, bad in (("nope", {}), (None, {}), ("arrow", {"top_k": "2"}), ("arrow", {"top_k": True})):
        with pytest.raises(SettingsError):
            router_of(choice_of(key, bad), NAMES)
    with pytest.raises(SettingsError):
        router_of(choice_of("single", {"name": "no such"}), NAMES)


def test_weights_and_ranges_are_parsed() -> None:
    assert parsed_weights("one = 0.5, two=-1e-1") == {"one": 0.5, "two": -0.1}
    assert [token_range(value, 10) for value in ("", None, "3", "2-5", "4-")] == [
        (None, None),
        (None, None),
        (3, 3),
        (2, 5),
        (4, 9),
    ]
    names = {"a=b": 1.0, "x, y; z": 2.0, 'say "hi"': 3.0, "plain": 4.0}
    assert parsed_weights('a=b = 1; "x, y; z" = 2\nsay "hi" = 3, "plain"=4,') == names
    for bad in ("one", "one=x", "one=1,,=2", 5, "one=nan", "one=inf", "=1", "one=1, one=2", "a=1" * 50_000):
        with pytest.raises(SettingsError):
            parsed_weights(bad)
    for bad in ("10", "5-3", "-1", "a", 4, "1-99"):
        with pytest.raises(SettingsError):
            token_range(bad, 10)


@pytest.mark.parametrize("text", [" " * 90_000 + "a", "a" + " " * 90_000, "a=" * 45_000, "=" * 90_000, '"' * 90_001])
def test_weights_are_parsed_in_no_time_whatever_the_text(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(SettingsError, match=r"^Weights: expected (adapter = number, adapter = number|at most)"):
        parsed_weights(text[:99_999])
    assert time.monotonic() - began < 2


def test_columns_depart_at_the_first_token_that_differs() -> None:
    assert departure([1, 2, 3], [1, 2, 3], ended=True) is None
    assert departure([1, 2, 3], [1, 9, 3], ended=False) == 1
    assert departure([1, 2], [1, 2, 3], ended=False) is None
    assert departure([1, 2], [1, 2, 3], ended=True) == 2


def test_joined_traces_equal_extended_ones() -> None:
    trace = make_trace(make_record(), layers=2)
    both, expected = joined([trace, trace]), trace.extended(trace)
    assert both.tokens == expected.tokens
    assert (both.weights == expected.weights).all()


def test_every_part_of_a_view_is_drawn_and_hostile_names_are_escaped() -> None:
    record = make_record(("<img src=x onerror=alert(1)>", "b", "c", "d"), clusters=2)
    trace = make_trace(record, layers=3)
    view = with_trace(view_of(record), Routed("<b>hi</b>", True, RouterChoice(), trace))
    drawn = pictures.everything(view)
    assert set(drawn) == set(pictures.EVERY_PART)
    html = " ".join(value for value in drawn.values() if isinstance(value, str))
    assert "<img src=x" not in html
    assert pictures.everything(View()).keys() <= drawn.keys()


def test_picks_of_unknown_things_change_nothing(tmp_path: Path) -> None:
    desk = desk_with(tmp_path)
    desk.shared()
    session = desk.sessions.get("a")
    for data in (
        None,
        5,
        {"name": "nobody"},
        {"name": ["one"]},
        {"row_value": [{}]},
        {"index": -1},
        {"value": "Admin"},
    ):
        event = type("Picked", (), {"_data": data})()
        assert library_acts.pick_adapter(desk, session, event) == {}
        assert library_acts.pick_row(desk, session, event) == {}
        assert routing_acts.pick_token(desk, session, event) == {}
        assert routing_acts.pick_cell(desk, session, event) == {}
        assert page_acts.pick_tab(desk, session, event) == {}


def test_clusters_are_made_anew_and_bad_numbers_refused(tmp_path: Path) -> None:
    desk = desk_with(tmp_path)
    desk.shared()
    session = desk.sessions.get("a")
    said = last(library_acts.measure_anew(desk, session, "parameters", 0.5, 3))
    assert "3 clusters by parameters" in said["status"]
    assert session.view.record is not None
    assert session.view.record.clustering.n_clusters == 3
    for bad in (("cosine", 0.5, 3), ("update", 2, 3), ("update", 0.5, 0), ("update", 0.5, "3"), (None, None, None)):
        with pytest.raises(ExplorerError):
            list(library_acts.measure_anew(desk, session, *bad))


def test_the_page_goes_on_asking_until_an_opened_library_is_drawn(tmp_path: Path) -> None:
    """The library may be opened between two questions of one tick, and its base model may be known to be missing."""
    write_adapter(tmp_path / "one", base_model="")
    desk = Desk(PageOptions(library=str(tmp_path)))
    session = Session(View())
    desk.shared()
    assert desk.model_state(session).kind == "failed", "these adapters name no base model"
    assert page_acts.model_parts(desk, session)["timer"]["active"] is True
    page_acts.tick(desk, session)
    assert session.view.record is not None
    assert page_acts.model_parts(desk, session)["timer"]["active"] is False


def test_a_library_too_large_to_be_routed_can_still_be_looked_at(tmp_path: Path) -> None:
    for seed in range(10):
        write_adapter(tmp_path / "mine" / f"a{seed}", {"layers.0.q": (256, 512, 512)}, seed=seed)
    options = PageOptions(library=str(folder_of(tmp_path / "shared")), store_bytes=9 << 20)
    desk = Desk(options, Engine(), tmp_path / "none")
    session = desk.sessions.get("a")
    offered = Holding(open_folder(tmp_path / "mine"), trusted=False)
    session.offer(offered)
    desk.sessions.make_room(session)
    mine = session.adopt(offered)
    assert mine is offered
    assert len(mine.record().names) == 10
    with pytest.raises(LibraryError) as caught:
        desk.routed(session)
    assert caught.value.sentence == (
        "The library: needs 10 MB to be routed, more than the 9 MB that a page may use. "
        "Its map and clusters can be looked at; to route, open a part of it."
    )
