"""Fixtures that several test files share. Shapes written as types are checked while tests run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# the modules that work on tensors; not those whose settings refuse a wrong type in their own words
SHAPED = ["alignment", "bank", "dense", "dots", "factor_mean", "factor_way", "observation", "routed_linear", "router"]
SHAPED += ["prompt_weights", "vector_router"]
SHAPED += ["routing_pass", "sparse", "static_update", "static_way", "top_k", "way"]
install_import_hook(
    ["explorer.adapters.low_rank", *(f"explorer.routing.{name}" for name in SHAPED)], "shape_checks.checked"
)

from tiny_models import make_tiny  # noqa: E402 - after the hook, which only sees later imports

from explorer import cache  # noqa: E402
from explorer.models.base import BaseModel, load_base_model  # noqa: E402
from explorer.settings import cache_folder  # noqa: E402

SAMPLE_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """A cache of this run's own, also for the processes that tests start; only base models are shared with others."""
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / "models").symlink_to(models.resolve(), target_is_directory=True)
        patch.setenv("EXPLORER_CACHE", folder)
        yield


@pytest.fixture(autouse=True)
def no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from one test to the next, nor within one: what runs twice is computed twice."""
    monkeypatch.setattr(cache, "results_folder", lambda: Path(os.devnull) / "results")


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of this test's own where results are kept."""
    folder = tmp_path / "kept" / "results"
    monkeypatch.setattr(cache, "results_folder", lambda: folder)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], BaseModel]:
    """Tiny base models by architecture, each made once; tests leave them as they were."""
    made: dict[str, BaseModel] = {}

    def get(architecture: str) -> BaseModel:
        if architecture not in made:
            made[architecture] = make_tiny(architecture)
        return made[architecture]

    return get


@pytest.fixture(scope="session")
def real_base() -> BaseModel:
    """The sample library's base model on the CPU; mark tests that use it `slow`."""
    return load_base_model(SAMPLE_BASE, device="cpu")
