"""Opening another library: every way ends in a report, and nothing is replaced before the visitor says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from explorer.ui.answers import report_html, status_html
from explorer.ui.guard import Updates, guarded
from explorer.ui.open_libraries import OpenLibrary
from explorer.ui.sessions import Session
from explorer.ui.shell import Shell
from explorer.ui.workplace import Workplace


@dataclass(frozen=True, eq=False)
class Intake:
    """The components of the intake."""

    panel: gr.Accordion
    upload: gr.File
    source: gr.Textbox
    open: gr.Button
    sample: gr.Button
    report: gr.HTML
    accept: gr.Button
    keep: gr.Button


def build_intake(*, allow_local: bool) -> Intake:
    """Lay the intake out, folded."""
    with gr.Accordion("Open another library", open=False, elem_id="intake") as panel:
        with gr.Row(equal_height=False):
            upload = gr.File(
                label="A .zip of PEFT adapter folders", file_types=[".zip"], height=110, elem_id="upload", min_width=260
            )
            with gr.Column(min_width=260):
                source = gr.Textbox(
                    label="A folder of this machine, or a hub repository" if allow_local else "A hub repository",
                    placeholder="owner/name" if not allow_local else "folder, or owner/name",
                    elem_id="source",
                )
                with gr.Row():
                    button = gr.Button("Read it", min_width=80, elem_id="read-source")
                    sample = gr.Button("Back to the first library", min_width=120, elem_id="back-to-sample")
        report = gr.HTML("", padding=False, elem_id="report")
        with gr.Row():
            accept = gr.Button("Open this library", variant="primary", visible=False, elem_id="accept-library")
            keep = gr.Button("Keep the current one", visible=False, elem_id="keep-library")
    return Intake(panel, upload, source, button, sample, report, accept, keep)


def connect_intake(
    intake: Intake, shell: Shell, place: Workplace, show: Callable[[Session], Updates], shown: list[gr.Blocks]
) -> None:
    """Attach the handlers; `show` draws the page for a session whose library has changed."""
    safe = guarded(shell.status)
    parts = [intake.report, intake.accept, intake.keep, shell.status]

    def offer(session: Session, read: OpenLibrary) -> Updates:
        _drop_pending(session)
        session.pending = read
        report = report_html(read.library.verdicts, read.library.title, read.library.source)
        return {
            intake.report: report,
            intake.accept: gr.update(visible=True),
            intake.keep: gr.update(visible=True),
            shell.status: status_html(
                "ok", f"Read {read.library.title}: see the report, then open it or keep this one."
            ),
        }

    @safe
    def take_upload(path: str | None, request: gr.Request) -> Updates:
        if not path:
            return {}
        try:
            return offer(place.sessions.get(request.session_hash), place.open_upload(path, Path(path).name))
        finally:
            os.unlink(path)  # the upload's own copy; what was unpacked from it lives elsewhere

    @safe
    def take_source(source: str, request: gr.Request) -> Updates:
        return offer(place.sessions.get(request.session_hash), place.open_source(str(source)))

    @safe
    def accept(request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        if session.pending is None:
            return {}
        record = session.pending.record()
        _replace(session, session.pending)
        session.pending, session.record = None, record
        place.base_for(session.own) if session.own is not None else None
        return {**closed(), **show(session)}

    @safe
    def back(request: gr.Request) -> Updates:
        session = place.sessions.get(request.session_hash)
        record = place.first().record()
        _drop_pending(session)
        _replace(session, None)
        session.record = record
        return {**closed(), **show(session)}

    @safe
    def keep(request: gr.Request) -> Updates:
        _drop_pending(place.sessions.get(request.session_hash))
        return {**closed(), shell.status: status_html("ok", "Kept the library that was open.")}

    def closed() -> Updates:
        hidden = gr.update(visible=False)
        return {intake.report: "", intake.accept: hidden, intake.keep: hidden}

    intake.upload.upload(take_upload, [intake.upload], parts, api_visibility="private")
    intake.open.click(take_source, [intake.source], parts, api_name="library")
    intake.source.submit(take_source, [intake.source], parts, api_visibility="private")
    everything = [*dict.fromkeys([*parts, *shown])]
    intake.accept.click(accept, None, everything, api_visibility="private")
    intake.sample.click(back, None, everything, api_visibility="private")
    intake.keep.click(keep, None, parts, api_visibility="private")


def _drop_pending(session: Session) -> None:
    if session.pending is not None:
        session.pending.close()
        session.pending = None


def _replace(session: Session, library: OpenLibrary | None) -> None:
    """Put another library in the place of the visitor's own; everything that belonged to the old one goes."""
    session.stop.set()
    if session.own is not None:
        session.own.close()
    session.own, session.trace, session.routed_with = library, None, ()
    session.adapter = session.token = session.layer = session.module = session.highlighted = None
