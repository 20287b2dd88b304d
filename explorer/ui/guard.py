"""Every handler answers: an expected failure becomes a sentence on the status line, a bug one that says so.

Handlers return (or yield) a dictionary component -> value; what is not named stays as it is. So a failure leaves
everything on the page where it was.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from explorer.errors import ExplorerError
from explorer.ui.answers import status_html

LOGGER = logging.getLogger(__name__)
Updates = dict[Any, Any]


def sentence_for(error: BaseException) -> str:
    """What a reader is told about a failure."""
    if isinstance(error, ExplorerError):
        return error.sentence
    LOGGER.error("unexpected failure", exc_info=error)
    return f"Something went wrong inside the explorer ({type(error).__name__}). It was logged; nothing was changed."


def guarded(status: gr.HTML) -> Callable[[Callable[..., Updates]], Callable[..., Updates]]:
    """Wrap a handler that returns updates."""

    def wrap(handler: Callable[..., Updates]) -> Callable[..., Updates]:
        @functools.wraps(handler)
        def safe(*arguments: Any, **named: Any) -> Updates:
            try:
                return handler(*arguments, **named) or {status: gr.skip()}
            except Exception as error:  # the page never shows a traceback
                return {status: status_html("error", sentence_for(error))}

        return safe

    return wrap


def guarded_stream(
    status: gr.HTML,
) -> Callable[[Callable[..., Iterator[Updates]]], Callable[..., Iterator[Updates]]]:
    """Wrap a handler that yields updates."""

    def wrap(handler: Callable[..., Iterator[Updates]]) -> Callable[..., Iterator[Updates]]:
        @functools.wraps(handler)
        def safe(*arguments: Any, **named: Any) -> Iterator[Updates]:
            try:
                yield from handler(*arguments, **named)
            except Exception as error:  # the page never shows a traceback
                yield {status: status_html("error", sentence_for(error))}

        return safe

    return wrap
