"""The page's named endpoints for other programs: /library, /route, /generate, /compare.

A client's session has its own library like any page; `/library` opens one, the others work on it. What goes wrong
arrives as Gradio's error with the same sentence that the page would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from explorer.errors import ExplorerError, LibraryError
from explorer.models.events import TokenEmitted
from explorer.routing.router import Router
from explorer.ui.choices import check_size, choice_of, prompt_text, router_of
from explorer.ui.desk import Desk
from explorer.ui.options import LIMITS
from explorer.ui.routing_acts import read_sampling
from explorer.ui.sessions import Session
from explorer.ui.streams import AnswerStream, Pace
from explorer.ui.traces_view import shares, top_adapter_per_token


@contextmanager
def _told() -> Iterator[None]:
    """Expected failures as Gradio's own error."""
    try:
        yield
    except ExplorerError as error:
        raise gr.Error(error.sentence, print_exception=False) from error


def public_endpoints(desk: Desk) -> None:
    """Add the four endpoints to the page that is being built."""
    for name, endpoint in {
        "library": _library(desk),
        "route": _route(desk),
        "generate": _generate(desk),
        "compare": _compare(desk),
    }.items():
        gr.api(endpoint, api_name=name, concurrency_limit=4)


def _session(desk: Desk, request: gr.Request) -> Session:
    return desk.sessions.get(request.session_hash or "")


def _library(desk: Desk) -> Callable[..., Any]:
    def library(source: str, request: gr.Request) -> dict[str, Any]:
        """Open a library for this client ("" or "current": tell about the one that is open)."""
        with _told():
            session = _session(desk, request)
            if source not in ("", "current"):
                candidate = desk.read(source)
                session.offer(candidate)
                desk.sessions.make_room(session)
                if session.adopt(candidate) is None:
                    raise LibraryError("The library", "was replaced meanwhile", fix="Open it again.")
            holding = desk.holding(session)
            record = holding.record()
            return {
                "title": record.title,
                "base_model": record.base_model,
                "content_hash": record.content_hash,
                "adapters": [
                    {"name": one.name, "status": one.status, "cluster": record.label(one.name), "reason": one.reason}
                    for one in record.adapters
                ],
                "refused": {v.name: v.reason for v in record.verdicts if v.status == "refused"},
            }

    return library


def _route(desk: Desk) -> Callable[..., Any]:
    def route(
        request: gr.Request,
        prompt: str,
        router: str = "arrow",
        top_k: int = 4,
        temperature: float = 1.0,
        adapter: str = "",
        chat: bool = True,
    ) -> dict[str, Any]:
        """Route a prompt: the share of each adapter, and for each token the adapter that weighs most."""
        with _told():
            model = desk.routed(_session(desk, request))
            chosen = _router(router, model.names, top_k, temperature, adapter)
            size = {"sites": len(model.sites), "adapters": len(model.names)}
            check_size(model.base, prompt_text(prompt), chat=chat is True, new_tokens=0, **size)
            trace = model.route(prompt, chosen, chat=chat is True)
            top = top_adapter_per_token(trace)
            return {
                "router": trace.router,
                "tokens": list(trace.tokens),
                "typed": list(trace.typed),
                "top_adapter": [trace.names[best] if best >= 0 else None for best in top],
                "shares": shares(trace),
            }

    return route


def _generate(desk: Desk) -> Callable[..., Any]:
    def generate(
        request: gr.Request,
        prompt: str,
        router: str = "arrow",
        top_k: int = 4,
        temperature: float = 1.0,
        adapter: str = "",
        chat: bool = True,
        max_new_tokens: int = 64,
        sampling_temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Answer a prompt; the answer so far comes again and again until it is whole."""
        with _told():
            model = desk.routed(_session(desk, request))
            chosen = _router(router, model.names, top_k, temperature, adapter)
            sampling = read_sampling(max_new_tokens, sampling_temperature, seed)
            new = sampling["max_new_tokens"]
            check_size(model.base, prompt_text(prompt), chat=chat is True, new_tokens=new, sites=0, adapters=0)
            text, pace = "", Pace()
            for event in model.generate(prompt, chosen, chat=chat is True, **sampling):
                if isinstance(event, TokenEmitted):
                    text += event.text
                    if pace.is_due():
                        yield text
            yield text

    return generate


def _compare(desk: Desk) -> Callable[..., Any]:
    def compare(
        request: gr.Request,
        prompt: str,
        routers: list[str],
        adapter: str = "",
        chat: bool = True,
        max_new_tokens: int = 64,
        sampling_temperature: float = 0.0,
        seed: int = 0,
    ) -> list[dict[str, Any]]:
        """Answer a prompt with up to four routers in one batch."""
        with _told():
            model = desk.routed(_session(desk, request))
            keys = routers[: LIMITS.columns] if isinstance(routers, list) else []
            chosen = [_router(key, model.names, 4, 1.0, adapter) for key in keys]
            sampling = read_sampling(max_new_tokens, sampling_temperature, seed)
            new = sampling["max_new_tokens"]
            check_size(model.base, prompt_text(prompt), chat=chat is True, new_tokens=new, sites=0, adapters=0)
            streams = [AnswerStream(router.label) for router in chosen]
            for event in model.generate(prompt, chosen, chat=chat is True, **sampling):
                streams[event.row].take(event)
            return [
                {
                    "router": one.column.label,
                    "text": one.column.text,
                    "tokens": one.column.tokens,
                    "seconds": one.seconds,
                }
                for one in streams
            ]

    return compare


def _router(key: Any, names: tuple[str, ...], top_k: Any, temperature: Any, adapter: Any) -> Router:
    """A router by its key; what it does not need is ignored."""
    given = {"top_k": top_k, "temperature": temperature, **({"name": adapter} if adapter else {})}
    return router_of(choice_of(key, given), names)
