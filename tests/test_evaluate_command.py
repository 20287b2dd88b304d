"""`evaluate` on the command line: the same results a second time, stops that go on, one sentence for bad input."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from adapter_files import write_adapter
from safetensors.torch import load_file, save_file
from tiny_trainable import save_tiny_llama

from explorer.__main__ import main
from explorer.evaluation import transfer

SITES = {
    f"model.layers.{layer}.self_attn.{module}": (2, 32, width)
    for layer in (0, 1)
    for module, width in (("q_proj", 32), ("v_proj", 16))
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, a library of three adapters, and four tasks: one held out, one of another family."""
    folder = tmp_path_factory.mktemp("place")
    base = save_tiny_llama(folder / "tiny")
    for seed, name in enumerate(("calc", "poet", "spell")):
        write_adapter(folder / "library" / name, SITES, seed=seed, base_model=str(base))
    tasks = folder / "tasks"
    tasks.mkdir()
    for name, splits in (
        ("calc", ("train", "test")),
        ("poet", ("train", "test")),
        ("spell", ("train", "test")),
        ("fresh", ("validation", "test")),
    ):
        rows = [
            {"task": name, "family": "f", "split": split, "prompt": f"{name} {number} {split}", "target": f"{number}"}
            for split in splits
            for number in range(6)
        ]
        (tasks / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def words(place: Path, *more: str) -> list[str]:
    return ["evaluate", str(place / "library"), "--tasks", str(place / "tasks"), "--max-new-tokens", "4", *more]


def test_a_second_run_gives_the_same_record(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = words(place, "--router", "base", "uniform", "arrow:top_k=2", "oracle", "best", "--transfer", "2", "--json")
    records = []
    for name in ("one", "two", "one"):
        assert main([*asked, "--output", str(tmp_path / name)]) == 0
        records.append(json.loads(capsys.readouterr().out))
    assert records[0] == records[1] == records[2]
    files = [(tmp_path / name / "evaluation.json").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    record = records[0]
    assert [method["title"] for method in record["methods"]][-2:] == ["Oracle: the task's own", "Best single on 8 rows"]
    assert {cell["task"] for cell in record["cells"] if cell["method"].endswith("own")} == {"calc", "poet", "spell"}
    assert {task["name"]: task["held_out"] for task in record["tasks"]}["fresh"] is True
    assert record["transfer"]["adapters"] == ["calc", "poet", "spell"]
    best = {  # the best single adapter was chosen on rows that are not tested
        cell["task"]: cell["measures"]["loss"]["mean"] for cell in record["cells"] if "Best" in cell["method"]
    }
    assert set(best) == {"calc", "fresh", "poet", "spell"}


def test_a_second_library_joins_the_same_table(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = place / "other"
    if not other.exists():
        write_adapter(other / "whole", SITES, seed=9, base_model=str(place / "tiny"))
    output = ["--output", str(tmp_path), "--no-answers", "--only", "calc,fresh"]
    assert main([*words(place, "--router", "base", "arrow", *output)]) == 0
    again = words(place, "--router", "uniform", *output)
    again[1] = str(other)
    capsys.readouterr()
    assert main(again) == 0
    shown = capsys.readouterr().out
    assert [line.split("  ")[0] for line in shown.splitlines()[2:5]] == ["Base model", "Arrow, top 4, T 1", "Uniform"]
    assert "held-out loss" in shown.splitlines()[1]
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert [method["library"] for method in record["methods"]] == ["", "library", "other"]
    assert set(record["cells"][0]["measures"]) == {"loss"}


def test_ctrl_c_stops_after_the_step_at_hand_and_the_next_run_goes_on(place: Path, tmp_path: Path) -> None:
    whole = subprocess.run(
        [sys.executable, "-m", "explorer", *words(place, "--output", str(tmp_path / "whole"))],
        capture_output=True,
        check=True,
    )
    command = [sys.executable, "-m", "explorer", *words(place, "--output", str(tmp_path / "part"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "rows," in line:
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, 130), errors  # 0 where all was done before the signal came
    if process.returncode == 130:
        assert "Run the same command again and it goes on." in errors
    done = len(list((tmp_path / "part" / "cells").iterdir()))
    assert done >= 1
    started = time.time()
    again = subprocess.run(command, capture_output=True, check=True)
    assert again.stdout == whole.stdout
    fresh = [path for path in (tmp_path / "part" / "cells").iterdir() if path.stat().st_mtime > started]
    assert len(fresh) == len(list((tmp_path / "whole" / "cells").iterdir())) - done


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--router", "nothing"], "Router 'nothing': is not known"),
        (["--router", "single:name=missing"], "Adapter 'missing': is not one that can be routed here"),
        (["--only", "nothing"], "has no task 'nothing'"),
        (["--only", ","], "A list of names: expected names with commas between"),
        (["--kind", "held-out", "--only", "calc"], "leaves no task: none is held-out"),
        (["--rows", "0"], "must be a whole number from 1"),
        (["--router", "best", "--only", "bare"], "needs tasks with validation or training rows"),
        (["--output", "/dev/null"], "cannot be used as output folder"),
        (
            ["--router", "arrow", "arrow:top_k=4"],
            "which are both 'Arrow, top 4, T 1' in a table",
        ),
        (["--router", f"arrow:top_k={'9' * 400}"], "expected a whole number from 1 to 10000"),
    ],
)
def test_bad_input_is_one_sentence(
    place: Path, change: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tasks" / "bare.jsonl").write_text('{"prompt": "a", "target": "b", "split": "test"}')
    try:
        assert main(words(place, *change)) == 2
    finally:
        (place / "tasks" / "bare.jsonl").unlink()
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error


def test_another_evaluation_in_the_output_folder_is_not_mixed(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path), "--router", "base", "--only", "calc", "--no-answers"]
    assert main(words(place, *output)) == 0
    before = (tmp_path / "evaluation.json").read_bytes()
    assert main(words(place, *output, "--plain")) == 2
    assert "was made with another setting" in capsys.readouterr().err
    assert main(words(place, *output, "--rows", "3")) == 2
    assert "has other rows than in the output folder" in capsys.readouterr().err
    assert (tmp_path / "evaluation.json").read_bytes() == before
    (tmp_path / "evaluation.json").write_text("{}")
    assert main(words(place, *output)) == 2
    assert "is not an evaluation of this program" in capsys.readouterr().err
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "evaluation.json").symlink_to(tmp_path / "elsewhere.json")
    assert main(words(place, *output)) == 2
    assert "is not a file that can be read" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere.json").exists()


def test_another_library_of_the_same_title_gets_no_share_of_a_row(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namesake = tmp_path / "namesake" / "library"
    write_adapter(namesake / "whole", SITES, seed=9, base_model=str(place / "tiny"))
    output = ["--output", str(tmp_path / "out"), "--router", "uniform", "--no-answers"]
    assert main(words(place, *output, "--only", "calc")) == 0
    again = words(place, *output, "--only", "poet")
    again[1] = str(namesake)
    assert main(again) == 2
    assert "Library 'library': is another of this title" in capsys.readouterr().err


def test_a_base_model_that_changed_on_disk_is_another(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "tiny"
    shutil.copytree(place / "tiny", base)
    asked = words(place, "--base", str(base), "--router", "base", "--only", "calc", "--no-answers", "--json")
    assert main([*asked, "--output", str(tmp_path / "out")]) == 0
    before = json.loads(capsys.readouterr().out)
    weights = load_file(base / "model.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, base / "model.safetensors", {"format": "pt"})
    assert main([*asked, "--output", str(tmp_path / "out")]) == 2
    assert "was made when the base model was another" in capsys.readouterr().err
    (tmp_path / "out" / "evaluation.json").unlink()
    assert main([*asked, "--output", str(tmp_path / "out")]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["base_hash"] != before["base_hash"] != ""
    assert after["cells"] != before["cells"]


def test_results_prints_the_stored_tables(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--router", "base", "uniform", "oracle", "--only", "calc,fresh", "--output", str(tmp_path)]
    assert main(words(place, *asked)) == 0
    capsys.readouterr()
    assert main(["results", str(tmp_path), "--markdown", "--measure", "rouge_l"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| router | library | mean of 1 | fresh |" in lines
    assert any(line.startswith("| Oracle: the task's own | library | the task's name |") for line in lines)
    assert main(["results", str(tmp_path / "evaluation.json")]) == 0
    assert "ROUGE-L, " not in capsys.readouterr().out
    assert main(["results", str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_what_was_learned_is_a_method_like_any_other(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = ["learn", str(place / "library"), "--tasks", str(place / "tasks")]
    for name, more in (
        ("centroid", ["--examples", "2"]),
        ("lorahub", ["--examples", "2", "--evaluations", "2", "--target", "fresh"]),
    ):
        assert main([*learn, "--router", name, *more, "--output", str(tmp_path / name)]) == 0
    learned = ["--learned", str(tmp_path / "centroid"), str(tmp_path / "lorahub")]
    assert main(words(place, "--router", "base", *learned, "--only", "calc,fresh", "--output", str(tmp_path))) == 0
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert [method["title"] for method in record["methods"][1:]] == ["Centroid matching", "LoraHub"]
    assert all(method["uses"] for method in record["methods"][1:])
    cells = {(cell["method"].split(": ")[-1], cell["task"]) for cell in record["cells"]}
    assert ("Centroid matching", "calc") in cells and ("LoraHub", "fresh") in cells
    assert ("LoraHub", "calc") not in cells  # it was learned for another task
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(words(place, "--learned", str(tmp_path / "lorahub"), str(tmp_path / "lorahub"))) == 2
    assert "was learned twice for the same task" in capsys.readouterr().err


def test_a_stop_while_the_best_adapter_is_chosen_is_no_result(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else is known already, so nothing but the stop itself says that something is missing."""
    asked = words(place, "--router", "base", "--only", "calc", "--output", str(tmp_path))
    assert main(asked) == 0
    begun = transfer.losses_under_each

    def stopped(*given: Any, stop: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return begun(*given, stop=stop, **more)

    monkeypatch.setattr(transfer, "losses_under_each", stopped)
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--router", "base", "best"])
    assert ended.value.code == 130
    assert "Run the same command again and it goes on." in capsys.readouterr().err


def test_other_rows_are_refused_before_any_is_scored(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = words(place, "--router", "base", "--only", "calc", "--no-answers", "--output", str(tmp_path))
    assert main(asked) == 0
    cells = sorted((tmp_path / "cells").iterdir())
    assert main([*asked, "--rows", "2"]) == 2
    assert "has other rows than in the output folder" in capsys.readouterr().err
    assert sorted((tmp_path / "cells").iterdir()) == cells
