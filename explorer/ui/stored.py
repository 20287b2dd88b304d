"""The stored, real run that the page opens with: a library record and a prompt record in `assets/first_view`."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from explorer.records.library_record import LibraryRecord, from_json
from explorer.records.prompt_record import PromptRecord, read_prompt_record
from explorer.ui.assets_files import FOLDER

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StoredView:
    """What is shown before anything was computed."""

    library: LibraryRecord
    prompt: PromptRecord


def read_stored_view() -> StoredView | None:
    """The stored view, None where it is missing or does not fit together."""
    folder = FOLDER / "first_view"
    try:
        library = from_json((folder / "library.json").read_text(encoding="utf-8"))
        prompt = read_prompt_record(folder)
    except (OSError, ValueError):
        LOGGER.warning("no stored first view in %s", folder.name)
        return None
    if prompt.library_hash != library.content_hash:
        LOGGER.warning("the stored prompt and the stored library do not belong together")
        return None
    return StoredView(library, prompt)
