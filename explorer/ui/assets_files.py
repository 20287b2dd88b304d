"""Where the page's style sheet, script and stored first view lie: the folder `assets` beside the package."""

from __future__ import annotations

from pathlib import Path

from explorer.errors import ExplorerError

FOLDER = Path(__file__).resolve().parents[2] / "assets"


def asset_path(name: str) -> Path:
    """The file or folder `name` in `assets`.

    Raises:
        ExplorerError: it is not there (the package was installed without its checkout).
    """
    path = FOLDER / name
    if not path.exists():
        raise ExplorerError(
            f"assets/{name}",
            "is missing",
            fix="Start the explorer from a checkout: pip install -e . keeps it in place.",
        )
    return path


def read_asset(name: str) -> str:
    """The text of a file in `assets`."""
    return asset_path(name).read_text(encoding="utf-8")
