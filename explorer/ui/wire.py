"""Events of the page: from a control to a handler, from its answer back to the parts, and what goes wrong in words.

A handler is `handler(desk, session, *values)`; it returns names of parts with their new values, or yields several such
answers. It knows no request and raises ExplorerError for what a user can put right; the status line shows its sentence
and everything else stays as it was.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gradio as gr

from explorer.errors import ExplorerError
from explorer.ui.answers import status_html
from explorer.ui.desk import Desk
from explorer.ui.pictures import Updates
from explorer.ui.sessions import Session

LOG = logging.getLogger(__name__)
STATUS = "status"
Handler = Callable[..., "Updates | Iterator[Updates]"]


class Wire:
    """Connects controls to handlers.

    Args:
        desk: what all sessions share.
        parts: the components by name.
    """

    def __init__(self, desk: Desk, parts: Mapping[str, Any]) -> None:
        self.desk, self.parts = desk, parts

    def on(
        self,
        triggers: Sequence[Any],
        handler: Handler,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        *,
        picks: bool = False,
        **options: Any,
    ) -> Any:
        """Call `handler` when one of `triggers` fires.

        Args:
            triggers: gradio's event methods, such as `button.click`.
            handler: see above; a generator function streams.
            inputs: names of the parts whose values it gets.
            outputs: names of the parts it may change (the status line comes by itself).
            picks: the handler gets gradio's event data after the session.
            options: for :func:`gradio.on`.
        """
        settings = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "preprocess": False,  # values are checked by the handlers, which say in words what does not fit
            "concurrency_limit": None,
            **options,
        }
        # events of a gr.HTML are made up on the spot and can be called, but not put into gr.on
        listen = triggers[0] if len(triggers) == 1 else partial(gr.on, list(triggers))
        return listen(
            self._wrapped(handler, picks),
            inputs=[self.parts[name] for name in inputs],
            outputs=[self.parts[name] for name in dict.fromkeys([*outputs, STATUS])],
            **settings,
        )

    def _wrapped(self, handler: Handler, picks: bool) -> Callable[..., Any]:
        """The function that gradio calls; it reads its kind and its special arguments off the signature."""
        streams = inspect.isgeneratorfunction(handler)

        def answer(request: gr.Request, *values: Any) -> dict[Any, Any]:
            return self._named(next(self._guarded(handler, request, values), {}))

        def answer_pick(request: gr.Request, picked: gr.EventData, *values: Any) -> dict[Any, Any]:
            return self._named(next(self._guarded(handler, request, (picked, *values)), {}))

        def stream(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
            with closing(self._guarded(handler, request, values)) as answers:
                for updates in answers:
                    yield self._named(updates)

        if streams:
            return stream
        return answer_pick if picks else answer

    def _named(self, updates: Updates) -> dict[Any, Any]:
        if not updates:  # gradio takes an empty dict for a value
            return {self.parts[STATUS]: gr.skip()}
        return {self.parts[name]: value for name, value in updates.items()}

    def _guarded(self, handler: Handler, request: gr.Request, values: Sequence[Any]) -> Generator[Updates]:
        """The handler's answers; an error becomes the last of them."""
        answers: Any = None
        try:
            session = self.session(request)
            answers = handler(self.desk, session, *values)
            if isinstance(answers, dict):
                yield answers
            else:
                yield from answers
        except ExplorerError as error:
            yield {STATUS: status_html("error", error.sentence)}
        except Exception as error:
            LOG.exception("the handler %s", handler.__name__)
            words = f"Something went wrong inside the explorer ({type(error).__name__}); it was logged."
            yield {STATUS: status_html("error", words)}

    def session(self, request: gr.Request) -> Session:
        """The session that a request belongs to."""
        return self.desk.sessions.get(request.session_hash or "")
