"""The menu of routers. A new router is one new file and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.errors import SettingsError
from explorer.routing.arrow import Arrow
from explorer.routing.base import Base
from explorer.routing.calibrated_arrow import CalibratedArrow
from explorer.routing.lag import Lag
from explorer.routing.linear_merge import LinearMerge
from explorer.routing.random_control import RandomControl
from explorer.routing.router import Router
from explorer.routing.setting import Setting, settings_of
from explorer.routing.single import Single
from explorer.routing.spectr import SpectR
from explorer.routing.ties import Ties
from explorer.routing.uniform import Uniform
from explorer.routing.weighted import Weighted

#: In the order of a menu: those that route each token, then fixed mixes and merges, then the yardsticks.
ROUTERS: dict[str, type[Router]] = {
    router.key: router
    for router in (
        Arrow,
        CalibratedArrow,
        SpectR,
        Lag,
        Single,
        Uniform,
        Weighted,
        LinearMerge,
        Ties,
        RandomControl,
        Base,
    )
}


@dataclass(frozen=True)
class RouterDescription:
    """What a page or a command line needs to offer one router."""

    key: str
    title: str
    summary: str
    paper: str
    needs: str
    settings: tuple[Setting, ...]


def describe(key: str) -> RouterDescription:
    """Title, paper and settings of the router called `key`.

    Raises:
        SettingsError: there is no such router; the message lists those there are.
    """
    router = _router_class(key)
    return RouterDescription(router.key, router.title, router.summary, router.paper, router.needs, settings_of(router))


def make_router(key: str, **settings: Any) -> Router:
    """The router called `key` with these settings, for example `make_router("arrow", top_k=3)`.

    Raises:
        SettingsError: no such router, no such setting, one that is missing, or a value out of bounds.
    """
    router = _router_class(key)
    known = settings_of(router)
    for name in settings:
        if name not in {entry.name for entry in known}:
            menu = ", ".join(entry.name for entry in known) or "none"
            raise SettingsError(f"Router {router.key}", f"has no setting {name[:40]!r}", fix=f"It has: {menu}.")
    for entry in known:
        if entry.default is None and entry.name not in settings:
            raise SettingsError(f"Router {router.key}", f"needs {entry.name!r}", fix=entry.help)
    return router(**settings)


def _router_class(key: str) -> type[Router]:
    if key not in ROUTERS:
        raise SettingsError(f"Router {key[:40]!r}", "is not known", fix=f"Choose from: {', '.join(ROUTERS)}.")
    return ROUTERS[key]
