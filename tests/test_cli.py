"""The command line: results people and programs can read, and one sentence with exit code 2 for everything else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from adapter_files import write_adapter, zip_folder
from tiny_trainable import save_tiny_llama, write_tasks

import explorer
from explorer.__main__ import main
from explorer.commands.terminal import printable, say_json
from explorer.routing.router import Router

ROOT = Path(__file__).parents[1]
NAMES = ("calc", "poet", "spell")
SITES = {
    f"model.layers.{layer}.self_attn.{module}": (2, 32, width)
    for layer in (0, 1)
    for module, width in (("q_proj", 32), ("v_proj", 16))
}
HOSTILE = "evil\x1b[2J\u202ename"


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def library(base_folder, tmp_path_factory) -> str:
    """Three adapters of a tiny Llama, and a pickle that has to be refused."""
    folder = tmp_path_factory.mktemp("libraries") / "tiny-library"
    for seed, name in enumerate(NAMES):
        write_adapter(folder / name, SITES, seed=seed, base_model=str(base_folder))
    (folder / "old").mkdir()
    (folder / "old" / "adapter_model.bin").write_bytes(b"\x80\x04")
    return str(folder)


def run_json(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# What each command prints


def test_inspect_prints_a_table_and_every_verdict(library, capsys):
    assert main(["inspect", library]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("name "))
    header, first = lines[place], lines[place + 1]
    assert header.split() == ["name", "verdict", "rank", "alpha", "modules", "base", "size", "hash"]
    assert first.split()[:6] == ["calc", "accepted", "2", "8", "q_proj", "v_proj"]
    assert "old: " in out
    assert "pickle" in out


def test_inspect_as_json(library, base_folder, capsys):
    facts = run_json(capsys, "inspect", library)
    assert facts["counts"] == {"accepted": 3, "refused": 1}
    assert facts["base_model"] == str(base_folder)
    by_name = {adapter["name"]: adapter for adapter in facts["adapters"]}
    assert by_name["old"]["verdict"] == "refused"
    assert by_name["old"]["reason"]
    poet = by_name["poet"]
    assert (poet["ranks"], poet["alpha"], poet["modules"], poet["sites"]) == ([2], 8.0, ["q_proj", "v_proj"], 4)
    assert poet["parameters"] == 2 * (2 * 64 + 2 * 48)
    assert len(poet["content_hash"]) == 64


def test_cluster_prints_and_writes_the_shape_of_the_papers_code(library, tmp_path, capsys):
    target = tmp_path / "clusters.json"
    facts = run_json(capsys, "cluster", library, "--clusters", "2", "--output", str(target))
    written = json.loads(target.read_text())
    assert written == facts["clusters"]
    assert sorted(written) == ["cluster_0", "cluster_1"]
    assert sorted(name for names in written.values() for name in names) == list(NAMES)
    assert facts["n_clusters"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["clusters.json"]

    assert main(["cluster", library, "--measure", "parameters", "--sparsity", "0.8", "--seed", "1"]) == 0
    assert "by parameters, seed 1" in capsys.readouterr().out


def test_route_writes_names_and_numbers_without_pickles(library, tmp_path, capsys):
    target = tmp_path / "trace.npz"
    words = ["route", library, "a b c", "--plain", "--top-k", "2", "--temperature", "0.5", "--output", str(target)]
    facts = run_json(capsys, *words)
    with np.load(target, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["adapters", "scores", "sites", "tokens", "weights"]
        weights, scores = arrays["weights"], arrays["scores"]
        assert weights.dtype == scores.dtype == np.float32
        assert weights.shape == scores.shape == (4, 5, 3)
        assert all(arrays[axis].dtype.kind == "U" for axis in ("adapters", "sites", "tokens"))
        assert tuple(arrays["adapters"]) == NAMES
        assert tuple(arrays["sites"]) == tuple(SITES)
        assert "".join(arrays["tokens"]) == "a b c"
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert ((weights > 0).sum(-1) == 2).all()
    means = {entry["name"]: entry["mean_weight"] for entry in facts["adapters"]}
    np.testing.assert_allclose([means[name] for name in NAMES], weights.mean((0, 1)), atol=1e-6)
    assert [layer["layer"] for layer in facts["layers"]] == ["layer 0", "layer 1"]


def test_route_equals_what_python_gets(library, base_folder, tmp_path):
    assert main(["route", library, "a b", "--output", str(tmp_path / "t.npz")]) == 0
    opened = explorer.open_library(library)
    trace = explorer.RoutedModel(explorer.load_base_model(base_folder), opened).route(
        "a b", explorer.routers.Arrow(top_k=4, temperature=1.0)
    )
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["weights"], trace.weights, atol=1e-6)


def test_route_prints_layers_and_entropies(library, capsys):
    assert main(["route", library, "a b", "--router", "uniform"]) == 0
    out = capsys.readouterr().out
    assert "layer 1" in out
    assert "mean entropy 1.099 nats" in out  # ln 3


def test_generate_streams_one_answer_and_labels_several(library, capsys):
    alone = ["generate", library, "a b", "--plain", "--max-new-tokens", "5"]
    assert main([*alone, "--router", "base"]) == 0
    streamed = capsys.readouterr().out.removesuffix("\n")
    assert main([*alone, "--router", "base", "arrow", "--router", "uniform"]) == 0
    several = capsys.readouterr().out
    titles = [line.split(" (")[0] for line in several.splitlines() if line.startswith("== ")]
    assert titles == ["== Base model", "== Arrow, top 4, T 1", "== Uniform"]
    facts = run_json(capsys, *alone, "--router", "base", "--router=single", "--adapter", "poet")
    assert [answer["router"] for answer in facts["answers"]] == ["base", "single"]
    assert facts["answers"][0]["text"] == streamed
    assert 1 <= facts["answers"][0]["tokens"] <= 5


def test_generate_is_repeatable_from_its_seed(library, capsys):
    words = ["generate", library, "a b", "--sample", "1.5", "--max-new-tokens", "12"]
    texts = [run_json(capsys, *words, "--seed", seed)["answers"][0]["text"] for seed in ("1", "1", "2", "3")]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_a_named_adapter_means_the_single_router(library, capsys):
    facts = run_json(capsys, "route", library, "a", "--adapter", "spell")
    assert facts["adapters"][0] == {"name": "spell", "mean_weight": 1.0, "mean_weight_of_typed_tokens": 1.0}


def test_weights_on_the_command_line(library, capsys):
    words = ["--router", "weighted", "--weight", "calc=0.25", "--weight", "poet=0.75"]
    facts = run_json(capsys, "route", library, "a", *words)
    assert [(entry["name"], entry["mean_weight"]) for entry in facts["adapters"]][:2] == [
        ("poet", 0.75),
        ("calc", 0.25),
    ]


def test_record_writes_what_the_page_opens_with(library, tmp_path, capsys):
    from explorer.records.library_record import from_json
    from explorer.records.prompt_record import read_prompt_record

    folder = tmp_path / "first_view"
    for _ in range(2):  # the second run replaces the first
        assert main(["record", library, "a b", "--output", str(folder), "--max-new-tokens", "4"]) == 0
    prompt = read_prompt_record(folder)
    record = from_json((folder / "library.json").read_text())
    assert record.names == NAMES
    assert prompt.library_hash == record.content_hash
    assert [answer.router.split(",")[0] for answer in prompt.answers][:3] == ["Base model", "Arrow", "Uniform"]
    assert prompt.answers[3].router.startswith("Only ")
    assert [path.name for path in tmp_path.iterdir()] == ["first_view"]
    assert capsys.readouterr().out


def logits_by_peft(base_folder: Path, folder: Path) -> torch.Tensor:
    base = explorer.load_base_model(base_folder, device="cpu")
    model = peft.PeftModel.from_pretrained(base.model, folder)
    with torch.no_grad():
        return model(input_ids=torch.tensor([base.tokenizer("a b")["input_ids"]])).logits


def routed_logits(base_folder: Path, library: str, router: Router) -> torch.Tensor:
    base = explorer.load_base_model(base_folder, device="cpu")
    return explorer.RoutedModel(base, explorer.open_library(library)).logits("a b", router)


def test_export_writes_what_peft_reads(library, base_folder, tmp_path, capsys):
    facts = run_json(capsys, "export", library, "--output", str(tmp_path / "out"), "--router", "uniform")
    (entry,) = facts["exports"]
    assert (entry["router"], entry["ranks"], entry["energy_kept"], entry["modules"]) == ("Uniform", [6], 1.0, 4)
    assert entry["adapters"] == pytest.approx(dict.fromkeys(NAMES, 1 / 3))
    expected = routed_logits(base_folder, library, explorer.routers.Uniform())
    torch.testing.assert_close(logits_by_peft(base_folder, tmp_path / "out"), expected, atol=1e-3, rtol=0)
    assert main(["export", library, "--output", str(tmp_path / "cut"), "--router", "linear", "--rank", "1"]) == 0
    out = capsys.readouterr().out
    assert "Linear merge: the mean, rank 1 in 4 modules, " in out
    assert "of the update's energy" in out
    assert facts["library_hash"] in (tmp_path / "out" / "README.md").read_text()


def test_rank_means_the_same_for_every_router(library, tmp_path, capsys):
    for router in ("uniform", "linear", "ties", "weighted", "single"):
        words = ["--router", router, "--rank", "1", "--dtype", "float16"]
        words += {"weighted": ["--weight", "calc=1"], "single": ["--adapter", "poet"]}.get(router, [])
        facts = run_json(capsys, "export", library, "--output", str(tmp_path / router), *words)
        assert (facts["exports"][0]["ranks"], facts["exports"][0]["dtype"]) == ([1], "float16")


def test_export_of_clusters(library, tmp_path, capsys):
    every = run_json(
        capsys, "export", library, "--output", str(tmp_path / "all"), "--cluster", "all", "--clusters", "2"
    )
    assert [Path(one["folder"]).name for one in every["exports"]] == ["cluster_0", "cluster_1"]
    assert sorted(name for one in every["exports"] for name in one["adapters"]) == list(NAMES)
    (tmp_path / "mine.json").write_text(json.dumps({"cluster_0": ["spell"], "cluster_1": ["calc", "poet"]}))
    words = ["--clusters-file", str(tmp_path / "mine.json"), "--cluster"]
    one = run_json(capsys, "export", library, "--output", str(tmp_path / "one"), *words, "1")
    assert one["exports"][0]["adapters"] == {"calc": 0.5, "poet": 0.5}
    assert main(["export", library, "--output", str(tmp_path / "none"), *words, "cluster_7"]) == 2
    assert "there is no 'cluster_7'. Choose from: cluster_0, cluster_1, all." in capsys.readouterr().err


def test_export_for_pefts_arrow(library, tmp_path, capsys):
    facts = run_json(capsys, "export", library, "--output", str(tmp_path / "out"), "--arrow", "--top-k", "2")
    assert (facts["adapters"], facts["base_model_checked"]) == ({name: name for name in NAMES}, True)
    assert json.loads((tmp_path / "out" / "arrow.json").read_text())["top_k"] == 2
    assert main(["export", library, "--output", str(tmp_path / "again"), "--arrow"]) == 0
    assert f"python {tmp_path / 'again' / 'run_arrow.py'} PROMPT" in capsys.readouterr().out


def test_train_reports_what_it_did(base_folder, tmp_path, capsys):
    tasks = write_tasks(tmp_path / "tasks", rows=8)
    words = ["train", str(tasks), "--output", str(tmp_path / "out"), "--base", str(base_folder)]
    words += ["--only", "next,next", "--rank", "3", "--alpha", "6", "--batch-size", "4", "--seed", "5"]
    facts = run_json(capsys, *words)
    (card,) = facts["trained"]
    recipe = card["recipe"]
    assert (card["task"], card["steps"]) == ("next", 2)
    assert (recipe["rank"], recipe["alpha"], recipe["seed"], recipe["chat"]) == (3, 6.0, 5, True)
    again = run_json(capsys, *words)
    assert (again["trained"], again["skipped"]) == ([], ["next"])
    opened = explorer.open_library(tmp_path / "out")
    assert opened.names == ("next",)
    assert opened["next"].notes.family == "letters"


def test_no_command_is_the_page_with_its_options(monkeypatch):
    seen = []
    from explorer.commands import ui

    app = type(sys)("explorer.ui.app")
    app.launch = lambda **options: seen.append(options)
    monkeypatch.setitem(sys.modules, "explorer.ui.app", app)
    monkeypatch.setattr(ui, "check_address", lambda *_: None)  # the machine that tests may serve a page
    assert main([]) == 0
    assert main(["--port", "7999", "--library", "some/where"]) == 0
    assert main(["ui", "--host", "0.0.0.0", "--share"]) == 0
    assert ui.COMMAND.name == "ui"
    assert seen == [
        {"library": "sample", "host": "127.0.0.1", "port": 7860, "share": False},
        {"library": "some/where", "host": "127.0.0.1", "port": 7999, "share": False},
        {"library": "sample", "host": "0.0.0.0", "port": 7860, "share": True},
    ]


def test_a_port_that_is_taken_is_told_before_the_page_starts(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"--port {port}: is taken by another program. Give another one, or 0 for any that is free.\n"
    )


def _hear_interrupts() -> None:
    """A shell that runs the tests in the background has them, and what they start, ignore Ctrl+C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("stopped_by", "codes"), [(signal.SIGTERM, {0}), (signal.SIGINT, {0, 130})])
