"""A file of a package index by its address, wherever pip is set up to look, with pip's own proxy and certificates.

pip itself cannot be asked for every file: an sdist whose metadata names a direct URL is refused by newer releases even
as a plain download. So its configuration is read, and the index's simple page (PEP 503) searched for the file.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import os
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from http.client import HTTPResponse
from pathlib import Path
from typing import cast

SECONDS = 60
MOST_PAGE_BYTES = 16 << 20
SCHEMES = ("https", "http", "file")
SECTIONS = (":env:", "download", "global", "user", "site")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def pip_settings() -> dict[str, str]:
    """What pip is configured with, environment first: `index-url`, `proxy`, `cert` and the like; {} without pip."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return settings_from(listed)


def settings_from(listed: str) -> dict[str, str]:
    """The settings in lines such as `global.index-url='https://...'`."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section in found:
            with contextlib.suppress(ValueError, SyntaxError):
                found[section][name] = str(ast.literal_eval(value))
    return {name: text for section in reversed(SECTIONS) for name, text in found[section].items()}


class Web:
    """Reads addresses with the proxies and certificates of the environment and of pip.

    Names and passwords in an index's address go to that host alone.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        proxy = settings.get("proxy")
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None),
            urllib.request.HTTPSHandler(context=_trusted(settings)),
        )

    def open(self, url: str, accept: str = "*/*") -> contextlib.closing[HTTPResponse]:
        """The answer, to be read and closed.

        Raises:
            OSError: no answer, or not a good one.
            ValueError: it is no address, or of a kind that is not read.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"{parts.scheme or 'no scheme'} is not read")
        host = parts.netloc.rpartition("@")[2]
        bare = urllib.parse.urlunsplit(parts._replace(netloc=host))
        request = urllib.request.Request(bare, headers={"Accept": accept, "User-Agent": "lora-library-explorer"})  # noqa: S310 - checked above
        if parts.username:
            secret = f"{_unquoted(parts.username)}:{_unquoted(parts.password)}"
            coded = base64.b64encode(secret.encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {coded}")
        return contextlib.closing(cast(HTTPResponse, self._opener.open(request, timeout=SECONDS)))


def _unquoted(text: str | None) -> str:
    return urllib.parse.unquote(text or "")


def _trusted(settings: Mapping[str, str]) -> ssl.SSLContext:
    """The system's certificates (or SSL_CERT_FILE's), those that pip and its like are told of, and certifi's."""
    context = ssl.create_default_context()
    bundles = [settings.get("cert"), *(os.environ.get(name) for name in BUNDLES)]
    with contextlib.suppress(ImportError):
        import certifi  # noqa: PLC0415 - need not be there

        bundles.append(certifi.where())
    for bundle in bundles:
        if bundle and Path(bundle).is_file():
            with contextlib.suppress(OSError):  # ssl.SSLError, which is one: not a bundle
                context.load_verify_locations(cafile=bundle)
    return context


def addresses(web: Web, settings: Mapping[str, str], project: str, file: str) -> Iterator[str]:
    """Where the indexes that pip is set up with have the file called `file` of `project`; the good answers only."""
    indexes = [settings.get("index-url", ""), *settings.get("extra-index-url", "").split()]
    for index in filter(None, indexes):
        page = f"{index.rstrip('/')}/{project}/"
        with contextlib.suppress(OSError, ValueError):
            yield from _links(web, page, file)


def _links(web: Web, page: str, file: str) -> list[str]:
    place = page + "index.html" if page.startswith("file:") else page
    with web.open(place, accept="application/vnd.pypi.simple.v1+html, text/html;q=0.9") as answer:
        text = answer.read(MOST_PAGE_BYTES).decode("utf-8", "replace")
    links = _Links()
    links.feed(text)
    joined = (urllib.parse.urldefrag(urllib.parse.urljoin(place, link)).url for link in links.found)
    return [
        _with_secret(url, page) for url in joined if urllib.parse.unquote(url.rpartition("/")[2].split("?")[0]) == file
    ]


def _with_secret(url: str, page: str) -> str:
    """The page's name and password are also its own host's, where the link names none."""
    linked, known = urllib.parse.urlsplit(url), urllib.parse.urlsplit(page)
    secret, _, host = known.netloc.rpartition("@")
    if secret and (linked.scheme, linked.netloc) == (known.scheme, host):
        return urllib.parse.urlunsplit(linked._replace(netloc=known.netloc))
    return url


class _Links(HTMLParser):
    """Collects what the anchors of a page lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an anchor."""
        if tag == "a":
            self.found.extend(value for name, value in attrs if name == "href" and value)
