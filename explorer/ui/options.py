"""How a page is started, and the bounds that hold for everything a page's user can ask for."""

from __future__ import annotations

from dataclasses import dataclass

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Settings of one running page.

    Attributes:
        library: what it opens with: `sample`, a sample's name, a folder, a zip or a hub repository.
        host: address to serve on; None leaves the choice to Gradio (a Space).
        port: port to serve on; None takes the first free one from 7860.
        share: also make a public link.
        store_bytes: adapters of all sessions together may take about so much memory.
        idle_seconds: a session that was not used for so long gives its library back.
    """

    library: str = "sample"
    host: str | None = None
    port: int | None = None
    share: bool = False
    store_bytes: int = 4 << 30
    idle_seconds: float = 3600.0

    @property
    def allow_local(self) -> bool:
        """Whether people at the page may name folders of this machine: only where nobody else can reach it."""
        return self.host in LOCAL_HOSTS and not self.share


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for.

    `trace_numbers`: sites x tokens x adapters of one routed text; `file_...`: a user's own file of rows to evaluate;
    `scored_rows`: rows x routers of one evaluation.
    """

    prompt_characters: int = 8_000
    prompt_tokens: int = 1_024
    new_tokens: int = 256
    columns: int = 4
    upload: str = "2gb"
    trace_numbers: int = 32_000_000
    export_bytes: int = 1 << 30
    file_bytes: int = 4 << 20
    file_rows: int = 2_000
    file_tasks: int = 40
    file_routers: int = 8
    scored_rows: int = 4_000
    updates_per_second: float = 8.0


LIMITS = Limits()
