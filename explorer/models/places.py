"""Where a library's adapters sit in a base model, and putting modules there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explorer.adapters.adapter import Adapter
from explorer.errors import BaseModelError, LibraryError
from explorer.models.base import BaseModel
from explorer.routing.bank import Bank
from explorer.routing.routed_linear import PassSlot, RoutedLinear, linear_shape


@dataclass(frozen=True, eq=False)
class Place:
    """One site: its module stands in `parent` under the name `child`, and `routed` may stand in for it."""

    parent: nn.Module
    child: str
    routed: RoutedLinear

    def attach(self) -> None:
        """Put the routed module in (into the parent's own table: this happens at every pass, and setattr is slow)."""
        self.parent._modules[self.child] = self.routed

    def detach(self) -> None:
        """Put the very module of the base model back."""
        self.parent._modules[self.child] = self.routed.base


def places(model: Any, banks: Sequence[Bank], slot: PassSlot) -> tuple[Place, ...]:
    """One place for each site of each bank; nothing is attached yet. The sites must be in the model (`check_fit`)."""
    found = []
    for bank in banks:
        for index, site in enumerate(bank.sites):
            parent, _, child = site.rpartition(".")
            module = _bare(model.get_submodule(site))
            found.append(Place(model.get_submodule(parent), child, RoutedLinear(module, bank, index, slot).eval()))
    return tuple(found)


def shared_inputs(model: Any, sites: Sequence[str]) -> list[tuple[str, ...]]:
    """The sites in groups that read the very same tensor (a layer's q, k and v), found by running one token.

    Sites that the token does not reach, such as experts that were not chosen, stay alone. Groups and their members
    keep the order of `sites`.
    """
    inputs: dict[str, Tensor] = {}

    def watch(site: str) -> Any:
        return lambda _, args: inputs.setdefault(site, args[0]) if args else None

    hooks = [_bare(model.get_submodule(site)).register_forward_pre_hook(watch(site)) for site in sites]
    try:
        with torch.no_grad():
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[object, list[str]] = {}
    for site in sites:
        groups.setdefault(id(inputs[site]) if site in inputs else site, []).append(site)
    return [tuple(group) for group in groups.values()]


def check_fit(adapters: Sequence[Adapter], base: BaseModel) -> None:
    """Check that every site of every adapter is a linear module of the base model, of the right shape.

    Raises:
        LibraryError: a site is not in the base model, or has another shape.
        BaseModelError: the module at a site is of a kind that cannot be routed.
    """
    modules = {name: _bare(module) for name, module in base.model.named_modules()}
    for adapter in adapters:
        for site, form in adapter.forms.items():
            where = f"Adapter {adapter.name!r}, module {site}"
            if site not in modules:
                raise LibraryError(where, f"is not in {base.name}", fix="Choose the base model it was trained on.")
            shape = linear_shape(modules[site])
            if shape is None:
                kind = type(modules[site]).__name__
                raise BaseModelError(where, expected="a plain Linear or Conv1D in the base model", found=kind)
            if shape != form.shape:
                raise LibraryError(where, f"does not fit {base.name}", expected=str(shape), found=str(form.shape))


def _bare(module: nn.Module) -> nn.Module:
    """The base model's own module, also where another library is attached at this moment."""
    return module.base if isinstance(module, RoutedLinear) else module
