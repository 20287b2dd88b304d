"""How fast a routed model is beside the bare one, ours and PEFT's Arrow in the same run. By hand, on a quiet machine:

    python tests/benchmarks/speed.py [--adapters 8 32 128 256] [--peft-up-to 32] [--no-libraries] [--json FILE]

Rank 4 on q k v o of SmolLM2-135M, float32, Arrow top 4, adapters of random numbers. Decode: one step of a row after 40
tokens, cache in place. Prefill: 512 tokens at once. All variants of a comparison are run in turn, over and over, and
the medians are compared, because the speed of a machine drifts. Then: what more routers cost, from prompt to heat map,
and how long libraries of 40, 256 and 1,000 adapters take to open, cluster and map (open_library.py).
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from benchmarks import open_library
from benchmarks.synthetic import SAMPLE_BASE, synthetic_library, write_peft

import explorer
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow, Base, Single, SpectR, Uniform
from explorer.routing.router import Router

PROMPT, LONG, NEW = 40, 512, 64
Step = Callable[[], object]


def medians(steps: Mapping[str, Step], calls: int, rounds: int) -> dict[str, float]:
    """Milliseconds a call: the median over `rounds`, in each of which every step gets its turn."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            step()
            started = time.perf_counter()
            for _ in range(calls):
                step()
            found[name].append(1000 * (time.perf_counter() - started) / calls)
    return {name: statistics.median(times) for name, times in found.items()}


def ids_of(count: int) -> list[int]:
    return [(7 * place) % 30_000 + 300 for place in range(count)]


def decode_plain(model: Any) -> Step:
    """One step of a model by itself (the bare one, or PEFT's)."""
    cache = model(input_ids=torch.tensor([ids_of(PROMPT)]), use_cache=True, logits_to_keep=1).past_key_values
    token = torch.ones((1, 1), dtype=torch.long)
    return lambda: model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)


def decode_routed(routed: RoutedModel, routers: Sequence[Router], record: Sequence[int] = ()) -> Step:
    """One step of all rows."""
    rows = len(routers)
    cache = routed.forward([ids_of(PROMPT)] * rows, routers, use_cache=True, keep=1)[0].past_key_values

    def step() -> None:
        _, current = routed.forward([[1]] * rows, routers, cache=cache, use_cache=True, keep=1, record=record)
        for row in record:
            current.recorded(row, routed.sites)

    return step


def prefill_plain(model: Any) -> Step:
    tokens = torch.tensor([ids_of(LONG)])
    return lambda: model(input_ids=tokens, use_cache=True, logits_to_keep=1)


def prefill_routed(routed: RoutedModel, router: Router) -> Step:
    return lambda: routed.forward([ids_of(LONG)], [router], use_cache=True, keep=1)


def pefts_arrow(base: BaseModel, count: int, folder: Path) -> Any:
    """PEFT's own Arrow model on a copy of the base, from adapter folders."""
    from peft.tuners.lora import ArrowConfig, create_arrow_model

    paths = [str(path) for path in write_peft(count, folder)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_arrow_model(copy.deepcopy(base.model), paths, ArrowConfig(top_k=4)).eval()


def against_the_bare_model(base: BaseModel, count: int, with_peft: bool) -> dict[str, Any]:
    """Ratios to the bare model's speed (1 is as fast) with `count` adapters."""
    print(f"{count} adapters", file=sys.stderr, flush=True)
    routed = RoutedModel(base, synthetic_library(count))
    routers = {"arrow": Arrow(), "spectr": SpectR(), "uniform": Uniform(), "single": Single(routed.names[0])}
    decode = {"bare": decode_plain(base.model)} | {key: decode_routed(routed, [one]) for key, one in routers.items()}
    decode["arrow, recorded"] = decode_routed(routed, [Arrow()], [0])
    prefill = {"bare": prefill_plain(base.model)} | {key: prefill_routed(routed, one) for key, one in routers.items()}
    with tempfile.TemporaryDirectory() as folder:
        if with_peft:
            peer = pefts_arrow(base, count, Path(folder))
            decode["peft arrow"], prefill["peft arrow"] = decode_plain(peer), prefill_plain(peer)
        steps, passes = medians(decode, 20, 5), medians(prefill, 1, 5)
    return {
        "adapters": count,
        "decode_ms": steps,
        "prefill_ms": passes,
        "decode": {name: round(steps["bare"] / value, 3) for name, value in steps.items()},
        "prefill": {name: round(passes["bare"] / value, 3) for name, value in passes.items()},
    }


def many_routers(base: BaseModel, count: int = 16) -> dict[str, Any]:
    """64 tokens of one, two and four routers on one prompt: milliseconds, and the ratio to one.

    Steps of the model instead of `generate`, because answers that end early would not be compared fairly.
    """
    routed = RoutedModel(base, synthetic_library(count))
    four = [Arrow(), Uniform(), SpectR(), Base()]

    def answer(routers: Sequence[Router]) -> None:
        rows = len(routers)
        output, _ = routed.forward([ids_of(PROMPT)] * rows, routers, use_cache=True, keep=1)
        for _ in range(NEW):
            last = output.logits[:, -1].argmax(dim=-1)[:, None].tolist()
            output, _ = routed.forward(last, routers, cache=output.past_key_values, use_cache=True, keep=1)

    times = medians({str(rows): lambda rows=rows: answer(four[:rows]) for rows in (1, 2, 4)}, 1, 5)
    return {"adapters": count, "ms": times, "to_one": {key: round(ms / times["1"], 2) for key, ms in times.items()}}


def prompt_to_heat_map(base: BaseModel) -> dict[str, float]:
    """Milliseconds from a prompt to the drawn overview of the sample library, model loaded."""
    from explorer.records.library_record import library_record
    from explorer.ui.figures import routing_overview_figure

    library = explorer.open_library("sample")
    routed, record = RoutedModel(base, library), library_record(library)
    prompt = "Put into the past tense: She writes a letter to her brother every week."

    def draw() -> None:
        routing_overview_figure(routed.route(prompt, Arrow()), record).to_json()

    return medians({"ms": draw}, 1, 5)


def report(figures: dict[str, Any]) -> str:
    """All figures as text."""
    lines = ["ratio to the bare model's speed", f"{'':18}" + "".join(f"{n['adapters']:>10}" for n in figures["speed"])]
    for kind in ("decode", "prefill"):
        for name in figures["speed"][0][kind]:
            values = "".join(f"{entry[kind].get(name, float('nan')):>10.2f}" for entry in figures["speed"])
            lines.append(f"{kind + ' ' + name:18}{values}")
    lines += [f"routers in one batch, time to that of one: {figures['routers']['to_one']}"]
    lines += [f"from prompt to heat map: {figures['heat_map']['ms']:.0f} ms"]
    return "\n".join([*lines, *(open_library.table(entry) for entry in figures["libraries"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", type=int, nargs="+", default=[8, 32, 128, 256])
    parser.add_argument("--peft-up-to", type=int, default=32, help="PEFT's Arrow takes minutes with many adapters (32)")
    parser.add_argument("--no-libraries", action="store_true", help="leave out opening libraries")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    base = explorer.load_base_model(SAMPLE_BASE, device="cpu")
    sizes = () if options.no_libraries else (("smollm2", 40), ("phi2", 256), ("smollm2", 1000))
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "speed": [against_the_bare_model(base, count, count <= options.peft_up_to) for count in options.adapters],
        "routers": many_routers(base),
        "heat_map": prompt_to_heat_map(base),
        "libraries": [open_library.measure(shape, count) for shape, count in sizes],
    }
    print(report(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
