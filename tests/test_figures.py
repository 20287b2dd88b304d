"""Figures say what the records say, and take no harm from names."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ui_samples import make_record, make_trace

from explorer.analysis.projection import Projection
from explorer.routing.trace import RoutingTrace
from explorer.ui import figures
from explorer.ui.figures.label_places import place_labels
from explorer.ui.palette import COLOURS, SYMBOLS, mark
from explorer.ui.traces_view import (
    layers,
    mean_weights,
    modules,
    places,
    select_sites,
    shares,
    top_adapter_per_token,
)

HOSTILE = ("<b>bold</b>", '"><img src=x onerror=alert(1)>', "$\\alpha$ %{x} ${1}", "a" * 200, "1")


def small_trace(weights: Any, sites: tuple[str, ...], names: tuple[str, ...]) -> RoutingTrace:
    weights = np.asarray(weights, np.float32)
    tokens = tuple(f"t{i}" for i in range(weights.shape[1]))
    return RoutingTrace(
        sites=sites,
        tokens=tokens,
        token_ids=tuple(range(len(tokens))),
        names=names,
        weights=weights,
        scores=weights.copy(),
        prompt_length=len(tokens),
        typed=(True,) * len(tokens),
        router="given",
    )


@pytest.mark.parametrize(("adapters", "step"), [(4, 1), (11, 1), (12, None)])
def test_few_numbers_of_clusters_are_each_written_once(adapters: int, step: int | None) -> None:
    drawn = figures.silhouette_figure(make_record(count=adapters, clusters=2))
    assert drawn.layout.xaxis.dtick == step


@pytest.mark.parametrize(("rank", "step"), [(1, 1), (4, 1), (10, 1), (64, None)])
def test_few_singular_values_are_each_numbered_once(rank: int, step: int | None) -> None:
    summary = replace(make_record().adapters[0], spectrum=(1.0,) * rank)
    assert figures.spectrum_figure(summary).layout.xaxis.dtick == step


# --- the trace by layer and module ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "layer", "module"),
    [
        ("model.layers.3.self_attn.q_proj", 3, "q_proj"),
        ("transformer.h.0.attn.c_attn", 0, "c_attn"),
        ("gpt_neox.layers.11.attention.query_key_value", 11, "query_key_value"),
        ("lm_head", None, "lm_head"),
    ],
)
def test_places_of_known_architectures(site: str, layer: int | None, module: str) -> None:
    (place,) = places((site,))
    assert (place.layer, place.module) == (layer, module)


def test_a_module_name_that_a_layer_has_twice_gets_its_parent() -> None:
    found = places(("transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj", "transformer.h.0.attn.c_attn"))
    assert [place.module for place in found] == ["attn.c_proj", "mlp.c_proj", "c_attn"]


def test_layers_modules_and_selection() -> None:
    sites = ("m.layers.0.q", "m.layers.0.v", "m.layers.10.q", "m.layers.2.q", "lm_head")
    trace = small_trace(np.ones((5, 1, 1)), sites, ("a",))
    assert layers(trace) == (0, 2, 10)
    assert modules(trace) == ("q", "v", "lm_head")
    assert select_sites(trace, 0, None) == [0, 1]
    assert select_sites(trace, None, "q") == [0, 2, 3]
    assert select_sites(trace, 2, "lm_head") == [4]
    assert select_sites(trace, 7, "q") == []
    assert mean_weights(trace).rows == ("0", "2", "10", "lm_head")
    assert mean_weights(trace).layers == (0, 2, 10, None)


def test_mean_weights_equal_a_plain_loop() -> None:
    record = make_record()
    trace = make_trace(record, layers=3)
    found = mean_weights(trace, slice(2, 6))
    for layer in range(3):
        rows = [i for i, site in enumerate(trace.sites) if f".{layer}." in site]
        for column in range(len(trace.names)):
            terms = [float(trace.weights[row, token, column]) for row in rows for token in range(2, 6)]
            assert found.values[layer, column] == pytest.approx(sum(terms) / len(terms), abs=1e-6)
    one = mean_weights(trace, slice(4, 5), "q_proj")
    np.testing.assert_allclose(one.values[1], trace.weights[4, 4], atol=1e-7)


def test_top_adapter_is_minus_one_where_none_stands_out() -> None:
    weights = [[[0.2, 0.8], [0.5, 0.5], [0.0, 0.0]]]
    trace = small_trace(weights, ("m.layers.0.q",), ("a", "b"))
    assert top_adapter_per_token(trace).tolist() == [1, -1, -1]
    assert top_adapter_per_token(trace, layer=9).tolist() == [-1, -1, -1]


def test_shares_sum_to_one_for_a_convex_router() -> None:
    trace = make_trace(make_record())
    assert sum(shares(trace).values()) == pytest.approx(1.0, abs=1e-5)
    assert set(shares(trace, slice(0, 0)).values()) == {0.0}


# --- the palette ------------------------------------------------------------------------------------------------


def test_marks_differ_for_32_clusters_and_start_again_after_that() -> None:
    assert len({mark(label) for label in range(len(COLOURS) * len(SYMBOLS))}) == 32
    assert mark(32) == mark(0)
    assert mark(None) not in {mark(label) for label in range(32)}


# --- the map ----------------------------------------------------------------------------------------------------


def points(figure: Any) -> dict[str, dict[str, Any]]:
    """What is drawn for each adapter."""
    found = {}
    for trace in figure.data:
        if trace.customdata is None:
            continue
        for index, name in enumerate(trace.customdata):
            found[name] = {
                "cluster": trace.name,
                "size": trace.marker.size[index],
                "opacity": trace.marker.opacity[index],
                "symbol": trace.marker.symbol[index],
                "hover": trace.hovertext[index],
                "text": trace.text[index],
                "xy": (trace.x[index], trace.y[index]),
            }
    return found


def test_map_draws_every_adapter_once_at_its_place_with_its_cluster() -> None:
    record = make_record(map_only=("topic-task-01",))
    drawn = points(figures.map_figure(record))
    assert set(drawn) == set(record.names)
    for index, name in enumerate(record.names):
        assert drawn[name]["xy"] == pytest.approx(tuple(record.projection.xy[index]))
        assert drawn[name]["cluster"].startswith(f"{record.label(name)} ")
    assert drawn["topic-task-01"]["symbol"] == "circle-open"
    nearest = record.adapters[0].neighbours[0]
    assert f"nearest: {nearest.name} {nearest.score:.2f}" in drawn[record.names[0]]["hover"]


def test_highlighting_fades_and_never_removes() -> None:
    record = make_record()
    drawn = points(figures.map_figure(record, highlighted=frozenset(record.names[:3])))
    assert set(drawn) == set(record.names)
    assert {name for name, point in drawn.items() if point["opacity"] == 1.0} == set(record.names[:3])


def test_weights_set_the_size_and_the_selected_adapter_has_a_ring_and_its_name() -> None:
    record = make_record()
    big, small = record.names[4], record.names[5]
    figure = figures.map_figure(record, weights={big: 0.6, small: 0.1}, selected=small)
    drawn = points(figure)
    assert drawn[big]["size"] > drawn[small]["size"] > drawn[record.names[6]]["size"] > 0
    assert drawn[small]["text"] == small
    ring = figure.data[-1]
    assert (ring.marker.symbol, ring.x[0]) == ("circle-open", pytest.approx(drawn[small]["xy"][0]))


def test_no_names_beside_the_points_of_a_large_library() -> None:
    drawn = points(figures.map_figure(make_record(count=31)))
    assert {point["text"] for point in drawn.values()} == {""}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_figures_of_tiny_libraries(count: int) -> None:
    record = make_record(count=count, clusters=1)
    record = replace(record, projection=Projection(record.names, np.zeros((count, 2)), "list"))
    trace = make_trace(record, layers=2)
    assert set(points(figures.map_figure(record))) == set(record.names)
    for figure in all_figures(record, trace):
        json.loads(figure.to_json())


def test_names_are_placed_without_covering_each_other() -> None:
    spots = np.array([[100.0, 100.0], [104.0, 101.0], [101.0, 97.0], [99.0, 103.0], [102.0, 99.0], [400.0, 300.0]])
    sides = place_labels(spots, ["a long name"] * 6, first=4)
    assert sides[5] and sides[4]
    assert "" in sides
    shown = [side for side in sides[:5] if side]
    assert len(set(shown)) == len(shown)


# --- all figures ------------------------------------------------------------------------------------------------


def all_figures(record: Any, trace: RoutingTrace) -> list[Any]:
    summary = record.adapters[0]
    return [
        figures.map_figure(record, selected=record.names[0]),
        figures.silhouette_figure(record),
        figures.similarity_figure(record),
        figures.spectrum_figure(summary),
        figures.layer_norm_figure(summary),
        figures.routing_overview_figure(trace, record),
        figures.token_detail_figure(trace, record, 3, 0, "q_proj"),
        figures.entropy_figure(trace),
        figures.share_figure(trace, record),
    ]


def test_names_reach_plotly_as_text_and_events_as_they_are() -> None:
    record = make_record(HOSTILE, clusters=2)
    trace = make_trace(record, layers=2)
    for figure in all_figures(record, trace):
        data = json.loads(figure.to_json())
        shown = json.dumps([_without_customdata(data["data"]), data["layout"]])
        assert "<b>bold" not in shown and "<img" not in shown
    assert set(points(figures.map_figure(record))) == set(HOSTILE)
    cells = figures.routing_overview_figure(trace, record).data[0].customdata
    assert {cell[1] for row in cells for cell in row} == set(HOSTILE)


def _without_customdata(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Custom data is never drawn by these figures, other than numbers picked from it."""
    return [{key: value for key, value in trace.items() if key != "customdata"} for trace in traces]


