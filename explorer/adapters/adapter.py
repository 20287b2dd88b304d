"""One adapter: its updates by site, what it was made for, and the verdict on whether it can be used.

A site is the name of an adapted linear module in the base model, for example `model.layers.3.self_attn.q_proj`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from explorer.adapters.low_rank import Form, LowRank
from explorer.adapters.stored_updates import StoredUpdates


class Status(StrEnum):
    """What can be done with an adapter."""

    ACCEPTED = "accepted"
    MAP_ONLY = "map only"
    REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """The result of reading one adapter. `reason` is one sentence, empty when it was accepted without remark."""

    name: str
    status: Status
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdapterNotes:
    """What a library's `library.json` (or an adapter's card) says of one adapter; every field may be empty.

    `tasks` lists what an adapter of several tasks (one of a cluster) was trained on; `start` says what one began from
    that was fine-tuned on a few examples ("arrow", "uniform", "scratch"), and is empty for any other.
    """

    task: str = ""
    family: str = ""
    description: str = ""
    examples: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    start: str = ""


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter read from a PEFT folder.

    Attributes:
        name: unique in its library (the folder's name).
        path: the folder it was read from; None for one made in memory.
        base_model: the name its configuration gives ("" if none).
        updates: site -> update, in natural order of the sites; those of a folder are read whenever they are asked for,
            so take them one at a time, and ask `forms` for shapes, ranks and counts.
        verdict: accepted or map only (a refused adapter is not made into an Adapter).
        alpha: lora_alpha of the configuration (patterns may override it per site).
        content_hash: SHA-256 of the weights and the configuration.
        size_bytes: size of the weights file.
        notes: task, family, examples.
        config: the adapter's configuration as read.
    """

    name: str
    path: Path | None
    base_model: str
    updates: Mapping[str, LowRank]
    verdict: Verdict
    alpha: float
    content_hash: str
    size_bytes: int
    notes: AdapterNotes = AdapterNotes()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def can_be_routed(self) -> bool:
        """Whether routers may use it (a map-only adapter is only shown)."""
        return self.verdict.status is Status.ACCEPTED

    @property
    def ranks(self) -> tuple[int, ...]:
        """The distinct ranks of its updates, ascending."""
        return tuple(sorted({form.rank for form in self.forms.values()}))

    @property
    def forms(self) -> Mapping[str, Form]:
        """Shape, rank and scale of its update at each site, in the order of `updates`; reads nothing."""
        if isinstance(self.updates, StoredUpdates):
            return self.updates.forms
        return {site: update.form for site, update in self.updates.items()}

    @property
    def parameters(self) -> int:
        """How many numbers its factors hold."""
        return sum(form.parameters for form in self.forms.values())

    def only(self, wanted: Callable[[str], bool]) -> Adapter:
        """The same adapter with the updates of the sites that are wanted, by name."""
        if isinstance(self.updates, StoredUpdates):
            return replace(self, updates=self.updates.only(wanted))
        return replace(self, updates={site: update for site, update in self.updates.items() if wanted(site)})
