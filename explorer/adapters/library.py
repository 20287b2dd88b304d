"""A library: named adapters in a fixed order, with the report on everything that was found beside them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from explorer.adapters.adapter import Adapter, Verdict
from explorer.adapters.natural_order import natural_key as natural_key
from explorer.errors import LibraryError


class Library:
    """Adapters that belong together.

    Args:
        adapters: accepted and map-only adapters; their names must differ.
        verdicts: one per candidate found, refused ones included, in the order found.
        title, description, license_name: from the library's `library.json`, or made from the source.
        clusters: how many its `library.json` says to look at first; None where that is left to the silhouette.
        source: what the user asked for, fit to be shown.
        remarks: sentences on the library as a whole (what of `library.json` could not be used).
        folder: where its files lie, with whatever else came along; gone once an unpacked library is closed.
        on_close: called once when the library is closed (removes a temporary folder).

    Raises:
        LibraryError: no adapter, or two of one name.
    """

    def __init__(
        self,
        adapters: Sequence[Adapter],
        *,
        verdicts: Sequence[Verdict] = (),
        title: str = "",
        description: str = "",
        license_name: str = "",
        clusters: int | None = None,
        source: str = "",
        remarks: Sequence[str] = (),
        folder: Path | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        if not adapters:
            raise LibraryError(source or "Library", "holds no usable adapter", fix="See the report for each reason.")
        names = [adapter.name for adapter in adapters]
        if len(set(names)) != len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise LibraryError(source or "Library", f"has two adapters called {twice!r}", fix="Rename one.")
        self.adapters = tuple(adapters)
        self.verdicts = tuple(verdicts) or tuple(adapter.verdict for adapter in adapters)
        self.title = title or source or "Library"
        self.description = description
        self.license_name = license_name
        self.clusters = clusters
        self.source = source
        self.remarks = tuple(remarks)
        self.folder = folder
        self._by_name = dict(zip(names, self.adapters, strict=True))
        self._on_close = on_close

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all adapters shown, in order."""
        return tuple(self._by_name)

    @property
    def routable(self) -> tuple[Adapter, ...]:
        """The adapters that routers may use, in order."""
        return tuple(adapter for adapter in self.adapters if adapter.can_be_routed)

    @cached_property
    def base_model(self) -> str:
        """The base model named by most routable adapters ("" if none names one)."""
        counts = Counter(adapter.base_model for adapter in self.routable or self.adapters)
        return counts.most_common(1)[0][0]

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Every site that any adapter has, in natural order."""
        return tuple(sorted({site for adapter in self.adapters for site in adapter.updates}, key=natural_key))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the adapters' names and content."""
        text = "\n".join(f"{adapter.name} {adapter.content_hash}" for adapter in self.adapters)
        return hashlib.sha256(text.encode()).hexdigest()

    def __getitem__(self, name: str) -> Adapter:
        """The adapter called `name`.

        Raises:
            LibraryError: there is none; the message lists the names.
        """
        if name not in self._by_name:
            shown = ", ".join(self.names[:30]) + (" ..." if len(self.names) > 30 else "")
            raise LibraryError(f"Adapter {name!r}", "is not in this library", fix=f"It has: {shown}.")
        return self._by_name[name]

    def __contains__(self, item: object) -> bool:
        """Whether there is an adapter of this name (or this very adapter)."""
        return item in self._by_name if isinstance(item, str) else item in self.adapters

    def __len__(self) -> int:
        return len(self.adapters)

    def __iter__(self) -> Iterator[Adapter]:
        return iter(self.adapters)

    def close(self) -> None:
        """Remove what was unpacked for this library, whose updates can then be read no more; safe to call twice."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
