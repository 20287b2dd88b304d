"""`tasks fetch`, `convert` and `list`: where the release comes from, what is unpacked of it, and what users read."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bigbench_files import FOLDER, release_of, task_json, write_archive
from tiny_trainable import save_tiny_llama, write_tasks

from explorer.__main__ import main
from explorer.errors import TaskDataError
from explorer.tasks import folder, sdist
from explorer.tasks.folder import read_tasks
from explorer.tasks.package_index import Web, addresses, settings_from
from explorer.tasks.sample import SAMPLE_TASKS
from explorer.tasks.sdist import Release, kept_files, task_files
from explorer.tasks.text import NAME_RULE

PATHS = ("arithmetic/add", "tense")
FILES = {path: task_json([{"input": path, "target": "x"}]) for path in PATHS}
FILE = "bigbench-1.0.0.tar.gz"


def silent(_: str) -> None:
    """Report nothing."""


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    """A cache of this test's own, and no pip settings of this machine."""
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sdist, "pip_settings", dict)


@pytest.fixture
def release(tmp_path) -> Release:
    archive = write_archive(tmp_path / FILE, FILES)
    return release_of(archive, archive.as_uri())


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.name.startswith("."))


# The release


def test_the_wanted_files_are_kept_and_nothing_else(release, tmp_path):
    lines: list[str] = []
    files = task_files(release, PATHS, lines.append)
    assert {path: file.read_bytes() for path, file in files.items()} == FILES
    assert files == kept_files(release, PATHS)
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(kept) == ["arithmetic__add.json", "tense.json"]
    assert not (tmp_path / "evil").exists()
    assert lines[0] == f"Downloading {FILE} (0 MB, once)"
    assert lines[-1] == "Unpacking 2 task files"
    assert (
        task_files(replace(release, url="file:///nowhere"), PATHS, lines.append) == files
    )  # the second time: no fetch


def test_a_file_at_hand_is_taken(release, tmp_path):
    offline = replace(release, url="file:///nowhere")
    assert task_files(offline, PATHS, silent, tmp_path / FILE)["tense"].read_bytes() == FILES["tense"]
    assert (tmp_path / FILE).is_file()


def test_another_file_is_refused(release, tmp_path):
    other = tmp_path / "other.tar.gz"
    other.write_bytes(b"x")
    for archive, problem in (
        (other, f"{other}: is not the file of the release, expected {release.sha256[:16]}, found 2d711642b726b044."),
        (tmp_path / "none", f"{tmp_path / 'none'}: cannot be read (No such file or directory)."),
    ):
        with pytest.raises(TaskDataError) as caught:
            task_files(release, PATHS, silent, archive)
        assert caught.value.sentence == problem


