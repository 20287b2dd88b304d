"""The shapes of a base model's linear modules, without its weights: built on torch's meta device from the config.

Nothing is downloaded for it: a model that is not at hand simply has no known shapes yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.models.base import HUB_ID
from explorer.models.bundled import WHEELS, unpacked_folder


def linear_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """(d_out, d_in) of every Linear and Conv1D module of `model`, by name."""
    import torch  # noqa: PLC0415 - seconds to import
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            shapes[name] = (module.weight.shape[1], module.weight.shape[0])
    return shapes


def known_shapes(name: str, *, allow_local: bool = True) -> Mapping[str, tuple[int, int]] | None:
    """Shapes for the model called `name` if its configuration is on this machine, else None."""
    folder = _folder_at_hand(name, allow_local)
    if folder is None:
        return None
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception:  # a config transformers cannot use: the model's own loading will say why
        return None
    return linear_shapes(model)


def _folder_at_hand(name: str, allow_local: bool) -> Path | None:
    if name in WHEELS:
        folder = unpacked_folder(name)
        return folder if (folder / "config.json").is_file() else None
    if allow_local and name and _has_config(Path(name)):
        return Path(name)
    if HUB_ID.fullmatch(name):
        import huggingface_hub  # noqa: PLC0415

        try:
            config = huggingface_hub.try_to_load_from_cache(name, "config.json")
        except (OSError, ValueError):  # a name that only looks like a hub id
            return None
        return Path(config).parent if isinstance(config, str) else None
    return None


def _has_config(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except (OSError, ValueError):  # the name came from an adapter: it may be too long, or hold a NUL
        return False
