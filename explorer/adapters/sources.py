"""Where a library can come from: a shipped sample, a folder, a zip, a repository on the hub."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from explorer.adapters.folders import open_folder
from explorer.adapters.library import Library
from explorer.adapters.peft_format import ShapesOf
from explorer.adapters.safe_zip import ZipLimits, unpack
from explorer.adapters.safetensors_header import shown
from explorer.errors import LibraryError

SAMPLES = Path(__file__).parents[2] / "sample_libraries"
DEFAULT_SAMPLE = "smollm2-135m-private"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
HUB_FILES = ["*.json", "*.md", "*.safetensors"]
Report = Callable[[str], None]


def sample_names() -> tuple[str, ...]:
    """The sample libraries that came with this program."""
    if not SAMPLES.is_dir():
        return ()
    return tuple(sorted(item.name for item in SAMPLES.iterdir() if item.is_dir() and not item.name.startswith(".")))


def open_library(
    source: str | Path,
    *,
    shapes_of: ShapesOf | None = None,
    allow_local: bool = True,
    limits: ZipLimits | None = None,
) -> Library:
    """Open a library by whatever names it.

    Args:
        source: `sample` or a sample's name, a folder, a .zip file, or a hub repository id (`owner/name`).
        shapes_of: see :func:`explorer.adapters.folders.open_folder`.
        allow_local: false where folders and files of this machine must not be named (a hosted page).
        limits: what a zip or a repository may hold.

    Raises:
        LibraryError: the source is unknown or out of reach, or holds nothing that can be used.
    """
    text = str(source).strip()
    if text == "sample" or text in sample_names():
        name = DEFAULT_SAMPLE if text == "sample" else text
        return open_folder(SAMPLES / name, source=name, shapes_of=shapes_of)
    path = Path(text).expanduser()
    if allow_local and text and _exists(path):
        if path.is_dir():
            return open_folder(path, source=path.resolve().name, shapes_of=shapes_of)
        return open_zip(path, shapes_of=shapes_of, limits=limits)
    if REPOSITORY.fullmatch(text):
        return _open_repository(text, shapes_of, limits or ZipLimits())
    raise LibraryError(
        shown(text) or "Library",
        "is not a library that can be found",
        fix=f"Give 'sample', one of {', '.join(sample_names()) or '(no samples)'}, "
        + ("a folder, a .zip file or " if allow_local else "")
        + "a hub repository as owner/name.",
    )


def open_zip(
    path: Path, *, name: str = "", shapes_of: ShapesOf | None = None, limits: ZipLimits | None = None
) -> Library:
    """Open a zipped library; what was unpacked is removed by `Library.close`.

    Raises:
        LibraryError: see :func:`explorer.adapters.safe_zip.unpack`; nothing is left behind.
    """
    name = name or path.name
    scratch = Path(tempfile.mkdtemp(prefix="lora-library-"))
    try:
        unpacked = unpack(path, scratch, limits)
        return open_folder(
            scratch,
            source=shown(name),
            title=shown(Path(name).stem),
            shapes_of=shapes_of,
            pickles=unpacked.pickles,
            on_close=lambda: shutil.rmtree(scratch, ignore_errors=True),
        )
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL
        return False


def _open_repository(name: str, shapes_of: ShapesOf | None, limits: ZipLimits) -> Library:
    """Fetch a repository's adapter files into a folder of their own, within the limits of a zip."""
    import huggingface_hub  # noqa: PLC0415 - slow to import, and rarely needed
    from httpx import HTTPError  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    scratch = Path(tempfile.mkdtemp(prefix="lora-library-"))
    try:
        info = huggingface_hub.HfApi().model_info(name, files_metadata=True, timeout=10)
        _check_repository(name, [(item.rfilename, item.size or 0) for item in info.siblings or []], limits)
        huggingface_hub.snapshot_download(name, revision=info.sha, allow_patterns=HUB_FILES, local_dir=scratch)
        return open_folder(
            scratch,
            source=name,
            title=name,
            shapes_of=shapes_of,
            on_close=lambda: shutil.rmtree(scratch, ignore_errors=True),
        )
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise LibraryError(
            name, "could not be fetched from the model hub", fix="Check the name and the connection."
        ) from error
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _check_repository(name: str, files: list[tuple[str, int]], limits: ZipLimits) -> None:
    wanted = [(path, size) for path, size in files if path.endswith(tuple(ending[1:] for ending in HUB_FILES))]
    if not any(path.endswith("adapter_config.json") for path, _ in wanted):
        raise LibraryError(name, "holds no adapter_config.json", fix="Name a repository of PEFT adapters.")
    if len(files) > limits.entries or sum(size for _, size in wanted) > limits.total_bytes:
        raise LibraryError(name, f"is too large to open (over {limits.total_bytes >> 30} GB or too many files)")
