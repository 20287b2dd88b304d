"""What the adapters of one library must agree on before they are routed together: the base model and its shapes.

Whoever differs from the majority stays on the map, with the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from explorer.adapters.adapter import Adapter, Status
from explorer.adapters.wording import shown


def settle(adapters: Sequence[Adapter]) -> list[Adapter]:
    """The same adapters in the same order, their verdicts adjusted to each other."""
    with_base = _one_base(adapters)
    with_shapes = _one_shape(with_base)
    return _same_content(with_shapes)


def _one_base(adapters: Sequence[Adapter]) -> list[Adapter]:
    counts = Counter(adapter.base_model for adapter in adapters if adapter.can_be_routed)
    if len(counts) < 2:
        return list(adapters)
    # a name counts before none at all, however many adapters leave theirs out
    chosen = max(counts, key=lambda base: (bool(base), counts[base]))
    majority = 2 * counts[chosen] > sum(counts.values())
    whose = "most of this library names" if majority else "this library is routed with"

    def reason(adapter: Adapter) -> str:
        if adapter.base_model == chosen:
            return ""
        named = shown(adapter.base_model) or "no base model"
        return f"it names {named}, while {whose} {shown(chosen)}"

    return _demote(adapters, reason)


def _one_shape(adapters: Sequence[Adapter]) -> list[Adapter]:
    shapes: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for adapter in adapters:
        if adapter.can_be_routed:
            for site, form in adapter.forms.items():
                shapes[site][form.shape] += 1
    usual = {site: counts.most_common(1)[0][0] for site, counts in shapes.items()}

    def reason(adapter: Adapter) -> str:
        for site, form in adapter.forms.items():
            if form.shape != usual[site]:
                return f"its {shown(site)} has shape {form.shape}, in most of this library it is {usual[site]}"
        return ""

    return _demote(adapters, reason)


def _demote(adapters: Sequence[Adapter], reason: Callable[[Adapter], str]) -> list[Adapter]:
    """Leave those that can be routed but have a reason against it on the map only."""
    settled = []
    for adapter in adapters:
        why = reason(adapter) if adapter.can_be_routed else ""
        if why:
            verdict = replace(adapter.verdict, status=Status.MAP_ONLY, reason=f"It cannot be routed: {why}.")
            adapter = replace(adapter, verdict=verdict)
        settled.append(adapter)
    return settled


def _same_content(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Warn of adapters that are copies of an earlier one."""
    first: dict[str, str] = {}
    settled = []
    for adapter in adapters:
        original = first.setdefault(adapter.content_hash, adapter.name)
        if original != adapter.name:
            warnings = (*adapter.verdict.warnings, f"It is a copy of {shown(original)}.")
            adapter = replace(adapter, verdict=replace(adapter.verdict, warnings=warnings))
        settled.append(adapter)
    return settled
