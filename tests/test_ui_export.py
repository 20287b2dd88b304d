"""The page's Export section: the zip that is asked for, its bounds, and that nothing of it outlives the session."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adapter_files import write_adapter

from explorer.adapters.sources import open_folder, open_library
from explorer.errors import LibraryError, SettingsError
from explorer.exporting import merged
from explorer.ui import export_acts
from explorer.ui.controls import SETTINGS
from explorer.ui.desk import Desk
from explorer.ui.downloads import Download
from explorer.ui.export_acts import ROLE, make_zip
from explorer.ui.export_section import ARROW, CLUSTERS, ROUTER
from explorer.ui.holding import Holding
from explorer.ui.options import LIMITS, PageOptions
from explorer.ui.sessions import Session
from explorer.ui.state import View, view_of

NAMES = ("one", "two", "three", "four")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where gradio serves files from."""
    folder = tmp_path / "served"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def session(place: Path, tmp_path: Path) -> Iterator[Session]:
    for seed, name in enumerate(NAMES):
        write_adapter(tmp_path / "library" / name, seed=seed)
    holding = Holding(open_folder(tmp_path / "library", source="my <b>library</b>"), trusted=False)
    opened = Session(view_of(holding.record()))
    opened.own = holding
    yield opened
    opened.close()


def choice(key: str, **settings: Any) -> list[Any]:
    """The values of the router's controls."""
    blank = {entry.name: "" if entry.kind == "weights" else entry.default for _, entry in SETTINGS.values()}
    return [key, *({**blank, **settings}[entry.name] for _, entry in SETTINGS.values())]


def run(session: Session, what: str, rank: Any = 0, router: str = "arrow", **settings: Any) -> list[dict[str, Any]]:
    return list(make_zip(Desk(PageOptions()), session, what, rank, *choice(router, **settings)))


def made(session: Session) -> Path:
    assert session.download is not None
    return session.download.path


def test_clusters_means_come_as_a_library(session: Session, place: Path) -> None:
    answers = run(session, CLUSTERS, 1)
    record = session.view.record
    assert record is not None
    with open_library(made(session)) as library:
        assert library.names == tuple(record.clustering.members())
        assert all(adapter.ranks == (1,) for adapter in library)
    last = answers[-1]
    assert last["export_file"]["visible"] is True
    assert last["export_file"]["value"] == str(made(session))
    assert made(session).name == "my_b_library_b-cluster-means.zip"
    assert "is ready" in last["status"]
    assert last["export_note"] == ROLE.sub("", last["status"]) != last["status"]
    assert made(session).is_relative_to(place)


@pytest.mark.parametrize(
    ("router", "settings"),
    [("uniform", {}), ("single", {"name": "two"}), ("weighted", {"weights": "one = 2"}), ("ties", {}), ("linear", {})],
)
def test_the_router_of_the_routing_tab(router: str, settings: dict[str, Any], session: Session) -> None:
    run(session, ROUTER, 2, router, **settings)
    with open_library(made(session)) as library:
        (one,) = library.routable
        assert one.ranks == (2,)
    assert made(session).name.endswith(f"-{router}.zip")


def test_the_folder_for_pefts_arrow_takes_arrows_settings(session: Session, tmp_path: Path) -> None:
    run(session, ARROW, 0, "arrow", top_k=2.0, temperature=0.5)
    with zipfile.ZipFile(made(session)) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
        settings = archive.read(f"{made(session).stem}/arrow.json").decode()
    assert {"run_arrow.py", "arrow.json", "README.md", "adapters/one/adapter_model.safetensors"} <= names
    assert '"top_k": 2' in settings
    assert '"temperature": 0.5' in settings


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("everything", 0), "Export: expected one of clusters, router, arrow"),
        ((ROUTER, 0, "arrow"), "Arrow: decides anew for each token"),
        ((ROUTER, 0, "base"), "there is nothing to export"),
        ((ROUTER, 0, "weighted"), "Weights: expected"),
        ((CLUSTERS, -1), "Rank: expected a whole number from 0 to 4096"),
        ((CLUSTERS, None), "Rank: expected a whole number from 0 to 4096"),
        ((CLUSTERS, "<b>"), "Rank: expected"),
    ],
)
def test_bad_input_is_one_sentence_beside_the_controls_too(words: Any, problem: str, session: Session) -> None:
    answers = make_zip(Desk(PageOptions()), session, words[0], words[1], *choice(*(words[2:] or ("arrow",))))
    note = next(answers)["export_note"]
    assert problem in note.replace("&#x27;", "'")
    assert 'role="' not in note
    assert "<b>" not in note
    with pytest.raises((SettingsError, LibraryError), match=problem.split(":")[0]):
        next(answers)
    assert session.download is None


def test_no_library_is_open_yet(place: Path) -> None:
    with pytest.raises(LibraryError, match="is not open yet"):
        run(Session(View()), CLUSTERS)


def test_an_export_too_large_for_a_page_is_refused_before_the_work(
    session: Session, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr(export_acts, "LIMITS", replace(LIMITS, export_bytes=100))
    with pytest.raises(SettingsError, match=r"The export: expected at most 100 B, found up to .*Choose a smaller rank"):
        run(session, CLUSTERS)
    assert not place.exists()


def test_a_second_zip_takes_the_place_of_the_first_and_both_go_with_the_session(session: Session, place: Path) -> None:
    run(session, CLUSTERS)
    first = made(session)
    run(session, ROUTER, 0, "uniform")
    second = made(session)
    assert (first.parent.exists(), second.exists()) == (False, True)
    assert [path.name for path in second.parent.iterdir()] == [second.name]
    session.close()
    assert not list(place.iterdir())


def test_stop_leaves_nothing_behind(session: Session, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waits(*values: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return cut(*values)

    cut = merged.cut
    monkeypatch.setattr(merged, "cut", waits)
    answers = make_zip(Desk(PageOptions()), session, CLUSTERS, 0, *choice("arrow"))
    shown = [next(answers), next(answers)]
    assert begun.wait(20)
    session.stop()
    shown += list(answers)
    assert "Stopped." in shown[-1]["status"]
    assert session.download is None
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "narrated work":
            thread.join(20)
    assert not list(place.iterdir())


def test_a_closed_page_leaves_nothing_behind(session: Session, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    cut = merged.cut
    monkeypatch.setattr(merged, "cut", lambda *values: cut(*values) if go_on.wait(20) else None)
    answers = make_zip(Desk(PageOptions()), session, CLUSTERS, 0, *choice("arrow"))
    next(answers), next(answers)
    answers.close()  # type: ignore[attr-defined]
    session.close()
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "narrated work":
            thread.join(20)
    assert not list(place.iterdir())


def test_a_download_that_cannot_be_made_leaves_nothing(place: Path) -> None:
    def fails(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Download("mine", fails)
    assert not list(place.iterdir())
