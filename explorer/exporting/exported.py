"""What was exported, for the caller and in words for the folder's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.exporting import card
from explorer.exporting.mix import Mix
from explorer.exporting.whole_folder import size_text


@dataclass(frozen=True)
class Exported:
    """A PEFT adapter that was written.

    Attributes:
        folder: where.
        label: the combination in words.
        weights: of each adapter that takes part; None in a merge, which has none.
        ranks: module -> rank.
        left_out: modules whose update is zero.
        dtype: of the stored factors.
        kept: share of the update's energy (squared Frobenius norm) that the rank left, over all modules.
        worst_kept, worst_module: the same of the module that lost most.
        size_bytes: of the weights file.
    """

    folder: Path
    label: str
    weights: Mapping[str, float | None]
    ranks: Mapping[str, int] = field(repr=False)
    left_out: tuple[str, ...]
    dtype: str
    kept: float
    worst_kept: float
    worst_module: str
    size_bytes: int

    @property
    def rank_text(self) -> str:
        """`8`, or `4 to 8`."""
        low, high = min(self.ranks.values()), max(self.ranks.values())
        return str(low) if low == high else f"{low} to {high}"

    @property
    def form_text(self) -> str:
        """Rank, modules and size in words."""
        return f"rank {self.rank_text} in {len(self.ranks)} modules, {size_text(self.size_bytes)}"

    @property
    def kept_text(self) -> str:
        """How much of the update is left."""
        if self.worst_kept >= 1.0:
            return "the whole update"
        return f"{self.kept:.2%} of the update's energy, {self.worst_kept:.2%} in {self.worst_module}, the worst module"

    def facts(self) -> dict[str, Any]:
        """For a program."""
        return {
            "router": self.label,
            "adapters": dict(self.weights),
            "modules": len(self.ranks),
            "modules_left_out": list(self.left_out),
            "ranks": sorted(set(self.ranks.values())),
            "dtype": self.dtype,
            "energy_kept": self.kept,
            "worst_module": self.worst_module,
            "worst_module_energy_kept": self.worst_kept,
            "size_bytes": self.size_bytes,
        }


def write_cards(mix: Mix, written: Exported) -> None:
    """`README.md` and `card.json` of an adapter."""
    library = mix.library
    facts = {
        "task": mix.label,
        "description": f"{mix.label}, made from {len(mix.weights)} adapters of {library.title}.",
        "base_model": library.base_model,
        "library": library.title,
        "library_hash": library.content_hash,
        "license": library.license_name,
        **written.facts(),
    }
    card.write_texts(written.folder, _readme(mix, written), facts)


def _readme(mix: Mix, written: Exported) -> str:
    library = mix.library
    rows = {
        **card.source_rows(library, mix.adapters),
        "combination": card.plain(mix.label),
        "size": card.plain(f"{written.form_text}, {written.dtype}"),
        "kept": card.plain(written.kept_text),
    }
    if written.left_out:
        rows["modules left out"] = f"{len(written.left_out)}, as their update is zero"
    head = card.front_matter(library.base_model, library.license_name, ["lora", "merge"])
    return f"""{head}
# {card.plain(mix.label)}

A LoRA adapter made out of others with `python -m explorer export`: one update for all tokens. Every module's
`lora_alpha` equals its rank, so PEFT's scale is 1.

{card.table(rows)}

{card.adapters_table(mix.adapters, None if mix.is_merge else mix.weights)}
"""