def test_a_stopped_page_leaves_no_files_behind(library, tmp_path, stopped_by, codes):
    unpacked = tmp_path / "temporary"
    unpacked.mkdir()
    path = zip_folder(Path(library), tmp_path / "mine.zip")
    command = [sys.executable, "-m", "explorer", "--port", "0", "--library", str(path)]
    settings = {**os.environ, "TMPDIR": str(unpacked), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts
    ) as page:
        try:
            assert page.stdout is not None
            assert any("Running on local URL" in line for line in page.stdout)
            end = time.monotonic() + 120
            while not list(unpacked.glob("lora-library-*")) and time.monotonic() < end:
                time.sleep(0.1)
            assert list(unpacked.glob("lora-library-*"))
            page.send_signal(stopped_by)
            assert page.wait(60) in codes
        finally:
            page.kill()
    assert not list(unpacked.glob("lora-library-*"))


# Bad input


NO_HOME = "begins with the home of an unknown user"
BAD = [
    (["paint"], "invalid choice: 'paint' (choose from 'ui', 'inspect'"),
    (["route"], "the following arguments are required: LIBRARY, PROMPT"),
    (["--bogus"], "does not know --bogus"),
    (["--port", "70000"], "argument --port: must be a whole number from 0 to 65535, not '70000'"),
    (["--library", "/no/such/lib"], "/no/such/lib: is not a library that can be found. Give 'sample'"),
    (["--host", "999.1.1.1"], "--host 999.1.1.1: is no address of this machine."),
    (["--host", "192.0.2.1", "--port", "0"], "--host 192.0.2.1: is no address of this machine."),
    (["--host", "a..b"], "--host a..b: is no address of this machine."),
    (["inspect", "LIB", "more"], "does not know more"),
    (["inspect", "LIB", "--js"], "does not know --js"),
    (["inspect", "no/such/place"], "is not a library that can be found"),
    (["inspect", ""], "argument LIBRARY: is empty"),
    (["inspect", "half \udcff"], "argument LIBRARY: is not valid UTF-8 text"),
    (["inspect", "nul\0"], "is not a library that can be found"),
    (["cluster", "LIB", "--measure", "guess"], "invalid choice: 'guess' (choose from 'update', 'parameters')"),
    (["cluster", "LIB", "--clusters", "0"], "argument --clusters: must be a whole number from 1"),
    (["cluster", "LIB", "--clusters", "two"], "argument --clusters: must be a whole number from 1"),
    (["cluster", "LIB", "--sparsity", "nan"], "argument --sparsity: must be a number from 0 to 1, not 'nan'"),
    (["cluster", "LIB", "--sparsity", "1"], "sparsity: expected 0 up to, but not, 1"),
    (["cluster", "LIB", "--seed", "-1"], "argument --seed: must be a whole number from 0"),
    (["cluster", "LIB", "--output", "TMP/no/file.json"], "which is not a folder. Make the folder first."),
    (["cluster", "LIB", "--output", "TMP"], "which is a folder. Name a file."),
    (["cluster", "LIB", "--output", "~nosuchuser/x.json"], f"argument --output: {NO_HOME}: '~nosuchuser/x.json'"),
    (["route", "LIB", "a", "--output", "~nosuchuser/x.npz"], f"argument --output: {NO_HOME}: '~nosuchuser/x.npz'"),
    (["train", "~nosuchuser", "--output", "TMP/out"], f"argument TASKS: {NO_HOME}: '~nosuchuser'"),
    (["record", "LIB", "a", "--output", "~nosuchuser/x"], f"argument --output: {NO_HOME}: '~nosuchuser/x'"),
    (["route", "LIB", "  "], "argument PROMPT: is empty"),
    (
        ["route", "LIB", "a", "--router", "magic"],
        "Choose from: arrow, calibrated, spectr, lag, single, uniform, weighted, linear, ties, random, base.",
    ),
    (["route", "LIB", "a", "--router", "single"], "Router single: needs --adapter NAME"),
    (["route", "LIB", "a", "--router", "weighted"], "Router weighted: needs --weight NAME=W"),
    (["route", "LIB", "a", "--router", "weighted", "--weight", "calc"], "must be NAME=NUMBER, not 'calc'"),
    (["route", "LIB", "a", "--router", "weighted", "--weight", "calc=inf"], "must be NAME=NUMBER, not 'calc=inf'"),
    (["route", "LIB", "a", "--router", "base", "--top-k", "2"], "--top-k K: is no setting of base"),
    (["route", "LIB", "a", "--top-k", "0"], "argument --top-k: must be a whole number from 1"),
    (["route", "LIB", "a", "--temperature", "0"], "argument --temperature: must be a number from 0.0001"),
    (["route", "LIB", "a", "--adapter", "nobody"], "Choose from: calc, poet, spell."),
    (["route", "LIB", "a", "--output", "TMP/no/file.npz"], "which is not a folder"),
    (["route", "LIB", "a", "--base", "no/such/model/here"], "no/such/model/here: "),
    (
        ["generate", "LIB", "a", "--router", "arrow", "magic"],
        "Choose from: arrow, calibrated, spectr, lag, single, uniform, weighted, linear, ties, random, base.",
    ),
    (["generate", "LIB", "a", "b"], "does not know b"),
    (["generate", "LIB", "a", "--max-new-tokens", "0"], "argument --max-new-tokens: must be a whole number from 1"),
    (["generate", "LIB", "a", "--max-new-tokens", "1.5"], "argument --max-new-tokens: must be a whole number from 1"),
    (
        ["generate", "LIB", "a", "--max-new-tokens", "5000"],
        "argument --max-new-tokens: must be a whole number from 1 to 4096, not '5000'",
    ),
    (["generate", "LIB", "a", "--sample", "6"], "argument --sample: must be a number from 0 to 5, not '6'"),
    (["export", "LIB", "--router", "uniform"], "the following arguments are required: --output"),
    (["export", "LIB", "--output", "TMP/out"], "What to export: is not said. Give one of --router NAME,"),
    (["export", "LIB", "--output", "TMP/out", "--arrow", "--cluster", "1"], "--cluster: does not go with --arrow"),
    (["export", "LIB", "--output", "TMP/out", "--router", "arrow"], "Arrow: decides anew for each token"),
    (["export", "LIB", "--output", "TMP/out", "--router", "base"], "there is nothing to export"),
    (["export", "LIB", "--output", "TMP/out", "--router", "uniform", "--top-k", "2"], "is no setting of uniform"),
    (["export", "LIB", "--output", "TMP/out", "--adapter", "nobody"], "Choose from: calc, poet, spell."),
    (["export", "LIB", "--output", "TMP/out", "--arrow", "--rank", "2"], "--rank R: does not go with --arrow"),
    (["export", "LIB", "--output", "TMP/out", "--arrow", "--dtype", "float16"], "--dtype: does not go with --arrow"),
    (
        ["export", "LIB", "--output", "TMP/out", "--router", "ties", "--seed", "1"],
        "--seed N: does not go with --router",
    ),
    (["export", "LIB", "--output", "TMP/out", "--cluster", "0", "--density", "1"], "does not go with --cluster"),
    (
        ["export", "LIB", "--output", "TMP/out", "--cluster", "0", "--clusters", "2", "--clusters-file", "TMP/c.json"],
        "--clusters K: does not go with --clusters-file",
    ),
    (
        ["export", "LIB", "--output", "TMP/out", "--cluster", "0", "--clusters-file", "TMP/c.json"],
        "c.json: cannot be read (No such file or directory)",
    ),
    (["export", "LIB", "--output", "TMP/out", "--adapter", "calc", "--dtype", "int8"], "invalid choice: 'int8'"),
    (["export", "LIB", "--output", "LIB", "--router", "uniform"], "is there and is not an empty folder"),
    (["export", "LIB", "--output", "TMP/no/out", "--router", "uniform"], "which is not a folder"),
    (["export", "LIB", "--output", "nul\0", "--router", "uniform"], "argument --output: is not a path"),
    (["train", "TMP/none", "--output", "TMP/out"], "is not a folder. Name a folder of .jsonl task files."),
    (["train", "TMP", "--output", "TMP/out", "--rank", "0"], "rank: expected 1 to 1024, found 0"),
    (["train", "TMP", "--output", "TMP/out", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
    (["train", "TMP"], "the following arguments are required: --output"),
    (["record", "LIB", "a", "--output", "TMP/no/record"], "which is not a folder"),
    (["record", "LIB", "a", "--output", "LIB"], "is there and is no record"),
]


@pytest.mark.parametrize(("words", "problem"), BAD, ids=[" ".join(words)[:50] for words, _ in BAD])
def test_bad_input_is_one_sentence_and_exit_code_2(words, problem, library, tmp_path, capsys):
    words = [word.replace("LIB", library).replace("TMP", str(tmp_path)) for word in words]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    sentence = captured.err.removesuffix("\n")
    assert problem in sentence
    assert "\n" not in sentence
    assert "usage:" not in sentence
    assert list(tmp_path.iterdir()) == []


def test_bad_input_in_a_process_of_its_own(library):
    command = [sys.executable, "-m", "explorer", "route", library, "a" * 500, "--plain"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Prompt: is too long, expected at most 64 tokens, found 500.")


def test_a_place_that_cannot_be_written(library, monkeypatch, tmp_path, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert main(["route", library, "a", "--output", str(tmp_path / "t.npz")]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_what_it_leads_to_is_written(library, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there.json").symlink_to(tmp_path / "elsewhere/real.json")
    for _ in range(2):  # the file is missing at first, then replaced
        assert main(["cluster", library, "--output", str(tmp_path / "there.json")]) == 0
    assert (tmp_path / "there.json").is_symlink()
    assert set(json.loads((tmp_path / "elsewhere/real.json").read_text())) == {"cluster_0", "cluster_1"}
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real.json"]


def test_a_pipe_and_a_terminal_are_written_to_and_not_replaced(library, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert main(["cluster", library, "--output", str(pipe)]) == 0
    reader.join(20)
    assert set(json.loads(read[0])) == {"cluster_0", "cluster_1"}
    assert pipe.is_fifo()
    # a pseudo-terminal stands for all devices: nothing can be put in its place, whatever the code under test does
    master, slave = os.openpty()
    try:
        assert main(["cluster", library, "--output", os.ttyname(slave)]) == 0
        assert set(json.loads(os.read(master, 4096))) == {"cluster_0", "cluster_1"}
    finally:
        os.close(slave)
        os.close(master)


def test_links_in_a_circle_and_sockets_are_no_places_for_a_result(library, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    for words in (["cluster", library], ["record", library, "x"]):
        assert main([*words, "--output", "a"]) == 2
        assert capsys.readouterr().err == "--output: names a, which cannot be reached.\n"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("s")
        assert main(["cluster", library, "--output", "s"]) == 2
    assert capsys.readouterr().err == "--output: names s, which is a device or a socket. Name a file.\n"


def test_a_link_to_an_older_record_stays_a_link(library, tmp_path):
    folder = tmp_path / "real"
    (tmp_path / "there").symlink_to(folder)
    for _ in range(2):
        words = ["record", library, "a b", "--output", str(tmp_path / "there"), "--max-new-tokens", "2"]
        assert main(words) == 0
    assert (tmp_path / "there").is_symlink()
    assert (folder / "prompt.json").is_file()


def test_a_place_that_takes_no_adapters_is_told_before_the_base_model_is_loaded(base_folder, tmp_path, capsys):
    tasks = write_tasks(tmp_path / "tasks", rows=4)
    (tmp_path / "file").write_text("x")
    assert main(["train", str(tasks), "--output", str(tmp_path / "file"), "--base", "no/such/model/here"]) == 2
    assert capsys.readouterr().err == (f"{tmp_path / 'file'}: cannot be used as output folder. Choose another one.\n")
    assert main(["train", str(tasks), "--output", str(tmp_path / "out"), "--base", "no/such/model/here"]) == 2
    assert "no/such/model/here: " in capsys.readouterr().err
    words = ["train", str(tasks), "--output", str(tmp_path / "out"), "--base", str(base_folder)]
    assert main([*words, "--target-modules", "q_proj,nosuch"]) == 2
    assert "has no linear modules called nosuch. Name its own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_inspect_says_what_of_the_librarys_own_file_was_left_out(library, tmp_path, capsys):
    copied = shutil.copytree(library, tmp_path / "copied")
    (copied / "library.json").write_text('{"title": 7}')
    said = "library.json: the field 'title' is not as expected and was left out."
    assert run_json(capsys, "inspect", str(copied))["remarks"] == [said]
    assert main(["inspect", str(copied)]) == 0
    assert said in capsys.readouterr().out.splitlines()


def test_a_failed_write_leaves_the_old_file(library, monkeypatch, tmp_path):
    target = tmp_path / "t.npz"
    target.write_bytes(b"old")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    assert main(["route", library, "a", "--output", str(target)]) == 130
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]


def test_a_reader_that_leaves_early_is_no_error(library):
    script = f"'{sys.executable}' -m explorer inspect '{library}' --json | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


# Hostile text


def test_control_characters_are_spelled_out():
    assert printable("a\x1b[2Jb\x07\x9b\u202e\u2028\x7f\ud800é→") == "a\\x1b[2Jb\\x07\\x9b\\u202e\\u2028\\x7f\\ud800é→"
    assert printable("a\nb\tc\r", keep="\n\t") == "a\nb\tc\\r"


def test_json_holds_no_control_character_and_no_nan(capsys):
    say_json({"name": HOSTILE, "value": float("nan"), "list": (1, float("inf"))})
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert json.loads(out) == {"name": HOSTILE, "value": None, "list": [1, None]}


def test_a_hostile_name_does_not_reach_the_terminal(base_folder, tmp_path, capsys):
    folder = tmp_path / "hostile"
    write_adapter(folder / HOSTILE, SITES, base_model=str(base_folder))
    write_adapter(folder / "calm", SITES, seed=1, base_model=str(base_folder))
    main(["inspect", str(folder)])
    main(["cluster", str(folder)])
    main(["route", str(folder), "a"])
    main(["route", str(folder), "a", "--adapter", "x\x1b[2J"])
    main(["inspect", "x\x1b[2J"])
    main(["x\x1b[2J"])
    captured = capsys.readouterr()
    assert not {"\x1b", "\u202e"} & set(captured.out + captured.err)
    assert "calm" in captured.out


def test_a_terminal_without_unicode_still_gets_its_answer(library):
    code = f"from explorer.__main__ import _start; import sys; sys.argv[1:] = ['inspect', {library + '/é'!r}]; _start()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in result.stderr
    assert "is not a library that can be found" in result.stderr


# The options of routers


def test_every_setting_of_every_router_has_an_option():
    from explorer.commands.routers import OPTION_OF
    from explorer.routing.registry import ROUTERS
    from explorer.routing.setting import settings_of

    assert {about.name for router in ROUTERS.values() for about in settings_of(router)} == set(OPTION_OF)
