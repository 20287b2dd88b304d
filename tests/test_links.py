"""A link gives back the view that it was copied from, says what it cannot, and believes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any, ClassVar

import pytest
from adapter_files import write_adapter

from explorer.errors import BaseModelError
from explorer.models.base import BaseModel
from explorer.routing.registry import ROUTERS
from explorer.routing.setting import setting
from explorer.ui import link_acts
from explorer.ui.controls import SETTINGS
from explorer.ui.desk import Desk
from explorer.ui.engine import Engine
from explorer.ui.holding import Holding
from explorer.ui.link_acts import asked, follow, link_of
from explorer.ui.links import Link, left_out, query_of, read_query
from explorer.ui.options import PageOptions
from explorer.ui.sessions import Session

NAMES = ("add3", "mul2", "upper")


def desk_of(library: str, first_view: Path) -> Desk:
    def missing(name: str, **_: Any) -> BaseModel:
        raise BaseModelError(name, "cannot be had")

    return Desk(PageOptions(library=library, host="127.0.0.1"), Engine(missing), first_view)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A page with a folder called `mine`, open."""
    for seed, name in enumerate(NAMES):
        write_adapter(tmp_path / "mine" / name, seed=seed)
    made = desk_of(str(tmp_path / "mine"), tmp_path / "none")
    made.shared()
    return made


def controls(**chosen: Any) -> list[Any]:
    """The values of all settings' controls, by default what they hold at first."""
    return [chosen.get(part, entry.default) for part, (_, entry) in SETTINGS.items()]


def copied(desk: Desk, session: Session, router: str, *, prompt: str = "hi", chat: bool = True, **chosen: Any) -> str:
    return str(link_of(desk, session, prompt, chat, router, *controls(**chosen))["link"])


def followed(desk: Desk, session: Session, query: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """What a page opened with `query` routes (None: nothing) and its last status line."""
    routed: list[Any] = []

    def route(_: Desk, __: Session, prompt: str, chat: bool, key: str, *values: Any) -> Iterator[Any]:
        kept = {part: value for part, value in zip(SETTINGS, values, strict=True) if part.startswith(f"router_{key}_")}
        routed.append((prompt, chat, key, kept))
        yield {}

    monkeypatch.setattr(link_acts, "route", route)
    link, refused = asked(query)
    assert refused == ""
    answers = list(follow(desk, session, link))
    told = [answer["status"] for answer in answers if "status" in answer]
    return (routed[0] if routed else None), (told[-1] if told else "")


@pytest.mark.parametrize(
    ("router", "chosen", "query"),
    [
        ("single", {"router_single_name": "mul2"}, "?lib=mine&prompt=hi&router=single&set.name=mul2"),
        (
            "weighted",
            {"router_weighted_weights": "add3 = 1, mul2=-0.5"},
            "?lib=mine&prompt=hi&router=weighted&set.weights=add3+%3D+1%2C+mul2%3D-0.5",
        ),
        (
            "arrow",
            {"router_arrow_top_k": 2, "router_arrow_temperature": 0.123456789, "router_arrow_unit_norm": True},
            "?lib=mine&prompt=hi&router=arrow&topk=2&temperature=0.123456789&set.unit_norm=true",
        ),
        ("base", {}, "?lib=mine&prompt=hi&router=base"),
    ],
)
def test_a_link_carries_every_setting_of_its_router(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, router: str, chosen: dict[str, Any], query: str
) -> None:
    session = desk.sessions.get("a")
    session.change(lambda view: replace(view, selected="upper"))
    written = copied(desk, session, router, **chosen)
    assert written == f"{query}&tab=Library&adapter=upper"
    other = desk.sessions.get("b")
    (prompt, chat, key, kept), _ = followed(desk, other, written, monkeypatch)
    assert (prompt, chat, key) == ("hi", True, router)
    assert kept == kept | chosen
    assert other.view.selected == "upper", "the adapter on the card is not the router's"


def test_a_link_says_when_the_chat_template_is_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    session = desk.sessions.get("a")
    written = copied(desk, session, "base", chat=False)
    assert "&chat=false&" in written
    (_, chat, _, _), _ = followed(desk, session, written, monkeypatch)
    assert chat is False


def test_the_short_form_names_the_single_adapter_and_the_card_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = desk.sessions.get("a")
    routed, _ = followed(desk, session, "?prompt=hi&router=single&adapter=mul2&tab=Routing&layer=3", monkeypatch)
    assert routed == ("hi", True, "single", {"router_single_name": "mul2"})
    assert (session.view.selected, session.view.layer, session.view.tab) == ("mul2", 3, "Routing")


def test_a_stored_run_is_shown_only_for_the_router_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(PageOptions(host="127.0.0.1"))
    session = desk.sessions.get("a")
    assert session.view.routed is not None
    prompt = session.view.routed.prompt
    for link, runs in (
        (Link(prompt=prompt), False),
        (Link(prompt=prompt, router="arrow", settings=(("top_k", 4), ("temperature", 1.0))), False),
        (Link(prompt=prompt, settings=(("top_k", 2),)), True),
        (Link(prompt=prompt, router="base"), True),
        (Link(prompt=prompt, chat=False), True),
    ):
        routed, _ = followed(desk, session, query_of(link), monkeypatch)
        assert (routed is not None) == runs, link


@pytest.mark.parametrize(
    ("lib", "way"),
    [
        ("sample", 'Open sample under "Open another library", then press Route.'),
        ("some/where", 'Open some/where under "Open another library", then press Route.'),
        ("other.zip", "Open that library first, then press Route."),
    ],
)
def test_a_link_of_another_library_says_so_and_routes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, lib: str, way: str
) -> None:
    session = desk.sessions.get("a")
    before = session.view
    query = query_of(Link(lib=lib, prompt="hi", router="single", settings=(("name", "their own"),), adapter="add3"))
    routed, told = followed(desk, session, query, monkeypatch)
    assert routed is None
    assert f"The link is of the library {lib}, but mine is open here. {way}" in unescape(told)
    assert session.view.selected == before.selected


