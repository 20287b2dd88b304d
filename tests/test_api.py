"""The public names, and the README's example run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import explorer

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_is_listed():
    for name in explorer.__all__:
        assert getattr(explorer, name) is not None
    assert set(explorer.__all__) <= set(dir(explorer))


def test_the_names_promised():
    promised = {
        "open_library",
        "similarity",
        "cluster",
        "project",
        "load_base_model",
        "RoutedModel",
        "routers",
    }
    assert promised <= set(explorer.__all__)
    for router in ("Arrow", "Base", "Single", "Uniform", "Weighted"):
        assert isinstance(getattr(explorer.routers, router), type)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'explorer' has no attribute 'nothing'"):
        _ = explorer.nothing
    assert not hasattr(explorer, "nothing")


def example_of_readme() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return code


@pytest.mark.slow
def test_the_example_of_the_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example_of_readme(), "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()
