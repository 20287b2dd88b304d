"""The routers, for use from Python: `from explorer.routers import Arrow`."""

from __future__ import annotations

from explorer.routing.arrow import Arrow
from explorer.routing.base import Base
from explorer.routing.registry import ROUTERS, describe, make_router
from explorer.routing.single import Single
from explorer.routing.uniform import Uniform
from explorer.routing.weighted import Weighted

__all__ = ["ROUTERS", "Arrow", "Base", "Single", "Uniform", "Weighted", "describe", "make_router"]
