"""Which control does what."""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.ui import (
    compare_acts,
    evaluate_acts,
    evaluate_file_acts,
    export_acts,
    intake,
    library_acts,
    link_acts,
    page_acts,
    routing_acts,
)
from explorer.ui.controls import CHOICE
from explorer.ui.desk import Desk
from explorer.ui.evaluation_pictures import TRANSFER_PARTS
from explorer.ui.pictures import Updates
from explorer.ui.sessions import Session
from explorer.ui.shell import COPY
from explorer.ui.wire import Wire

TEXT = ("prompt", "chat", *CHOICE)
SAMPLING = ("generate_tokens", "generate_temperature", "generate_seed")
LAST: dict[str, Any] = {"trigger_mode": "always_last"}


def connect(wire: Wire) -> None:
    """Connect every control of the page."""
    _page(wire)
    _running(wire)
    _routing(wire)
    _library(wire)
    _intake(wire)
    _evaluation(wire)


def _page(wire: Wire) -> None:
    parts, desk = wire.parts, wire.desk
    wire.on(
        [parts["page"].load],
        page_acts.open_page,
        ["address"],
        page_acts.OPENED,
        js="() => window.location.search",
    )
    parts["page"].unload(_closing(desk))
    wire.on([parts["timer"].tick], page_acts.tick, [], page_acts.TICKED, queue=False)
    wire.on([parts["tabs"].select], page_acts.pick_tab, picks=True, queue=False)
    made = wire.on([parts["copy"].click], link_acts.link_of, TEXT, ["link"], queue=False)
    made.then(None, [parts["link"], parts["status"]], [parts["status"]], js=COPY, show_progress="hidden")


def _closing(desk: Desk) -> Any:
    def closed(request: gr.Request) -> None:
        desk.sessions.close(request.session_hash or "")

    return closed


def _running(wire: Wire) -> None:
    """Route, Generate, Compare, Export, Evaluate, and the Stop that ends them all."""
    parts = wire.parts
    runs = [
        wire.on([parts["route"].click], routing_acts.route, TEXT, routing_acts.SHOWN),
        wire.on(
            [parts["generate"].click],
            routing_acts.generate,
            ("prompt", "chat", *SAMPLING, *CHOICE),
            routing_acts.SHOWN,
        ),
        wire.on([parts["compare"].click], compare_acts.compare, compare_acts.ASKED, compare_acts.SHOWN),
        wire.on([parts["export_make"].click], export_acts.make_zip, export_acts.ASKED, export_acts.SHOWN),
        wire.on(
            [parts["evaluate"].click], evaluate_file_acts.evaluate_file, evaluate_file_acts.ASKED, evaluate_acts.SHOWN
        ),
    ]
    stops = [parts["stop"].click, parts["stop_compare"].click, parts["stop_evaluate"].click]
    wire.on(stops, page_acts.stop, [], page_acts.STOP_PARTS, queue=False, cancels=runs, trigger_mode="multiple")


def _routing(wire: Wire) -> None:
    parts, picks = wire.parts, wire.parts["picks"]
    typed = [parts[name].change for name in TEXT if name != "router"]
    wire.on(typed, routing_acts.check_stale, TEXT, ["views"], queue=False, **LAST)
    wire.on(
        [parts["router"].change],
        routing_acts.change_router,
        TEXT,
        [*CHOICE[1:], "router_note", "views"],
        queue=False,
        **LAST,
    )
    looks = ("layer", "module", "range", "template")
    changed = [parts["layer"].input, parts["module"].input, parts["range"].submit, parts["template"].input]
    changed.append(parts["range"].blur)
    wire.on(changed, routing_acts.look_at, looks, routing_acts.SHOWN, **LAST)
    wire.on([picks.token], routing_acts.pick_token, [], routing_acts.SHOWN, picks=True, **LAST)
    wire.on([picks.cell], routing_acts.pick_cell, [], [*routing_acts.SHOWN, *library_acts.CARD], picks=True, **LAST)
    columns = [parts[name].change for name in compare_acts.PICKERS]
    wire.on(columns, compare_acts.pick_column_router, compare_acts.PICKERS, compare_acts.ADAPTERS, queue=False, **LAST)


def _library(wire: Wire) -> None:
    parts, picks = wire.parts, wire.parts["picks"]
    wire.on([picks.pick], library_acts.pick_adapter, [], library_acts.CARD, picks=True, **LAST)
    wire.on([picks.lasso], library_acts.pick_many, [], ["map"], picks=True, **LAST)
    wire.on([parts["table"].select], library_acts.pick_row, [], library_acts.CARD, picks=True, **LAST)
    wire.on([parts["sized"].input], library_acts.size_points, ["sized"], ["map"], **LAST)
    settings = ("measure", "sparsity", "clusters")
    changed = [parts["measure"].input, parts["sparsity"].release, parts["clusters"].release]
    wire.on(changed, library_acts.measure_anew, settings, library_acts.CLUSTERS, **LAST)
    wire.on([parts["suggest"].click], library_acts.suggest, settings[:2], library_acts.CLUSTERS)
    wire.on([parts["measure"].change], _sparsity, ["measure"], ["sparsity"], queue=False)


def _sparsity(_: Desk, __: Session, measure: Any) -> Updates:
    """Only the measure `parameters` has a sparsity."""
    return {"sparsity": gr.update(visible=measure == "parameters")}


def _intake(wire: Wire) -> None:
    parts = wire.parts
    wire.on([parts["zip"].upload], intake.read_zip, ["zip"], intake.REPORT, preprocess=True)
    wire.on([parts["read"].click, parts["source"].submit], intake.read_source, ["source"], intake.REPORT)
    wire.on([parts["accept"].click], intake.open_candidate, [], intake.OPENED)
    wire.on([parts["keep"].click], intake.keep_current, [], intake.REPORT)


def _evaluation(wire: Wire) -> None:
    parts, looks = wire.parts, evaluate_acts.LOOKS
    wire.on([parts[name].input for name in looks], evaluate_acts.look, looks, evaluate_acts.SHOWN, **LAST)
    wire.on(
        [parts["transfer_as_loss"].input],
        evaluate_acts.look_at_transfer,
        ["transfer_as_loss"],
        TRANSFER_PARTS,
        **LAST,
    )
    for name, save in (("scores_json", evaluate_acts.save_json), ("scores_csv", evaluate_acts.save_csv)):
        made = wire.on([parts[name].click], save, [], evaluate_acts.FILE_PARTS)
        held = [parts[part] for part in evaluate_acts.FILE_PARTS]
        made.then(None, held, held[1:], js=evaluate_acts.SAVE, show_progress="hidden")
    read = (evaluate_file_acts.read_file, ["scores_upload"], evaluate_file_acts.READ)
    wire.on([parts["scores_upload"].upload], *read, preprocess=True)
    routers = parts["evaluate_routers"].change
    wire.on([routers], evaluate_file_acts.pick_routers, ["evaluate_routers"], ["evaluate_adapter"], queue=False, **LAST)