def test_a_library_goes_by_what_the_page_was_started_with_too(desk: Desk, tmp_path: Path) -> None:
    session = desk.sessions.get("a")
    assert link_acts.other_library(desk, session, Link(lib="mine")) == ""
    fresh = desk_of(str(tmp_path / "mine"), tmp_path / "none")  # not open yet: its name is known all the same
    assert link_acts.other_library(fresh, Session(session.view), Link(lib="mine")) == ""
    sample = Desk(PageOptions())
    for name in ("sample", "smollm2-135m-private"):
        assert link_acts.other_library(sample, Session(session.view), Link(lib=name)) == ""


def test_a_library_of_ones_own_is_named_in_the_link(desk: Desk, tmp_path: Path) -> None:
    import explorer

    write_adapter(tmp_path / "red one" / "red")
    session = desk.sessions.get("a")
    own = Holding(explorer.open_library(tmp_path / "red one"), trusted=True)
    session.offer(own)
    session.adopt(own)
    assert copied(desk, session, "base").startswith("?lib=red+one&prompt=hi")


@pytest.mark.parametrize(
    ("router", "prompt", "chosen", "words"),
    [
        ("arrow", "x" * 9_000, {}, "This view fits into no link"),
        ("arrow", "hi", {"router_arrow_top_k": 0}, "This view fits into no link"),
        ("weighted", "hi", {"router_weighted_weights": "nonsense"}, "This view fits into no link"),
        ("no such", "hi", {}, "Router: expected arrow"),
    ],
)
def test_what_fits_into_no_link_is_told(
    desk: Desk, router: str, prompt: str, chosen: dict[str, Any], words: str
) -> None:
    said = link_of(desk, desk.sessions.get("a"), prompt, True, router, *controls(**chosen))
    assert said["link"] == ""
    assert words in said["status"]


@dataclass(frozen=True)
class Odd:
    """A router with a setting of every kind, and one of a kind that is not known yet."""

    key: ClassVar[str] = "odd"
    title: ClassVar[str] = "Odd"
    summary: ClassVar[str] = "For this test."
    needs: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    shift: int = setting("Shift", "", "integer", default=0, low=-3, high=3)
    share: float = setting("Share", "", "number", default=0.5, low=0.0, high=1.0)
    on: bool = setting("On", "", "flag", default=False)
    how: str = setting("How", "", "way", default="plain")


def test_settings_of_routers_to_come_are_carried_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROUTERS, "odd", Odd)  # type: ignore[arg-type]
    settings = (("shift", -3), ("share", 0.25), ("on", True), ("how", "a & b"))
    written = query_of(Link(router="odd", settings=settings))
    assert written == "?router=odd&set.shift=-3&set.share=0.25&set.on=true&set.how=a+%26+b"
    assert asked(written) == (Link(router="odd", settings=settings), "")
    _, said = asked("?router=odd&set.shift=4&set.share=2&set.on=1&set.how=&set.more=1&topk=3")
    assert (
        said
        == "The link's set.shift and set.share and set.on and set.more and topk could not be used and were left out."
    )


def test_addresses_come_back_as_they_were_written() -> None:
    settings = (("top_k", 3), ("temperature", 0.5))
    link = Link(lib="sample", prompt="a & b = c?", router="arrow", settings=settings, tab="Routing", layer=12)
    written = query_of(link)
    assert written == "?lib=sample&prompt=a+%26+b+%3D+c%3F&router=arrow&topk=3&temperature=0.5&tab=Routing&layer=12"
    assert asked(written) == (link, "")


@pytest.mark.parametrize(
    "query",
    [
        {"lib": "/etc"},
        {"lib": "../x"},
        {"topk": "0"},
        {"topk": "9" * 400},
        {"topk": "¹"},
        {"temperature": "nan"},
        {"temperature": "inf"},
        {"tab": "<script>"},
        {"router": "__class__"},
        {"layer": "-1"},
        {"prompt": "x" * 9_000},
        {"prompt": "\ud800"},
        {"chat": "maybe"},
        {"adapter": "x" * 201},
        {"set.name": "add3"},
        {"set.top_k": "0"},
        {"set.temperature": "1e9"},
        {"set.unit_norm": "yes"},
        {"set.__class__": "1"},
    ],
)
def test_hostile_addresses_are_left_out_with_a_sentence(query: dict[str, str]) -> None:
    link, refused = read_query(query)
    assert link == Link()
    assert left_out(refused) == f"The link's {next(iter(query))} could not be used and was left out."