def test_figures_have_no_title_no_background_and_a_height() -> None:
    record = make_record()
    for figure in all_figures(record, make_trace(record, layers=2)):
        assert figure.layout.title.text is None
        assert figure.layout.height
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_similarity_is_ordered_by_cluster_on_a_fixed_scale() -> None:
    record = make_record()
    heat = figures.similarity_figure(record)
    order = list(heat.layout.xaxis.ticktext)
    labels = [record.label(name) for name in order]
    assert labels == sorted(labels)
    first, last = record.names.index(order[0]), record.names.index(order[-1])
    assert heat.data[0].z[0][-1] == pytest.approx(record.similarity.values[first, last], abs=1e-4)
    assert (heat.data[0].zmin, heat.data[0].zmax) == (-1, 1)


def test_overview_colours_follow_the_square_root_and_ticks_say_the_weight() -> None:
    record = make_record()
    trace = make_trace(record, layers=2)
    heat = figures.routing_overview_figure(trace, record, tokens=slice(3, 5), module="v_proj").data[0]
    for row, z_row in zip(heat.customdata, heat.z, strict=True):
        for cell, z in zip(row, z_row, strict=True):
            assert z == pytest.approx(math.sqrt(cell[2]), abs=3e-3)
    values = mean_weights(trace, slice(3, 5), "v_proj").values
    assert heat.customdata[1][0][2] == pytest.approx(
        float(values[1, trace.names.index(heat.customdata[1][0][1])]), abs=1e-5
    )
    assert [value**2 for value in heat.colorbar.tickvals] == pytest.approx([0, 0.04, 0.25, 0.5, 1])
    assert (heat.zmin, heat.zmax) == (0, 1)


