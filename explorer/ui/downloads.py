"""A file made for one visitor: kept in a folder of its own below gradio's, from where it is served, until it is closed.

Only files in that place are served at all. The folder's name is drawn at random: whoever knows it can fetch the file.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from gradio.utils import get_upload_folder


class Download:
    """A zip of a folder.

    Args:
        name: of the zip and of the folder in it, fit for a file name.
        fill: makes the folder.
    """

    def __init__(self, name: str, fill: Callable[[Path], None]) -> None:
        place = Path(get_upload_folder())
        place.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(dir=place, prefix=f"export-{secrets.token_hex(16)}-")
        self.path = Path(self._scratch.name) / f"{name}.zip"
        try:
            folder = self.path.with_suffix("")
            fill(folder)
            _zip(folder, self.path)
            shutil.rmtree(folder)
        except BaseException:
            self.close()
            raise

    @property
    def nbytes(self) -> int:
        """Size of the zip."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Remove the file; safe to call twice."""
        self._scratch.cleanup()


def _zip(folder: Path, path: Path) -> None:
    """Trained weights hardly get smaller: they are only put together."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
