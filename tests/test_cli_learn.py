"""`learn` on the command line, and `route` and `generate` with what it wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from adapter_files import write_adapter
from tiny_trainable import save_tiny_llama, write_tasks

import explorer
from explorer.__main__ import main
from explorer.commands.learn import OF_EVERY_ADAPTER, OF_ONE_TASK
from explorer.learning.store import KINDS

SITES = {f"model.layers.{layer}.self_attn.q_proj": (2, 32, 32) for layer in (0, 1)}
FAST = {
    "centroid": ["--examples", "2", "--temperature", "0.1"],
    "predictor": ["--examples", "6", "--strength", "10"],
    "phatgoose": ["--examples", "4", "--steps", "2", "--batch-size", "2", "--learning-rate", "0.01"],
    "lorahub": ["--examples", "2", "--evaluations", "3", "--target", "next"],
    "mixture": ["--examples", "2", "--steps", "2", "--per", "module", "--target", "next"],
    "finetune": ["--examples", "2", "--steps", "2", "--start", "uniform", "--rank", "3", "--target", "next"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, a library of adapters for its tasks (and one more), the tasks."""
    folder = tmp_path_factory.mktemp("learn")
    base = save_tiny_llama(folder / "base")
    for seed, name in enumerate(("copy", "next", "poet")):
        write_adapter(folder / "library" / name, SITES, seed=seed, base_model=str(base))
    write_tasks(folder / "tasks", rows=10)
    return folder


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def words(place: Path, router: str, output: Path, *more: str) -> list[str]:
    tasks = str(place / "tasks")
    given = ["learn", str(place / "library"), "--tasks", tasks, "--router", router, "--output", str(output)]
    return [*given, *more]


@pytest.mark.parametrize("router", [*OF_EVERY_ADAPTER, *OF_ONE_TASK])
def test_every_router_is_learned_and_told(
    router: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "learned"
    assert main(words(place, router, output, *FAST[router], "--seed", "1")) == 0
    out, err = capsys.readouterr()
    assert f"Written to {output}" in out
    assert f"{router}: 0/" in err
    if router == "finetune":
        assert explorer.open_library(output).names == ("next",)
        return
    facts = json.loads((output / "learned.json").read_text())
    assert facts["settings"]["seed"] == 1
    assert {path.stat().st_mode & 0o777 for path in output.iterdir()} == {0o666 & ~umask()}
    assert facts["left_out"] == (["poet"] if router in OF_EVERY_ADAPTER else [])
    assert ("Without examples, so never chosen: poet" in out) == (router in OF_EVERY_ADAPTER)
    assert main(["route", str(place / "library"), "copy a", "--learned", str(output), "--json"]) == 0
    routed = json.loads(capsys.readouterr().out)
    assert routed["router"].startswith(KINDS[router].title)
    assert {adapter["name"] for adapter in routed["adapters"]} == {"copy", "next", "poet"}
    library = str(place / "library")
    more = ["--router", "base", "--learned", str(output), "--max-new-tokens", "2", "--json"]
    assert main(["generate", library, "copy a", *more]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert answers[0]["router"] == "base"
    assert answers[1]["label"].startswith(KINDS[router].title)


def test_as_json(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(place, "lorahub", tmp_path / "hub", *FAST["lorahub"], "--json", "--plain")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["router"], facts["target"], facts["settings"]["chat"]) == ("lorahub", "next", False)
    assert main(words(place, "finetune", tmp_path, *FAST["finetune"], "--json")) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["task"], card["start"], card["recipe"]["rank"]) == ("next", "uniform", 3)


@pytest.mark.parametrize(
    ("router", "more", "problem"),
    [
        ("mixture", [], "--router mixture: learns for one task. Name it with --target TASK."),
        ("centroid", ["--target", "next"], "--target: is no setting of centroid"),
        ("centroid", ["--steps", "3"], "--steps: is no setting of centroid."),
        ("lorahub", ["--target", "next", "--start", "arrow"], "--start: is no setting of lorahub."),
        ("lorahub", ["--target", "nobody"], "has no task 'nobody'. It has: copy, next."),
        ("mixture", ["--target", "next", "--per", "head"], "--per: must be layer or module, not 'head'"),
        ("arrow", [], "invalid choice: 'arrow'"),
        ("centroid", ["--examples", "0"], "must be a whole number from 1"),
    ],
)
def test_bad_input_is_one_sentence(
    router: str, more: list[str], problem: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(place, router, tmp_path / "out", *more)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_taken_place_is_told_before_the_library_is_opened(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full" / "next").mkdir(parents=True)
    for router in ("centroid", "finetune"):
        given = words(place, router, tmp_path / "full", *FAST[router])
        given[1] = "no such library"
        assert main(given) == 2
        assert "is there" in capsys.readouterr().err


def test_what_was_learned_elsewhere_and_several_at_once_are_told(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "centroid"
    assert main(words(place, "centroid", output, "--examples", "1")) == 0
    other = tmp_path / "other"
    write_adapter(other / "copy", SITES, seed=5, base_model=str(place / "base"))
    capsys.readouterr()
    library = str(place / "library")
    for given, problem in (
        (["route", str(other), "a", "--learned", str(output)], "was learned on other adapters than those of"),
        (["route", library, "a", "--learned", str(tmp_path)], "holds no learned.json"),
        (["route", library, "a", "--learned", str(output), "--router", "arrow"], "only one is shown at a time"),
        (["route", library, "a", "--learned", str(output), "--top-k", "1"], "--top-k K: is no setting of what was"),
    ):
        assert main(given) == 2
        assert problem in capsys.readouterr().err
