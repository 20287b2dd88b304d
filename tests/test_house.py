"""The rules of the house that a machine can check: directions, words, lengths, tools, and a README that is true."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "explorer"
FILES = sorted(PACKAGE.rglob("*.py"))
LEVELS = {
    "errors": 0,
    "settings": 0,
    "cache": 1,
    "adapters": 2,
    "tasks": 2,
    "analysis": 3,
    "routing": 3,
    "routers": 4,
    "models": 5,
    "records": 6,
    "training": 6,
    "exporting": 6,
    "learning": 7,
    "evaluation": 8,
    "": 9,  # explorer/__init__.py, the public names
    "ui": 10,
    "commands": 11,
    "__main__": 12,
}
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".css", ".js", ".html", ".yml", ".yaml", ".cfg", ""}
NOT_OURS = {"__pycache__", "node_modules", "build", "dist", "venv"}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, lazily and for types included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of_import(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "explorer":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in LEVELS else ""


def our_text_files() -> list[Path]:
    """Every file of the project that is text, without what git ignores."""
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and path.suffix in TEXT
        and not any(
            part in NOT_OURS
            or part.endswith(".egg-info")
            or (part.startswith(".") and part not in (".ci", ".gitignore"))
            for part in path.relative_to(ROOT).parts
        )
    ]


def test_imports_go_down_only():
    wrong = []
    for path in FILES:
        own = room_of(path)
        for name in imported(path):
            other = room_of_import(name)
            if other is not None and other != own and LEVELS[other] >= LEVELS[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_the_page_names_gradio():
    wrong = [
        str(path.relative_to(ROOT))
        for path in FILES
        if room_of(path) != "ui" and any(name.split(".")[0] == "gradio" for name in imported(path))
    ]
    assert not wrong


def test_every_module_says_what_it_is():
    silent = [str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_no_file_is_over_400_lines():
    long = [str(path.relative_to(ROOT)) for path in FILES if len(path.read_text().splitlines()) > 400]
    assert not long


@pytest.mark.parametrize(
    "statement",
    ["import explorer", "import explorer.__main__; explorer.__main__.main(['inspect', 'no such library', '--bogus'])"],
)
def test_starting_imports_nothing_heavy(statement):
    heavy = {"torch", "transformers", "gradio", "peft", "sklearn", "umap", "plotly", "pandas", "numpy"}
    code = f"import json, sys; {statement}; print(json.dumps(sorted(set(sys.modules) & {heavy!r})))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []


def test_no_path_of_a_machine_is_in_a_file():
    machine = re.compile(r"/(?:tmp|work|root|home|Users)/\w")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in our_text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if machine.search(line)
    ]
    assert not wrong, "\n".join(wrong)


# The README


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def tree_of_readme() -> list[str]:
    """Paths of the tree under "The house", folders with a slash at the end."""
    (block,) = re.findall(r"## The house\n.*?```text\n(.*?)```", readme(), flags=re.DOTALL)
    paths, parents = [], []
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth:] = [name]
        paths.append("".join(parents))
    return paths


def test_the_tree_of_the_readme_is_true():
    paths = tree_of_readme()
    missing = [path for path in paths if not (ROOT / path).exists() or (ROOT / path).is_dir() != path.endswith("/")]
    assert not missing, "named, but not there"
    files = {str(path.relative_to(ROOT)) for path in FILES if path.name != "__init__.py"}
    folders = {f"{path.parent.relative_to(ROOT)}/" for path in FILES}
    assert not sorted((files | folders) - set(paths)), "there, but not named"


def test_the_two_commands_are_those_of_the_readme_and_of_ci():
    assert "pip install -c constraints.txt -e . && python -m explorer\n" in readme()
    test_command = "pip install -c constraints.txt -e '.[dev]' && pytest"
    assert f"{test_command}\n" in readme()
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == test_command


def test_files_and_pictures_that_the_readme_points_to_are_there():
    targets = re.findall(r"\]\((?!https?://|#)([^)]+)\)", readme())
    assert not [target for target in targets if not (ROOT / target).exists()]


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), name
    return {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in lines}


def test_versions_are_pinned_once_and_agree():
    tested, space = pins("constraints.txt"), pins("requirements.txt")
    assert tested["torch"] == "2.13.0"
    assert "gradio" not in space
    assert space.items() <= tested.items()
    assert f"sdk_version: {tested['gradio']}\n" in readme()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[<>=\[]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    assert named - {"gradio"} == set(space)
    assert named <= set(tested)


# The tools


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["ruff", "format", "mypy"]
)
def test_the_tools_are_content(command):
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
