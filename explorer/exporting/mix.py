"""A static combination of a library's adapters: what it is made of, and its update at one module.

Only what is the same for every token can be one adapter: fixed weights (single, uniform, weighted, linear), a cluster's
mean, and merges (TIES).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.adapters.library import Library, natural_key
from explorer.adapters.low_rank import Form, LowRank
from explorer.errors import LibraryError, SettingsError
from explorer.routing.bank import build_banks
from explorer.routing.factor_mean import stored_factors
from explorer.routing.linear_merge import LinearMerge
from explorer.routing.router import FixedRouter, MergeRouter, Router
from explorer.routing.uniform import Uniform
from explorer.routing.weighted import Weighted

CPU = torch.device("cpu")
MAX_RANK = 4096


@dataclass(frozen=True, eq=False)
class Mix:
    """What one exported adapter is made of.

    Attributes:
        library: where the adapters come from.
        label: the combination in words.
        rank: directions kept in each module; 0 keeps all.
        weights: of each adapter that takes part (their mean over the modules, where it differs); of a merge, which has
            none, 1 each.
        router: what combines them: over exactly the adapters of `weights`, in this order.
    """

    library: Library
    label: str
    rank: int
    weights: Mapping[str, float]
    router: FixedRouter | MergeRouter

    @cached_property
    def adapters(self) -> tuple[Adapter, ...]:
        """Those that take part."""
        return tuple(self.library[name] for name in self.weights)

    @property
    def is_merge(self) -> bool:
        """Whether it is no weighted sum."""
        return isinstance(self.router, MergeRouter)

    @cached_property
    def forms(self) -> dict[str, Form]:
        """Shape and largest possible rank at each module, in natural order; nothing is read for it."""
        found: dict[str, list[Form]] = {}
        for adapter in self.adapters:
            for site, form in adapter.forms.items():
                found.setdefault(site, []).append(form)
        return {site: self._bound(found[site]) for site in sorted(found, key=natural_key)}

    def update(self, site: str) -> LowRank | Tensor:
        """The whole update at one module, as factors or, of a merge, (d_out, d_in) written out; float32.

        Raises:
            SettingsError: factors of different rank are to be averaged.
            LibraryError: an adapter's file has changed.
        """
        own = [adapter for adapter in self.adapters if site in adapter.forms]
        if isinstance(self.router, MergeRouter):
            merged = self.router.merge(build_banks(self.adapters, [[site]], CPU, torch.float32)[0], 0)
            return merged.dense if merged.dense is not None else LowRank(merged.down, merged.up.T, 1.0)  # type: ignore[arg-type, union-attr]
        if self.router.averages_factors:
            return self._mean_of_factors(site)
        weights = self._weights_at(site)
        return stacked([(adapter.updates[site], weights[adapter.name]) for adapter in own])

    def _weights_at(self, site: str) -> Mapping[str, float]:
        assert isinstance(self.router, FixedRouter)
        names = tuple(self.weights)
        return dict(zip(names, self.router.fixed_at(site, names), strict=True))

    def _mean_of_factors(self, site: str) -> LowRank:
        """(sum w B)(sum w A), as the paper's own code mixes."""
        (bank,) = build_banks(self.adapters, [[site]], CPU, torch.float32)
        (own,) = stored_factors(self.adapters, bank)
        weights = torch.tensor(list(self.weights.values()))
        a, b = torch.tensordot(weights, own.a, 1), torch.tensordot(weights, own.b, 1)
        return LowRank(a, b.T, 1.0)

    def _bound(self, forms: Sequence[Form]) -> Form:
        shape, ranks = forms[0].shape, [form.rank for form in forms]
        most = max(ranks) if self.router.averages_factors else sum(ranks)
        rank = min(*shape, *([] if self.is_merge else [most]), *([self.rank] if self.rank else []))
        return Form(shape, rank, 1.0)


def stacked(parts: Sequence[tuple[LowRank, float]]) -> LowRank:
    """sum_e w_e dW_e exactly: the factors one below the other; |w s| is shared out between A and B."""
    roots = [abs(weight * update.scale) ** 0.5 for update, weight in parts]
    signs = [1.0 if weight * update.scale >= 0 else -1.0 for update, weight in parts]
    a = torch.cat([root * update.a.float() for (update, _), root in zip(parts, roots, strict=True)])
    b = [sign * root * update.b.float() for (update, _), root, sign in zip(parts, roots, signs, strict=True)]
    return LowRank(a, torch.cat(b, dim=1), 1.0)


def mix_of(library: Library, router: Router, rank: int = 0) -> Mix:
    """What `router` makes of the library's adapters, cut to `rank` (0: not cut).

    Raises:
        SettingsError: the router is not static, changes nothing or names an unknown adapter; a rank out of bounds.
        LibraryError: the library has no adapter that can be routed.
    """
    names = _routable_names(library, library.names)
    router.check(names)
    label, rank = router.label, checked_rank(rank)
    if isinstance(router, LinearMerge):  # as a merge it would be cut twice, and read adapters of weight 0
        rank = min(filter(None, (rank, router.rank)), default=0)
        label = replace(router, rank=0).label
        router = Weighted(router.weights) if router.weights else Uniform()
    if isinstance(router, MergeRouter):
        return Mix(library, label, rank, dict.fromkeys(names, 1.0), router)
    if not isinstance(router, FixedRouter):
        fix = "Choose single, uniform, weighted, linear or ties, a cluster's mean, or the folder for PEFT's Arrow."
        raise SettingsError(
            router.title, "decides anew for each token, so that no one adapter can do the same", fix=fix
        )
    weights = {name: weight for name, weight in zip(names, router.fixed(names), strict=True) if weight}
    if not weights:
        raise SettingsError(router.label, "leaves the base model as it is, so there is nothing to export")
    return Mix(library, label, rank, weights, router)


def cluster_mix(library: Library, cluster: str, members: Sequence[str], rank: int = 0) -> Mix:
    """The mean of those of one cluster's adapters that can be routed.

    Raises:
        LibraryError: none can, or one is not in the library.
        SettingsError: the rank is out of bounds.
    """
    names = _routable_names(library, members, cluster)
    return Mix(library, f"Mean of {cluster}", checked_rank(rank), dict.fromkeys(names, 1.0 / len(names)), Uniform())


def checked_rank(rank: int) -> int:
    """The rank itself.

    Raises:
        SettingsError: it is no whole number from 0 to 4096.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= MAX_RANK:
        raise SettingsError("Rank", expected=f"a whole number from 0 to {MAX_RANK}", found=repr(rank)[:40])
    return rank


def _routable_names(library: Library, wanted: Sequence[str], where: str = "") -> tuple[str, ...]:
    names = tuple(name for name in wanted if library[name].can_be_routed)
    if not names:
        raise LibraryError(where or library.title, "holds no adapter that can be routed, so there is nothing to export")
    return names