def test_detail_shows_kept_solid_others_hollow_and_names_missing_sites() -> None:
    record = make_record(count=4, clusters=2)
    trace = small_trace([[[0.7, 0.3, 0.0, 0.0]]], ("m.layers.0.q_proj",), record.names)
    trace.scores[:] = np.array([3.0, 2.0, 1.0, np.nan])
    bars = figures.token_detail_figure(trace, record, 0, 0, "q_proj").data[0]
    assert list(bars.x) == [3.0, 2.0, 1.0, 0.0]
    assert list(bars.text) == ["0.70", "0.30", "", "no such site"]
    assert [colour == "rgba(0,0,0,0)" for colour in bars.marker.color] == [False, False, True, True]


def test_entropy_lines_stand_at_ln_kept_and_ln_all() -> None:
    figure = figures.entropy_figure(make_trace(make_record(), kept=4))
    assert sorted(shape.y0 for shape in figure.layout.shapes) == pytest.approx([math.log(4), math.log(24)])
    assert all(0 <= value <= math.log(4) + 1e-5 for value in figure.data[0].y)


def test_shares_by_cluster_add_up_to_those_of_adapters() -> None:
    record = make_record()
    bars = figures.share_figure(make_trace(record), record).data[0]
    clusters = record.clustering.n_clusters
    assert sum(bars.x[:clusters]) == pytest.approx(sum(bars.x[clusters:])) == pytest.approx(1.0, abs=1e-5)


def test_chosen_and_suggested_k_are_marked() -> None:
    record = make_record(clusters=6)
    other = replace(record, clustering=replace(record.clustering, suggested=3))
    assert [note.text for note in figures.silhouette_figure(record).layout.annotations] == ["K = 6, suggested"]
    assert [note.text for note in figures.silhouette_figure(other).layout.annotations] == ["K = 6", "suggested 3"]


def test_an_empty_choice_is_said_in_words() -> None:
    record = make_record()
    trace = make_trace(record, layers=1)
    for figure in (
        figures.routing_overview_figure(trace, record, module="no_such"),
        figures.token_detail_figure(trace, record, 999, 0, None),
        figures.entropy_figure(trace, module="no_such"),
    ):
        assert figure.layout.annotations[0].text == "There is no routing to show for this choice."
