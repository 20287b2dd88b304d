"""What happens in the Export section: a zip is made, handed out, and goes away with the session."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from explorer.adapters.library import Library
from explorer.errors import ExplorerError, LibraryError, SettingsError
from explorer.exporting.arrow_folder import export_arrow
from explorer.exporting.exported import Exported
from explorer.exporting.merged import Progress, export_clusters, needed, write_mix
from explorer.exporting.mix import MAX_RANK, cluster_mix, mix_of
from explorer.exporting.whole_folder import folder_names
from explorer.routing.arrow import Arrow
from explorer.routing.router import Router
from explorer.ui.answers import status_html
from explorer.ui.choices import one_of, router_of, whole
from explorer.ui.controls import CHOICE, read_choice
from explorer.ui.desk import Desk
from explorer.ui.downloads import Download
from explorer.ui.export_section import ARROW, CLUSTERS, ROUTER, WAYS
from explorer.ui.html import count_text, size_text
from explorer.ui.narrate import Say, Stopped, narrated
from explorer.ui.options import LIMITS
from explorer.ui.pictures import Updates
from explorer.ui.routing_acts import STOPPED
from explorer.ui.sessions import Run, Session

SHOWN = ("export_file", "export_note")
ASKED = ("export_what", "export_rank", *CHOICE)
DTYPE = "float32"
ROLE = re.compile(r' role="(?:alert|status)"')
CUT = "Choose a smaller rank, or use the command `export`."


@dataclass(frozen=True)
class Order:
    """What a zip is to hold: a name for it, at most so many bytes, and what fills its folder and tells of it."""

    name: str
    nbytes: int
    fill: Callable[[Path, Progress], str]


def make_zip(desk: Desk, session: Session, what: Any, rank: Any, *choice: Any) -> Iterator[Updates]:
    """Make the zip that was asked for, in place of an earlier one; the status is told beside the controls, too."""
    try:
        for updates in _make_zip(desk, session, what, rank, choice):
            yield {**updates, "export_note": silent(updates["status"])} if "status" in updates else updates
    except ExplorerError as error:
        yield {"export_note": silent(status_html("error", error.sentence))}
        raise


def silent(status: str) -> str:
    """A status that is not announced: a screen reader has it from the status line."""
    return ROLE.sub("", status)


def _make_zip(desk: Desk, session: Session, what: Any, rank: Any, choice: Sequence[Any]) -> Iterator[Updates]:
    what = one_of(what, "Export", [key for _, key in WAYS])
    order = order_of(desk, session, what, whole(rank, "Rank", 0, MAX_RANK), choice)
    if order.nbytes > LIMITS.export_bytes:
        most, found = f"at most {size_text(LIMITS.export_bytes)}", f"up to {size_text(order.nbytes)}"
        raise SettingsError("The export", expected=most, found=found, fix=CUT)
    run = session.begin()
    try:
        yield {"export_file": gr.update(value=None, visible=False)}
        session.hand_out(None)
        download, words = yield from narrated(
            "Preparing the export", lambda say: _made(order, say, run), run.stop, discard=_remove
        )
        session.hand_out(download)
        label = f"Download ({size_text(download.nbytes)})"
        yield {
            "export_file": gr.update(value=str(download.path), label=label, visible=True),
            "status": status_html("ok", f"{download.path.name} is ready: {words}."),
        }
    except Stopped:
        yield {"status": status_html("ok", STOPPED)}
    finally:
        run.stop.set()  # where the page was closed meanwhile, the work ends too
        run.done.set()


def order_of(desk: Desk, session: Session, what: str, rank: int, choice: Sequence[Any]) -> Order:
    """From the controls to an order.

    Raises:
        ExplorerError: nothing can be exported like this.
    """
    holding, record = desk.holding(session), session.view.record
    if record is None:
        raise LibraryError("The library", "is not open yet", fix="Wait a moment.")
    library = holding.library
    if what == CLUSTERS:
        return _clusters(library, record.clustering.members(), rank)
    router = router_of(read_choice(choice[0], choice[1:]), [adapter.name for adapter in library.routable])
    if what == ROUTER:
        return _router(library, router, rank)
    arrow = router if isinstance(router, Arrow) else Arrow()
    fill = partial(_fill_arrow, library, arrow, holding.trusted)
    return Order(_name(library, ARROW), sum(adapter.size_bytes for adapter in library.routable), fill)


def _clusters(library: Library, clusters: dict[str, tuple[str, ...]], rank: int) -> Order:
    there = [(name, own) for name, own in clusters.items() if any(library[one].can_be_routed for one in own)]
    size = sum(needed(cluster_mix(library, name, own, rank), DTYPE) for name, own in there)

    def fill(folder: Path, progress: Progress) -> str:
        return _told(export_clusters(library, dict(there or clusters), folder, rank=rank, progress=progress))

    return Order(_name(library, "cluster-means"), size, fill)


def _router(library: Library, router: Router, rank: int) -> Order:
    mix = mix_of(library, router, rank)

    def fill(folder: Path, progress: Progress) -> str:
        return _told([write_mix(mix, folder, DTYPE, progress)])

    return Order(_name(library, router.key), needed(mix, DTYPE), fill)


def _fill_arrow(library: Library, arrow: Arrow, trusted: bool, folder: Path, progress: Progress) -> str:
    written = export_arrow(library, folder, arrow, allow_local=trusted, progress=progress)
    return f"{count_text(len(written.adapters), 'adapter')} and run_arrow.py, which needs PEFT only"


def _told(written: Sequence[Exported]) -> str:
    if len(written) == 1:
        return f"{written[0].label}, {written[0].form_text}, {written[0].kept_text}"
    least = min(written, key=lambda one: one.kept)
    kept = "the whole updates" if least.kept >= 1.0 else f"{least.kept:.1%} of the energy or more in each"
    return f"{len(written)} adapters, {kept}"


def _name(library: Library, suffix: str) -> str:
    (title,) = folder_names([library.title]).values()
    return f"{title[:60]}-{suffix}"


def _made(order: Order, say: Say, run: Run) -> tuple[Download, str]:
    """Make it; where the run is stopped meanwhile, nothing of it is left."""
    told: list[str] = []

    def progress(done: int, total: int) -> None:
        if run.stop.is_set():
            raise Stopped
        say(f"Exporting: {done:,} of {total:,} done")

    download = Download(order.name, lambda folder: told.append(order.fill(folder, progress)))
    return download, told[0]


def _remove(made: tuple[Download, str]) -> None:
    """It came too late for anybody to fetch it."""
    made[0].close()
