"""Under which name a result that was computed from adapters may be kept."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.adapters.adapter import Adapter
from explorer.adapters.stored_updates import StoredUpdates
from explorer.cache import key_of


def adapters_key(kind: str, adapters: Sequence[Adapter], *parts: str) -> str | None:
    """A key for what is computed from these adapters in this order; None where some live in memory only."""
    identities = [adapter.updates.identity for adapter in adapters if isinstance(adapter.updates, StoredUpdates)]
    return key_of(kind, *parts, *identities) if len(identities) == len(adapters) else None
