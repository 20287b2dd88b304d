"""Where a library can come from: a shipped sample, a folder, a zip, a repository on the hub."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from explorer.adapters.folders import open_folder
from explorer.adapters.library import Library
from explorer.adapters.peft_format import ShapesOf
from explorer.adapters.pickles import is_pickle
from explorer.adapters.safe_zip import ZipLimits, unpack
from explorer.adapters.wording import shown
from explorer.errors import LibraryError

SAMPLES = Path(__file__).parents[2] / "sample_libraries"
DEFAULT_SAMPLE = "smollm2-135m-private"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
HUB_FILES = ["*.json", "*.md", "*.safetensors"]


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
        source: `sample` or a sample's name, a folder, a .zip file, or a hub repository id (`owner/name`). A `Path`
            always means a folder or a file.
        shapes_of: see :func:`explorer.adapters.folders.open_folder`.
        allow_local: false where folders and files of this machine must not be named (a hosted page).
        limits: what a zip or a repository may hold.

    Raises:
        LibraryError: the source is unknown or out of reach, or holds nothing that can be used.
    """
    text = str(source).strip()
    samples = sample_names()
    if not isinstance(source, Path) and (text == "sample" or text in samples):
        name = DEFAULT_SAMPLE if text == "sample" else text
        if name not in samples:
            raise LibraryError("The sample library", "did not come with this installation", fix=_accepted(allow_local))
        return open_folder(SAMPLES / name, source=name, shapes_of=shapes_of)
    path = _local_path(text) if allow_local and text else None
    if path is not None and path.is_dir():
        return open_folder(path, source=path.resolve().name, shapes_of=shapes_of)
    if path is not None:
        return open_zip(path, shapes_of=shapes_of, limits=limits)
    if not isinstance(source, Path) and REPOSITORY.fullmatch(text):
        return _open_repository(text, shapes_of, limits or ZipLimits())
    raise _no_library(text, allow_local=allow_local)


def check_source(source: str) -> None:
    """See, without opening it, that `source` can name a library: a sample, something on this machine or on the hub.

    Raises:
        LibraryError: it cannot.
    """
    text = source.strip()
    named = text == "sample" or text in sample_names() or REPOSITORY.fullmatch(text)
    if not named and (not text or _local_path(text) is None):
        raise _no_library(text, allow_local=True)


def _no_library(text: str, *, allow_local: bool) -> LibraryError:
    return LibraryError(shown(text) or "Library", "is not a library that can be found", fix=_accepted(allow_local))


def open_zip(
    path: Path, *, name: str = "", shapes_of: ShapesOf | None = None, limits: ZipLimits | None = None
) -> Library:
    """Open a zipped library; what was unpacked is removed by `Library.close`.

    Raises:
        LibraryError: see :func:`explorer.adapters.safe_zip.unpack`; nothing is left behind.
    """
    name = name or path.name

    def fill(scratch: Path) -> tuple[PurePosixPath, ...]:
        return unpack(path, scratch, limits).pickles

    return _open_filled(fill, source=shown(name), title=shown(Path(name).stem), shapes_of=shapes_of)


def _open_filled(
    fill: Callable[[Path], tuple[PurePosixPath, ...]], *, source: str, title: str, shapes_of: ShapesOf | None
) -> Library:
    """Open a temporary folder that `fill` has filled.

    The folder goes when the library is closed, at the latest when the program ends, or at once on any error. `fill`
    returns the pickles that it left out.
    """
    scratch = Path(tempfile.mkdtemp(prefix="lora-library-"))

    def remove() -> None:
        atexit.unregister(remove)
        shutil.rmtree(scratch, ignore_errors=True)

    atexit.register(remove)
    try:
        pickles = fill(scratch)
        return open_folder(scratch, source=source, title=title, shapes_of=shapes_of, pickles=pickles, on_close=remove)
    except BaseException:
        remove()
        raise


def _accepted(allow_local: bool) -> str:
    samples = ", ".join(sample_names())
    ways = [f"'sample' or a sample's name ({samples})"] if samples else []
    ways += ["a folder", "a .zip file"] if allow_local else []
    ways.append("a hub repository as owner/name")
    return f"Give {ways[0]}." if len(ways) == 1 else f"Give {', '.join(ways[:-1])} or {ways[-1]}."


def _local_path(text: str) -> Path | None:
    """The existing folder or file that `text` names, if any."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # a name too long, one with a NUL, a user that does not exist
        return None


def _open_repository(name: str, shapes_of: ShapesOf | None, limits: ZipLimits) -> Library:
    """Fetch a repository's adapter files into a folder of their own, within the limits of a zip."""

    def fill(scratch: Path) -> tuple[PurePosixPath, ...]:
        return _fetch(name, scratch, limits)

    return _open_filled(fill, source=name, title=name, shapes_of=shapes_of)


def _fetch(name: str, scratch: Path, limits: ZipLimits) -> tuple[PurePosixPath, ...]:
    import huggingface_hub  # noqa: PLC0415 - slow to import, and rarely needed

    try:
        info = huggingface_hub.HfApi().model_info(name, files_metadata=True, timeout=10)
        files = [(item.rfilename, item.size or 0) for item in info.siblings or []]
        _check_repository(name, files, limits)
        huggingface_hub.snapshot_download(name, revision=info.sha, allow_patterns=HUB_FILES, local_dir=scratch)
    except LibraryError:
        raise
    except Exception as error:  # errors of the HTTP library beneath, another one from release to release, pass through
        raise LibraryError(
            name, "could not be fetched from the model hub", fix="Check the name and the connection."
        ) from error
    return tuple(PurePosixPath(path) for path, _ in files if is_pickle(path))


def _check_repository(name: str, files: list[tuple[str, int]], limits: ZipLimits) -> None:
    wanted = [(path, size) for path, size in files if path.endswith(tuple(ending[1:] for ending in HUB_FILES))]
    if not any(path.endswith("adapter_config.json") for path, _ in wanted):
        raise LibraryError(name, "holds no adapter_config.json", fix="Name a repository of PEFT adapters.")
    if len(files) > limits.entries or sum(size for _, size in wanted) > limits.total_bytes:
        raise LibraryError(name, f"is too large to open (over {limits.total_bytes >> 30} GB or too many files)")
