"""Base models of a page: loaded in the background, a bounded number kept, their state told in one line."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from explorer.errors import BaseModelError, ExplorerError
from explorer.models.base import BaseModel, is_folder, load_base_model

LOG = logging.getLogger(__name__)
Load = Callable[..., BaseModel]
Kind = Literal["none", "loading", "ready", "failed"]


@dataclass(frozen=True)
class ModelState:
    """Where a base model stands; `text` is what it is doing, or why it failed."""

    kind: Kind
    text: str = ""


class _Slot:
    """One base model on its way or there."""

    def __init__(self) -> None:
        self.state = ModelState("loading", "Loading the base model")
        self.model: BaseModel | None = None
        self.done = threading.Event()


class Engine:
    """Keeps the `most` base models that were used last.

    Args:
        load: as :func:`explorer.models.base.load_base_model`.
        most: how many models are kept.
    """

    def __init__(self, load: Load = load_base_model, most: int = 2) -> None:
        self._load, self._most = load, most
        self._slots: OrderedDict[tuple[str, bool], _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def state(self, name: str, *, trusted: bool) -> ModelState:
        """Where the model called `name` stands."""
        if not name:
            return ModelState("failed", "The adapters of this library name no base model, so they cannot be routed.")
        with self._lock:
            slot = self._slots.get(_key(name, trusted))
        return slot.state if slot else ModelState("none")

    def start(self, name: str, *, trusted: bool) -> None:
        """Begin to load the model in the background, unless it is there, on its way or was already refused."""
        if name and self.state(name, trusted=trusted).kind == "none":
            self._begin(_key(name, trusted))

    def model(self, name: str, *, trusted: bool, waiting: Callable[[str], None] | None = None) -> BaseModel:
        """The model, loaded if need be; one that failed is tried again.

        Raises:
            BaseModelError: it cannot be had.
        """
        if not name:
            raise BaseModelError(
                "The library", "names no base model", fix="Its map, table and cards work all the same."
            )
        key = _key(name, trusted)
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None and slot.model is not None:
                self._slots.move_to_end(key)
                return slot.model
        if slot is None or slot.state.kind == "failed":
            slot = self._begin(key)
        while not slot.done.wait(0.3):
            if waiting is not None:
                waiting(slot.state.text)
        if slot.model is None:
            raise BaseModelError(name, "is not available for routing", fix=slot.state.text)
        return slot.model

    def _begin(self, key: tuple[str, bool]) -> _Slot:
        with self._lock:
            present = self._slots.get(key)
            if present is not None and present.state.kind in ("loading", "ready"):
                return present
            slot = self._slots[key] = _Slot()
            self._forget_oldest()
        threading.Thread(target=self._fill, args=(key, slot), name=f"load {key[0]}", daemon=True).start()
        return slot

    def _forget_oldest(self) -> None:
        settled = [key for key, slot in self._slots.items() if slot.done.is_set()]
        for key in settled[: max(len(self._slots) - self._most, 0)]:
            del self._slots[key]

    def _fill(self, key: tuple[str, bool], slot: _Slot) -> None:
        def report(line: str) -> None:
            slot.state = ModelState("loading", line)

        try:
            slot.model = self._load(key[0], allow_local=key[1], report=report)
            slot.state = ModelState("ready", str(slot.model.device.type).upper())
        except ExplorerError as error:
            slot.state = ModelState("failed", error.sentence)
        except Exception:
            LOG.exception("loading the base model %s", key[0])
            slot.state = ModelState("failed", "The base model could not be loaded; the reason was logged.")
        finally:
            slot.done.set()


def _key(name: str, trusted: bool) -> tuple[str, bool]:
    """The model, and whether a local folder is meant; an untrusted library never means one."""
    return name, trusted and is_folder(name)
