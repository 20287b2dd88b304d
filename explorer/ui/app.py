"""The page, put together: parts, events, and how it is served."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from explorer.ui import pictures, theme
from explorer.ui.assets_files import read_asset
from explorer.ui.bridge import page_bridge
from explorer.ui.desk import Desk
from explorer.ui.events import connect
from explorer.ui.options import LIMITS, PageOptions
from explorer.ui.page_acts import first_words
from explorer.ui.preload import preload_head
from explorer.ui.public import public_endpoints
from explorer.ui.sessions import Session
from explorer.ui.shell import shell
from explorer.ui.state import TABS
from explorer.ui.tab_compare import compare_tab
from explorer.ui.tab_evaluate import evaluate_tab
from explorer.ui.tab_library import library_tab
from explorer.ui.tab_routing import routing_tab
from explorer.ui.wire import Wire

CACHE_SECONDS = 3_600
MOST_WAITING = 64


def build_app(options: PageOptions | None = None, desk: Desk | None = None) -> gr.Blocks:
    """The page as Gradio blocks; nothing is loaded yet (see :meth:`Desk.start`).

    Args:
        options: how it is started.
        desk: what its sessions share, by default one made from `options`.
    """
    desk = desk or Desk(options or PageOptions())
    view = desk.fresh_view()
    initial = pictures.everything(view)
    model = desk.model_state(Session(view))
    with gr.Blocks(
        title="LoRA library explorer", analytics_enabled=False, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)
    ) as demo:
        picks = page_bridge()
        parts: dict[str, Any] = shell(view, model, initial, first_words(view))
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab(TABS[0], id=TABS[0]):
                parts |= library_tab(view, initial, allow_local=desk.options.allow_local)
            with gr.Tab(TABS[1], id=TABS[1]):
                parts |= routing_tab(view, initial)
            with gr.Tab(TABS[2], id=TABS[2]):
                parts |= compare_tab(view, model, initial)
            with gr.Tab(TABS[3], id=TABS[3]):
                parts |= evaluate_tab(view, model, initial)
        parts |= {"tabs": tabs, "picks": picks, "page": demo}
        connect(Wire(desk, parts))
        public_endpoints(desk)
    demo.queue(max_size=MOST_WAITING, default_concurrency_limit=4)
    return demo


def launch_settings() -> dict[str, Any]:
    """What `Blocks.launch` needs besides where to serve: looks, limits, nothing that calls out."""
    return {
        "theme": theme.theme(),
        "css": theme.css() + read_asset("layout.css"),
        "head": theme.head() + preload_head(),
        "max_file_size": LIMITS.upload,
        "run_history": False,
        "ssr_mode": False,
        "footer_links": ["api"],
    }


def launch(*, library: str = "sample", host: str = "127.0.0.1", port: int = 7860, share: bool = False) -> None:
    """Serve the page until it is stopped.

    Args:
        library: what it opens with.
        host: address to serve on.
        port: port; 0 takes any that is free.
        share: also make a public link through Gradio's relay.
    """
    _end_in_order_when_terminated()
    desk = Desk(PageOptions(library=library, host=host, port=port, share=share))
    demo = build_app(desk=desk)
    desk.start()
    demo.launch(server_name=host, server_port=port or None, share=share, **launch_settings())


def _end_in_order_when_terminated() -> None:
    """SIGTERM ends the program as Ctrl+C does, so that what was unpacked for open libraries is removed."""
    if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
