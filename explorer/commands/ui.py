"""`ui`, and no command at all: the page."""

from __future__ import annotations

import errno
import socket

from explorer.adapters.wording import shown
from explorer.commands.command import Command, Options, Parser, text, whole
from explorer.commands.opening import LIBRARY_HELP
from explorer.errors import SettingsError


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "--host", metavar="NAME", type=text, default="127.0.0.1", help="address to serve on (127.0.0.1)"
    )
    parser.add_argument("--port", metavar="N", type=whole(0, 65535), default=7860, help="port to serve on (7860)")
    parser.add_argument("--share", action="store_true", help="also make a public link through Gradio's relay")
    parser.add_argument("--library", metavar="LIBRARY", type=text, default="sample", help=LIBRARY_HELP)


def run(options: Options) -> None:
    """Serve the page until it is stopped; what can be seen to be wrong is said before the slow start."""
    check_address(options.host, options.port)
    from explorer.adapters.sources import check_source

    check_source(options.library)
    from explorer.ui.app import launch

    launch(library=options.library, host=options.host, port=options.port, share=options.share)


def check_address(host: str, port: int) -> None:
    """See that the page can be served there, by listening for a moment (port 0: any free one).

    Raises:
        SettingsError: another program has the port, or the address is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: closed ones do not count
            probe.bind(address)
            probe.listen()
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            fix = "Give another one, or 0 for any that is free."
            raise SettingsError(f"--port {port}", "is taken by another program", fix=fix) from error
        if isinstance(error, PermissionError):
            raise SettingsError(f"--port {port}", "needs more rights than this user has") from error
        raise SettingsError(f"--host {shown(host)}", "is no address of this machine") from error


COMMAND = Command("ui", "open the page (also what happens without a command)", add_options, run)
