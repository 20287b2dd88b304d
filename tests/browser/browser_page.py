"""A running page for the browser tests: the server in a process of its own, Chromium, and what a reader would do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from adapter_files import write_adapter
from tiny_models import tiny_tokenizer

LAYERS = 6
WIDTH = 64
STARTING = 180.0
#: Seconds that a reader waits for anything: on a busy machine a fresh environment compiles UMAP for half a minute.
PATIENCE = 180.0
SITES = {
    f"model.layers.{layer}.self_attn.{name}": (4, WIDTH, WIDTH)
    for layer in range(LAYERS)
    for name in ("q_proj", "o_proj")
}


def chromium() -> str | None:
    """The browser to use, None where there is none."""
    named = os.environ.get("EXPLORER_CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next((path for path in found if path), None)


def small_model(folder: Path) -> Path:
    """A random model on disk, slow enough that one can watch it write and press Stop."""
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=128,
        max_position_embeddings=1024,
        vocab_size=304,
        bos_token_id=None,
        eos_token_id=303,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def small_library(folder: Path, base: Path | str, names: list[str]) -> Path:
    """A folder of random adapters for that model."""
    for seed, name in enumerate(names):
        write_adapter(folder / name, SITES, seed=seed, base_model=str(base))
    return folder


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(library: str, scratch: Path, **environment: str) -> Iterator[str]:
    """The page with this library; its address."""
    port = free_port()
    command = [sys.executable, "-m", "explorer", "--port", str(port), "--library", library]
    log = (scratch / f"server-{port}.log").open("w")
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(scratch / "uploads"), **environment}
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=settings)
    try:
        _wait_for(f"http://127.0.0.1:{port}/", process, Path(log.name))
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + STARTING
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the page was not served:\n{log.read_text()}")


class Reader:
    """One person at the page: a browser page with what it complained about and whom it asked."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.outside: list[str] = []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.outside.append(request.url)

    def open(self, query: str = "") -> Reader:
        self.page.goto(self.url + query)
        self.page.wait_for_selector("#map-plot .points path", state="attached")
        return self

    def status(self) -> str:
        return str(self.page.inner_text("#status"))

    def wait_status(self, words: str) -> str:
        self.page.wait_for_function("words => document.querySelector('#status')?.innerText.includes(words)", arg=words)
        return self.status()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def put(self, selector: str, text: str) -> None:
        """Type into a field until it stands there: one whose section has just been opened may yet take its first value.

        Nobody types within the milliseconds in which that happens; a test does.
        """
        for _ in range(10):
            self.page.fill(selector, text)
            self.page.press(selector, "Tab")
            self.page.wait_for_timeout(600)
            if self.page.input_value(selector) == text:
                return
        raise AssertionError(f"{selector} does not keep {text!r}")

    def type_prompt(self, text: str) -> None:
        self.page.fill("#prompt textarea", text)

    def cells(self) -> str:
        """What the overview heat map shows, as one text."""
        return str(
            self.page.evaluate("JSON.stringify(document.querySelector('#overview-plot .js-plotly-plot').data[0].z)")
        )

    def names_on_map(self) -> set[str]:
        script = "[...document.querySelector('#map-plot .js-plotly-plot').data].flatMap(t => t.customdata || [])"
        return set(self.page.evaluate(script))
