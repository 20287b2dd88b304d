"""`ui`, and no command at all: the page."""

from __future__ import annotations

from explorer.commands.command import Command, Options, Parser, text, whole
from explorer.commands.opening import LIBRARY_HELP


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "--host", metavar="NAME", type=text, default="127.0.0.1", help="address to serve on (127.0.0.1)"
    )
    parser.add_argument("--port", metavar="N", type=whole(0, 65535), default=7860, help="port to serve on (7860)")
    parser.add_argument("--share", action="store_true", help="also make a public link through Gradio's relay")
    parser.add_argument("--library", metavar="LIBRARY", type=text, default="sample", help=LIBRARY_HELP)


def run(options: Options) -> None:
    """Serve the page until it is stopped."""
    from explorer.ui.app import launch

    launch(library=options.library, host=options.host, port=options.port, share=options.share)


COMMAND = Command("ui", "open the page (also what happens without a command)", add_options, run)
