"""The routers, for use from Python: `from explorer.routers import Arrow`."""

from __future__ import annotations

from explorer.routing.arrow import Arrow
from explorer.routing.base import Base
from explorer.routing.calibrated_arrow import CalibratedArrow
from explorer.routing.lag import Lag
from explorer.routing.linear_merge import LinearMerge
from explorer.routing.random_control import RandomControl
from explorer.routing.registry import ROUTERS, describe, make_router
from explorer.routing.single import Single
from explorer.routing.spectr import SpectR
from explorer.routing.ties import Ties
from explorer.routing.uniform import Uniform
from explorer.routing.weighted import Weighted

__all__ = [
    "ROUTERS",
    "Arrow",
    "Base",
    "CalibratedArrow",
    "Lag",
    "LinearMerge",
    "RandomControl",
    "Single",
    "SpectR",
    "Ties",
    "Uniform",
    "Weighted",
    "describe",
    "make_router",
]
