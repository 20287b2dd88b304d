"""Export a static combination of adapters as a PEFT adapter folder, module by module; no base model is needed.

Factors are stacked, so that nothing is lost and the ranks add up, or cut to a smaller rank; the card tells how much of
the update is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from explorer.adapters.factors import PREFIX, WEIGHTS
from explorer.adapters.library import Library
from explorer.errors import SettingsError
from explorer.exporting import card
from explorer.exporting.cut import cut
from explorer.exporting.exported import Exported, write_cards
from explorer.exporting.mix import MAX_RANK, Mix, cluster_mix, mix_of
from explorer.exporting.peft_config import for_conv1d, peft_config, write_config
from explorer.exporting.tensor_stream import DTYPES, TensorStream, as_stored, checked_dtype
from explorer.exporting.whole_folder import folder_names, whole_folder
from explorer.routing.router import Router

Progress = Callable[[int, int], None]


def _silent(_: int, __: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a card needs of one module once its factors are written."""

    rank: int
    energy: float
    full_energy: float

    @property
    def share(self) -> float:
        """Of the energy, from 0 to 1."""
        return min(self.energy / self.full_energy, 1.0)


def export_adapter(
    library: Library,
    router: Router,
    folder: str | Path,
    *,
    rank: int = 0,
    dtype: str = "float32",
    progress: Progress = _silent,
) -> Exported:
    """Write what `router` makes of the library as a PEFT adapter, which PEFT loads and which gives the same logits.

    Args:
        library: its adapters that can be routed take part.
        router: Single, Uniform, Weighted, LinearMerge or Ties.
        folder: is made; it may be there if it is empty.
        rank: directions kept in each module, 0 for all: the sum of the ranks, at most the module's smaller side (a TIES
            merge has that rank, unless it is cut).
        dtype: of the stored factors: float32, float16 or bfloat16.
        progress: called with the number of modules done so far, and of all.

    Raises:
        SettingsError: the router is not static, a setting is out of bounds, or the folder cannot be written.
        LibraryError: nothing can be exported, or an adapter's file has changed.
    """
    return write_mix(mix_of(library, router, rank), Path(folder), dtype, progress)


def export_clusters(
    library: Library,
    clusters: Mapping[str, Sequence[str]],
    folder: str | Path,
    *,
    rank: int = 0,
    dtype: str = "float32",
    progress: Progress = _silent,
) -> tuple[Exported, ...]:
    """Write the mean of each cluster as a PEFT adapter; together they are a library.

    Args:
        library: the clusters are of its adapters.
        clusters: names by cluster, as `Clustering.members()` gives them; a cluster none of whose members can be
            routed is left out.
        folder: is made; it may be there if it is empty. It gets one adapter's folder for each cluster.
        rank: as for :func:`export_adapter`.
        dtype: as for :func:`export_adapter`.
        progress: called with the number of modules done so far, and of all clusters' modules.

    Raises:
        SettingsError, LibraryError: as for :func:`export_adapter`.
    """
    there = {name: own for name, own in clusters.items() if any(library[one].can_be_routed for one in own)}
    mixes = [cluster_mix(library, name, own, rank) for name, own in (there or clusters).items()]
    if not mixes:
        raise SettingsError("Clusters", "are none, so there is nothing to export")
    places = list(folder_names(there).values())
    total, before = sum(len(mix.forms) for mix in mixes), 0
    written = []
    with whole_folder(Path(folder), sum(needed(mix, dtype) for mix in mixes)) as scratch:
        for mix, place in zip(mixes, places, strict=True):
            (scratch / place).mkdir()
            written.append(_fill(mix, scratch / place, dtype, _from(progress, before, total)))
            before += len(mix.forms)
        title = f"{library.title}: means of {len(mixes)} clusters"
        members = "; ".join(f"{mix.label}: {', '.join(mix.weights)}" for mix in mixes)
        card.write_library_notes(scratch, library, title, members)
    return tuple(replace(one, folder=Path(folder) / place) for one, place in zip(written, places, strict=True))


def write_mix(mix: Mix, folder: Path, dtype: str = "float32", progress: Progress = _silent) -> Exported:
    """Write one combination (raises as :func:`export_adapter`)."""
    with whole_folder(folder, needed(mix, dtype)) as scratch:
        written = _fill(mix, scratch, dtype, progress)
    return replace(written, folder=folder)


def needed(mix: Mix, dtype: str) -> int:
    """At most so many bytes of weights, known from the adapters' shapes alone.

    Raises:
        SettingsError: there is no such dtype, or a rank would be larger than this explorer reads again.
    """
    site = max(mix.forms, key=lambda name: mix.forms[name].rank)
    if mix.forms[site].rank > MAX_RANK:
        found = f"{mix.forms[site].rank} in {site}"
        raise SettingsError(mix.label, expected=f"a rank up to {MAX_RANK}", found=found, fix="Choose a smaller rank.")
    return DTYPES[checked_dtype(dtype)].itemsize * sum(form.parameters for form in mix.forms.values())


def _from(progress: Progress, before: int, total: int) -> Progress:
    """The progress of one part, told as that of the whole."""
    return lambda done, _: progress(before + done, total)


def _fill(mix: Mix, folder: Path, dtype: str, progress: Progress) -> Exported:
    found = _write_weights(mix, folder / WEIGHTS, dtype, progress)
    there = {site: one for site, one in found.items() if one is not None}
    if not there:
        raise SettingsError(mix.label, "adds up to no update at all, so there is nothing to export")
    alphas = {site: (one.rank, one.rank) for site, one in there.items()}
    write_config(folder, peft_config(mix.library.base_model, alphas, fan_in_fan_out=for_conv1d(mix.adapters)))
    worst = min(there, key=lambda site: there[site].share)
    written = Exported(
        folder=folder,
        label=mix.label,
        weights=dict.fromkeys(mix.weights) if mix.is_merge else mix.weights,
        ranks={site: one.rank for site, one in there.items()},
        left_out=tuple(site for site, one in found.items() if one is None),
        dtype=dtype,
        kept=min(sum(one.energy for one in there.values()) / sum(one.full_energy for one in there.values()), 1.0),
        worst_kept=there[worst].share,
        worst_module=worst,
        size_bytes=(folder / WEIGHTS).stat().st_size,
    )
    write_cards(mix, written)
    return written


def _write_weights(mix: Mix, path: Path, dtype: str, progress: Progress) -> dict[str, _Kept | None]:
    """The factors of every module, each gone from memory when it is written; what the cards need of them."""
    found: dict[str, _Kept | None] = {}
    names = [f"{PREFIX}{site}.lora_{factor}.weight" for site in mix.forms for factor in "AB"]
    with TensorStream(path, names) as stream:
        for done, site in enumerate(mix.forms):
            progress(done, len(mix.forms))
            one = cut(mix.update(site), mix.rank)
            found[site] = _Kept(one.rank, one.energy, one.full_energy) if one else None
            for factor, tensor in (("A", one.a), ("B", one.b)) if one else ():
                stream.add(f"{PREFIX}{site}.lora_{factor}.weight", as_stored(tensor, dtype, site))
    progress(len(mix.forms), len(mix.forms))
    return found