@pytest.mark.parametrize("content", [b"", b"x", b"much longer than the release, so that reading has to end" * 100_000])
def test_a_download_that_is_not_the_release_is_refused(release, tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(TaskDataError) as caught:
        task_files(release, PATHS, silent)
    assert caught.value.sentence == (
        f"{FILE}: could not be downloaded (what came is not the file of the release). Check the connection and pip's "
        "settings, or download the file elsewhere and name it with --sdist."
    )
    assert leftovers(tmp_path) == []


def test_a_release_that_cannot_be_reached(release):
    with pytest.raises(TaskDataError, match=r"could not be downloaded \(.*No such file"):
        task_files(replace(release, url="file:///nowhere/at/all"), PATHS, silent)


def linked(path: Path) -> Path:
    """An archive in which a wanted member is a link to somewhere else."""
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"{FOLDER}/tense/task.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    return path


def test_archives_that_are_not_as_they_should_be(tmp_path, monkeypatch):
    """The hash would have to be wrong for that; nothing is unpacked all the same."""
    lacking = write_archive(tmp_path / "a.tar.gz", {"tense": b"{}"})
    cut = tmp_path / "b.tar.gz"
    cut.write_bytes(write_archive(tmp_path / "whole.tar.gz", FILES).read_bytes()[:150])
    monkeypatch.setattr(sdist, "MOST_MEMBER_BYTES", 20)
    for archive, message in (
        (lacking, f"{FILE}: lacks {FOLDER}/arithmetic/add/task.json."),
        (cut, f"{FILE}: is damaged. Fetch it again."),
        (linked(tmp_path / "c.tar.gz"), f"{FOLDER}/tense/task.json: is no plain file of a size that a task has."),
        (
            write_archive(tmp_path / "d.tar.gz", {"tense": b" " * 21}),
            f"{FOLDER}/tense/task.json: is no plain file of a size that a task has.",
        ),
    ):
        with pytest.raises(TaskDataError) as caught:
            task_files(release_of(archive), PATHS, silent, archive)
        assert caught.value.sentence == message
        assert not list((tmp_path / "cache" / "tasks").iterdir())


# The index


def test_pips_settings_are_read_environment_first():
    listed = (
        ":env:.index-url='https://a'\n"
        "global.index-url='https://b'\n"
        "download.cert='c'\n"
        "global.cert='d'\n"
        "global.extra-index-url='https://e\\nhttps://f'\n"
        "install.proxy='no'\n"
        "global.proxy=__import__('os')\n"
        "nonsense\n"
    )
    assert settings_from(listed) == {
        "index-url": "https://a",
        "cert": "c",
        "extra-index-url": "https://e\nhttps://f",
    }


class Index(http.server.BaseHTTPRequestHandler):
    """A simple index that wants a password, and sends files on to another address that must not get it."""

    seen: list[tuple[str, str | None]]
    answers: dict[str, tuple[int, str, bytes]]

    def do_GET(self) -> None:
        type(self).seen.append((self.path, self.headers["Authorization"]))
        status, place, body = type(self).answers.get(self.path, (404, "", b""))
        self.send_response(status)
        if place:
            self.send_header("Location", place)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index(monkeypatch) -> Iterator[tuple[type[Index], str]]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = type("Handler", (Index,), {"seen": [], "answers": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_file_comes_from_pips_own_index_with_its_password(index, release, tmp_path, monkeypatch):
    handler, host = index
    page = f'<a href="../../files/{FILE}#sha256=1">{FILE}</a><a href="../../files/bigbench-0.9.tar.gz">old</a>'
    handler.answers = {
        "/simple/bigbench/": (200, "", page.encode()),
        f"/files/{FILE}": (302, f"http://localhost:{host.split(':')[1]}/moved", b""),
        "/moved": (200, "", (tmp_path / FILE).read_bytes()),
    }
    monkeypatch.setattr(sdist, "pip_settings", lambda: {"index-url": f"http://me:p%40ss@{host}/simple/"})
    files = task_files(replace(release, url="file:///nowhere"), PATHS, silent)
    assert files["tense"].read_bytes() == FILES["tense"]
    secret = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert handler.seen == [("/simple/bigbench/", secret), (f"/files/{FILE}", secret), ("/moved", None)]


def test_an_index_that_has_it_not_is_passed_over(index, release, monkeypatch):
    handler, host = index
    handler.answers = {"/a/bigbench/": (200, "", b"<a>nothing</a><a href='x'>y</a>"), "/c/bigbench/": (500, "", b"")}
    settings = {"index-url": f"http://{host}/a", "extra-index-url": f"http://{host}/b gopher://x http://{host}/c"}
    monkeypatch.setattr(sdist, "pip_settings", lambda: settings)
    assert task_files(release, PATHS, silent)["tense"].is_file()
    assert [path for path, _ in handler.seen] == ["/a/bigbench/", "/b/bigbench/", "/c/bigbench/"]


def test_links_to_other_hosts_get_no_password(index):
    handler, host = index
    links = f'<a href="http://other.example/f/{FILE}">x</a> <a href="http://{host}/g/{FILE}?a=b#c">x</a>'
    handler.answers = {"/bigbench/": (200, "", links.encode())}
    settings = {"index-url": f"http://me:pw@{host}"}
    assert list(addresses(Web(settings), settings, "bigbench", FILE)) == [
        f"http://other.example/f/{FILE}",
        f"http://me:pw@{host}/g/{FILE}?a=b",
    ]


def test_a_folder_may_be_an_index(tmp_path, release):
    (tmp_path / "simple" / "bigbench").mkdir(parents=True)
    (tmp_path / "simple" / "bigbench" / "index.html").write_text(f'<a href="../../{FILE}">x</a>')
    settings = {"extra-index-url": f"file:///nowhere {(tmp_path / 'simple').as_uri()}"}
    (url,) = addresses(Web(settings), settings, "bigbench", FILE)
    with Web(settings).open(url) as answer:
        assert hashlib.sha256(answer.read()).hexdigest() == release.sha256


@pytest.mark.parametrize("url", ["ftp://x/y", "/etc/passwd", "", "data:,x"])
def test_other_kinds_of_addresses_are_not_read(url):
    with pytest.raises(ValueError, match="is not read"):
        Web({}).open(url)


# The commands


@pytest.fixture
def small_sample(tmp_path, monkeypatch) -> None:
    """The sample of a release with a few rows for each task, whose hashes are taken as the known ones."""
    from test_tasks import small_sample as small

    from explorer.tasks import sample_facts, sample_rows
    from explorer.tasks.bigbench import read_task_json

    raw, facts = small()
    archive = write_archive(tmp_path / FILE, raw)
    monkeypatch.setattr(sdist, "BIG_BENCH", release_of(archive, archive.as_uri()))
    paths = tuple(path for task in SAMPLE_TASKS for path in task.paths)
    files = task_files(sdist.BIG_BENCH, paths, silent)
    hashes = {}
    for task in SAMPLE_TASKS:
        rows = sample_rows.rows_of(task, lambda path: read_task_json(files[path]), facts)
        hashes[task.name] = rows.task(task.name, task.family, held_out=task.held_out).data_hash
    monkeypatch.setattr(sample_facts, "sample_facts", lambda: replace(facts, data_sha256=hashes))


@pytest.mark.usefixtures("small_sample")
def test_fetch_writes_a_folder_that_training_reads(tmp_path, capsys):
    output = tmp_path / "tasks"
    assert main(["tasks", "fetch", "--output", str(output), "--only", "tense, add3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["task", "family", "train", "validation", "test", "data", "hash"]
    assert [line.split()[0] for line in lines[1:3]] == ["tense", "add3"]
    assert lines[-1] == f"{output}: 2 tasks"
    assert sorted(path.name for path in output.iterdir()) == ["README", "add3.jsonl", "tense.jsonl"]
    assert (output / "README").read_text().splitlines()[-1] == "this is a canary"
    add3, tense = read_tasks(output)
    assert add3.train
    assert tense.held_out
    assert main(["tasks", "list", str(output), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["tasks"]
    assert listed[0] == {
        "task": "add3",
        "family": "arithmetic",
        "held_out": False,
        "train": len(add3.train),
        "validation": 0,
        "test": len(add3.test),
        "data_sha256": add3.data_hash,
        "test_sha256": add3.test_hash,
    }
    assert main(["tasks", "fetch", "--output", str(output)]) == 2
    assert "is there and is not an empty folder" in capsys.readouterr().err


@pytest.mark.usefixtures("small_sample")
def test_fetch_leaves_nothing_when_it_fails(tmp_path, capsys):
    cached = next((tmp_path / "cache" / "tasks").rglob("tense.json"))
    cached.write_bytes(task_json([{"input": "other", "target": "rows"}]))
    assert main(["tasks", "fetch", "--output", str(tmp_path / "out"), "--only", "add3,tense"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Task tense: came out with other rows than the sample's adapters were trained on, expected ")
    assert f"Remove {tmp_path / 'cache' / 'tasks'} and fetch again" in told
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_fetch_of_unknown_tasks_is_told_before_anything_is_fetched(tmp_path, capsys):
    for names in ("nosuch", ",", "add3,,"):
        assert main(["tasks", "fetch", "--output", str(tmp_path / "out"), "--only", names]) == 2
        assert "The sample: has no task " in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_convert_any_task_json(tmp_path, capsys):
    examples = [{"input": f"{n} and 1", "target": str(n + 1)} for n in range(50)] + [{"input": "no answer"}]
    source = tmp_path / "task.json"
    source.write_bytes(task_json(examples, task_prefix="Add.", example_output_prefix=" ="))
    words = ["tasks", "convert", str(source), "--max-tokens", "0", "--family", "sums", "--test-share", "30"]
    assert main([*words, "--output", str(tmp_path / "my sums.jsonl")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("left out 0 too long, 1 without prompt or answer")
    (task,) = read_tasks(tmp_path / "my sums.jsonl")
    assert (task.name, task.family, len(task.train) + len(task.test)) == ("my_sums", "sums", 50)
    assert {one.prompt: one.target for one in (*task.train, *task.test)} == {
        f"Add.\n{n} and 1 =": str(n + 1) for n in range(50)
    }
    more = ["--instruction", "", "--name", "x", "--no-prefixes", "--test-share", "100", "--test-rows", "3", "--json"]
    assert main([*words, *more, "--output", str(tmp_path / "x.jsonl")]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["tasks"]
    assert (facts["task"], facts["train"], facts["test"]) == ("x", 0, 3)
    assert read_tasks(tmp_path / "x.jsonl")[0].test[0].prompt.endswith("and 1")


def test_convert_leaves_out_long_rows_by_the_base_models_tokens(tmp_path, capsys):
    base = save_tiny_llama(tmp_path / "tiny")  # a token a letter
    source = tmp_path / "task.json"
    source.write_bytes(task_json([{"input": "a" * n, "target": "bb"} for n in range(1, 21)]))
    words = ["tasks", "convert", str(source), "--output", str(tmp_path / "o.jsonl"), "--base", str(base)]
    assert main([*words, "--max-tokens", "12", "--test-share", "0"]) == 0
    assert "left out 10 too long, 0 without" in capsys.readouterr().out
    assert max(len(one.prompt) for one in read_tasks(tmp_path / "o.jsonl")[0].train) == 10
    assert main([*words, "--max-tokens", "2"]) == 2
    assert capsys.readouterr().err == "task.json: gives no row. Allow longer ones with --max-tokens.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tasks"], "the following arguments are required: ACTION"),
        (["tasks", "sing"], "invalid choice: 'sing'"),
        (["tasks", "list", "nowhere"], "nowhere: is not a folder. Name a folder of .jsonl task files."),
        (["tasks", "convert", "none.json", "--output", "o.jsonl"], "none.json: cannot be read (No such file"),
        (["tasks", "convert", "t.json", "--output", "no/o.jsonl"], "--output: lies in "),
        (["tasks", "convert", "t.json", "--output", "o.jsonl", "--name", "a/b"], "--name: is not usable: 'a/b'."),
        (
            ["tasks", "convert", "t.json", "--output", "o.jsonl", "--family", "a\nb"],
            "--family: must be text on one line",
        ),
        (["tasks", "fetch", "--output", "no/such"], "Output folder: lies in "),
        (["tasks", "convert", "/dev/zero", "--output", "o.jsonl"], "zero: is a pipe or a device, not a file."),
        *(
            (
                ["tasks", "convert", "t.json", "--output", "o.jsonl", option, "\udcff"],
                f"{option}: is not valid UTF-8 text",
            )
            for option in ("--instruction", "--after", "--family")
        ),
    ],
)
def test_bad_input_is_one_sentence(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_convert_says_that_nothing_is_answered(tmp_path, capsys):
    (tmp_path / "task.json").write_bytes(task_json([{"input": "x"}, {"input": "y", "target": []}]))
    assert main(["tasks", "convert", str(tmp_path / "task.json"), "--output", str(tmp_path / "o.jsonl")]) == 2
    assert capsys.readouterr().err == "task.json: has no example with both a prompt and an answer.\n"


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (
            "a.jsonl",
            lambda path: path.symlink_to("/dev/zero"),
            ": is a pipe or a device, not a file. Name a file on disk.",
        ),
        ("a.jsonl", os.mkfifo, ": is a pipe or a device, not a file. Name a file on disk."),
        ("a.jsonl", lambda path: path.symlink_to("nowhere"), ": is a link to nothing."),
        ("a.jsonl", lambda path: path.mkdir(), ": cannot be read (Is a directory)."),
        ("a.jsonl", lambda path: path.write_text(" \n\n"), ": has no rows. Fill the file or remove it."),
        ("a.jsonl", lambda path: path.write_text("x" * 101), ": is larger than 0 MB. Split it."),
        (
            "my file.jsonl",
            lambda path: path.write_text('{"prompt": "a", "target": "b"}'),
            ", line 1: has no field 'task', and the file's name is not usable as one. "
            f"Add the field or rename the file. {NAME_RULE}",
        ),
    ],
)
def test_files_of_a_folder_that_are_none_are_one_sentence(name, make, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folder, "MOST_BYTES", 100)
    make(tmp_path / name)
    assert main(["tasks", "list", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{name}{message}\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_task_files_end_their_lines_as_on_any_system(tmp_path, end):
    rows = [json.dumps({"prompt": prompt, "target": "b\u2028c"}, ensure_ascii=False) for prompt in "xy"]
    (tmp_path / "a.jsonl").write_bytes(end.join(rows).encode())
    assert [one.prompt for one in read_tasks(tmp_path)[0].train] == ["x", "y"]


def test_list_shows_every_part(tmp_path, capsys):
    assert main(["tasks", "list", str(write_tasks(tmp_path / "tasks", rows=4))]) == 0
    header, copy, following = capsys.readouterr().out.splitlines()
    assert copy.split()[:5] == ["copy", "letters", "4", "0", "8"]
    assert following.split()[0] == "next"
    assert len(header.split()) == 7
