"""Where a library's adapters sit in a base model, and putting modules there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from explorer.adapters.adapter import Adapter
from explorer.errors import BaseModelError, LibraryError
from explorer.models.base import BaseModel
from explorer.routing.routed_linear import PassSlot, RoutedLinear, linear_shape
from explorer.routing.router import SiteBank


@dataclass(frozen=True, eq=False)
class Place:
    """One site: its module stands in `parent` under the name `child`, and `routed` may stand in for it."""

    parent: nn.Module
    child: str
    routed: RoutedLinear

    def attach(self) -> None:
        """Put the routed module in."""
        setattr(self.parent, self.child, self.routed)

    def detach(self) -> None:
        """Put the very module of the base model back."""
        setattr(self.parent, self.child, self.routed.base)


def places(model: Any, banks: Mapping[str, SiteBank], slot: PassSlot) -> tuple[Place, ...]:
    """One place for each bank; nothing is attached yet. The sites must be in the model (see :func:`check_fit`)."""
    found = []
    for site, bank in banks.items():
        parent, _, child = site.rpartition(".")
        module = _bare(model.get_submodule(site))
        found.append(Place(model.get_submodule(parent), child, RoutedLinear(module, bank, slot).eval()))
    return tuple(found)


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
