"""Tasks from BIG-bench: what a row is made of, which rows train and test; they are those of the shipped adapters."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from bigbench_files import task_json

from explorer.errors import TaskDataError
from explorer.tasks.bigbench import BigBenchExample, Wording, prompt_of, read_task_json
from explorer.tasks.draw import Draw, Drawn, Item, drawn, percent, plain, spare_rows
from explorer.tasks.folder import read_tasks
from explorer.tasks.sample import SAMPLE_TASKS, answer, before_request, first_line, row_number, title, whole_input
from explorer.tasks.sample_facts import SampleFacts, sample_facts
from explorer.tasks.sample_rows import chosen, make_tasks, rows_of
from explorer.tasks.sdist import BIG_BENCH, kept_files
from explorer.tasks.task import Example, Task
from explorer.tasks.writing import write_task

ROOT = Path(__file__).parents[1]
PATHS = tuple(path for task in SAMPLE_TASKS for path in task.paths)
CACHED = kept_files(BIG_BENCH, PATHS)  # in the user's own cache: this is before the tests get theirs
NEEDS_BIG_BENCH = pytest.mark.skipif(
    not all(path.is_file() for path in CACHED.values()), reason="`tasks fetch` has not been run on this machine"
)


def read(tmp_path: Path, raw: bytes):
    (tmp_path / "task.json").write_bytes(raw)
    return read_task_json(tmp_path / "task.json")


# task.json


def test_a_prompt_is_instruction_prefix_input_prefix(tmp_path):
    raw = task_json(
        [{"input": "two cats", "target": "cats"}],
        task_prefix="Definition: long. Prompt: Write a word. \n",
        example_input_prefix="\nText: ",
        example_output_prefix="\nWord: ",
    )
    task = read(tmp_path, raw)
    (example,) = task.examples
    assert prompt_of(task, example, Wording()) == ("Definition: long. Prompt: Write a word.\nText: two cats\nWord:")
    assert prompt_of(task, example, Wording(after="Prompt:")) == "Write a word.\nText: two cats\nWord:"
    assert prompt_of(task, example, Wording(instruction="")) == "Text: two cats\nWord:"
    assert prompt_of(task, example, Wording("Say it.", own_prefixes=False)) == "Say it.\ntwo cats"
    assert task.canary == "this is a canary"


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"target": "a "}, ("a",)),
        ({"target": ["a", "b", "a", " "]}, ("a", "b", "a")),
        ({"target": "a", "target_scores": {"b": 1, "a": 0}}, ("a",)),
        ({"target_scores": {"a": 0, "b": 1, "c": 1}}, ("b",)),
        ({"target_scores": {"a": -2.5, "b": -3}}, ("a",)),
        ({}, ()),
    ],
)
def test_answers_are_references_or_the_best_choice(tmp_path, fields, answers):
    assert read(tmp_path, task_json([{"input": "x", **fields}])).examples[0].answers == answers


def test_choices_are_listed_only_when_asked_for(tmp_path):
    task = read(tmp_path, task_json([{"input": "Which?", "target_scores": {"a": 0, "b": 1}}], choice_prefix="\n- "))
    assert prompt_of(task, task.examples[0], Wording()) == "Which?"
    assert prompt_of(task, task.examples[0], Wording(choices=True)) == "Which?\n- a\n- b"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff", "task.json: is not JSON in UTF-8. Name a task.json of BIG-bench."),
        (b"[" * 100_000, "task.json: is not JSON in UTF-8. Name a task.json of BIG-bench."),
        (b"[]", "task.json: expected a JSON object, found list."),
        (
            b"{}",
            "task.json: has no list 'examples', as BIG-bench's task.json does. "
            "Only tasks of the JSON kind can be converted.",
        ),
        (task_json([7]), "task.json, example 1: expected a JSON object, found int."),
        (task_json([{"input": "x"}, {"input": 3}]), "task.json, example 2: field 'input' must be text."),
        (
            task_json([{"input": "x", "target": [1]}]),
            "task.json, example 1: field 'target' must be a text or a list of texts.",
        ),
        (
            task_json([{"input": "x", "target_scores": {"a": "1"}}]),
            "task.json, example 1: field 'target_scores' must give each choice a finite number.",
        ),
        (
            b'{"examples": [{"input": "x", "target_scores": {"bad": NaN, "good": 1.0}}]}',
            "task.json, example 1: field 'target_scores' must give each choice a finite number.",
        ),
        (
            b'{"examples": [{"input": "x", "target_scores": {"a": 1, "b": 1e999}}]}',
            "task.json, example 1: field 'target_scores' must give each choice a finite number.",
        ),
        *(
            (
                task_json([{"input": "x", "target": target, "target_scores": {"a": 1}}]),
                "task.json, example 1: field 'target' must be a text or a list of texts.",
            )
            for target in (0, 5, False, {})
        ),
        (
            b'{"examples": [{"input": "x", "target": "y"}], "examples": [{"input": "z", "target": "q"}]}',
            "task.json: has the key 'examples' twice in one object. Keep one.",
        ),
        (
            b'{"examples": [{"input": "x", "target_scores": {"a": 1, "b": 0.5, "a": 0}}]}',
            "task.json: has the key 'a' twice in one object. Keep one.",
        ),
        (
            task_json([{"input": "\ud800", "target": "x"}]),
            "task.json, example 1: field 'input' holds half a character (a lone surrogate).",
        ),
        (task_json([{"input": "x"}], task_prefix=1), "task.json: field 'task_prefix' must be text."),
    ],
)
def test_other_files_are_refused_with_the_example(tmp_path, raw, message):
    with pytest.raises(TaskDataError) as caught:
        read(tmp_path, raw)
    assert caught.value.sentence == message


def test_a_repeated_setting_that_is_not_read_does_no_harm(tmp_path):
    """BIG-bench's own timedial has `append_choices_to_input` twice, with two values."""
    raw = (
        b'{"append": true, "append": "false", "examples": [{"input": "x", "comment": 1, "comment": 2, "target": "y"}]}'
    )
    assert read(tmp_path, raw).examples[0].answers == ("y",)


def test_whole_numbers_of_any_size_are_scores(tmp_path):
    raw = b'{"examples": [{"input": "x", "target_scores": {"a": 1.5, "b": %s}}]}' % (b"9" * 400)
    assert read(tmp_path, raw).examples[0].answers == ("b",)


# The draw


def items(count: int) -> list[Item]:
    """Some with several answers, some prompts twice, every third source shared by two prompts."""
    return [
        Item(
            f"prompt {n if n % 17 else 0}",
            tuple(f"answer {n} {k}" for k in (0, 1, 1, 2)[: 1 + n % 4]),
            f"s{n - n % 3 // 2}",
        )
        for n in range(count)
    ]


def slow_draw(rows: list[Item], share: int, rounds: int, most: int, seed: int) -> list[tuple[str, str, str]]:
    """The same, step by step in the obvious way: (split, prompt, target)."""
    chance = random.Random(seed)
    sides: dict[str, list[Item]] = {"train": [], "test": []}
    for row in rows:
        number = int(hashlib.md5(row.source.encode()).hexdigest()[:8], 16) % 100
        sides["test" if number < share else "train"].append(row)
    chance.shuffle(sides["train"])
    chance.shuffle(sides["test"])
    pairs: list[tuple[str, str]] = []
    for turn in range(rounds):
        for row in sides["train"]:
            known = row.prompt in [other.prompt for other in sides["test"]]
            if not known and turn < len(row.answers) and (row.prompt, row.answers[turn]) not in pairs:
                pairs.append((row.prompt, row.answers[turn]))
    pairs = pairs[:most]
    chance.shuffle(pairs)
    firsts: dict[str, str] = {}
    for row in sides["test"]:
        firsts.setdefault(row.prompt, row.answers[0])
    return [("train", *pair) for pair in pairs] + [("test", *pair) for pair in list(firsts.items())[:20]]


@pytest.mark.parametrize(
    ("share", "rounds", "most", "seed"), [(12, 1, 50, 0), (30, 3, 1_000, 0), (12, 2, 90, 7), (100, 1, 9, 0)]
)
def test_the_draw_equals_the_obvious_one(share, rounds, most, seed):
    rows = drawn(items(400), Draw(share, rounds, most, 20, seed))
    found = [("train", one.prompt, one.target) for one in rows.train] + [
        ("test", one.prompt, one.target) for one in rows.test
    ]
    assert found == slow_draw(items(400), share, rounds, most, seed)
    assert len(rows.test) == 20


def test_no_source_is_on_both_sides():
    every = items(400)
    source = {item.prompt: item.source for item in every if item.prompt != "prompt 0"}
    rows = drawn(every, Draw(test_share=30, test_rows=400))
    sides = [{source[one.prompt] for one in part if one.prompt in source} for part in (rows.train, rows.test)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_the_draw_does_not_change():
    """Shipped adapters were trained on rows drawn so; taken when the draw gave the sample's own rows, all 53 tasks."""
    task = drawn(items(300), Draw(test_share=20, rounds=2, train_rows=200)).task("golden", "x")
    assert task.data_hash == "e8ef776f5f6af6cd0c8479cf5f8ee1af72a500a8cf1393acf628497d602b37ef"
    assert [percent(text) for text in ("", "what is 448 plus 182", "i5")] == [93, 70, 7]


def test_equal_test_prompts_become_one_row_with_all_answers():
    rows = [Item("p", ("a", "b"), "s"), Item("p", ("b", "c"), "s"), Item("q", ("d",), "s")]
    by_prompt = {one.prompt: one for one in drawn(rows, Draw(test_share=100)).test}
    assert sorted(by_prompt["p"].others) == ["a", "b", "c"]
    assert by_prompt["p"].target == by_prompt["p"].others[0]
    assert by_prompt["q"] == Example("q", "d")
    many = [Item("p", tuple(f"{n}" for n in range(30)), "s")]
    assert len(drawn(many, Draw(test_share=100)).test[0].others) == 8


def test_plain_texts():
    assert plain("  What's 3+4?\n") == "what s 3 4"
    assert plain("Ünï — 你好") == "n"


def test_spare_rows_are_about_no_tested_text():
    rows = [Item(f"p{n}", (f"the answer {n}",), f"s{n}") for n in range(10)]
    task = drawn(rows, Draw(test_share=100, test_rows=3))
    tested = task.tested | {"s4", "the answer 5", "p6"}
    spare = spare_rows(task, tested, 32)
    asked = {one.prompt for one in task.test}
    assert {one.prompt for one in spare} == {f"p{n}" for n in range(10)} - asked - {"p4", "p5", "p6"}
    assert spare_rows(task, tested, 2) == spare[:2]


# The sample


def test_sources():
    example = BigBenchExample(5, "\nContext: Tea: hot. \nQuestion: What? Change tense to PAST", ("It Is.",), ())
    found = [source(example) for source in (whole_input, first_line, title, answer, row_number, before_request)]
    assert found == [
        "context tea hot question what change tense to past",
        "tea hot",
        "context",
        "it is",
        "i5",
        "context tea hot question what",
    ]


def test_the_sample_is_44_and_9_tasks_of_9_families():
    names = [task.name for task in SAMPLE_TASKS]
    assert len(set(names)) == len(names) == 53
    assert sum(task.held_out for task in SAMPLE_TASKS) == 9
    assert len({task.family for task in SAMPLE_TASKS}) == 9
    assert {task.family for task in SAMPLE_TASKS if task.held_out} == {task.family for task in SAMPLE_TASKS}
    assert len(set(PATHS)) == len(PATHS) == 55
    assert set(sample_facts().data_sha256) == set(names)


def test_the_known_rows_are_those_of_every_shipped_card():
    cards = sorted((ROOT / "sample_libraries").glob("*private*/*/card.json"))
    assert len(cards) >= 16
    known = sample_facts().data_sha256
    for card in cards:
        facts = json.loads(card.read_text())
        assert facts["data_sha256"] == known[facts["task"]], card


def small_sample():
    """Each path of the sample with 40 examples of its own kind, and facts that fit them."""

    def made(path: str):
        return [
            {
                "input": f"Text: {path} {n} of a story\nQuestion: {n}? Change tense to PAST",
                "target": [f"reply {n} {path}"],
            }
            for n in range(40)
        ]

    raw = {path: task_json(made(path), task_prefix="Do it. Prompt: Say it.") for path in PATHS}
    cut = {"gem/xsum": (17,) * 40}
    return raw, SampleFacts({"winowhy": frozenset({0, 39})}, cut, {})


@pytest.fixture
def small(tmp_path):
    raw, facts = small_sample()

    def give(path: str):
        return read(tmp_path, raw[path])

    hashes = {
        task.name: rows_of(task, give, facts).task(task.name, task.family, held_out=task.held_out).data_hash
        for task in SAMPLE_TASKS
    }
    return give, SampleFacts(facts.too_long, facts.cut, hashes)


def test_the_sample_is_made_of_all_files(small, tmp_path):
    give, facts = small
    made = {task.name: task for task in make_tasks(chosen(()), give, facts)}
    assert list(made) == [task.name for task in SAMPLE_TASKS]
    assert len(made["mctaco_wrong"].train) + len(made["mctaco_wrong"].test) == 120
    assert {len(one.prompt) for one in made["xsum"].train} == {16, 17}  # cut, and a blank at the end taken off
    assert made["add4"].held_out
    assert made["add4"].validation
    assert not made["add3"].validation
    prompts = {one.prompt for part in (made["winowhy"].test, made["winowhy"].validation) for one in part}
    assert not [prompt for prompt in prompts if " 0 of" in prompt or " 39 of" in prompt]


def test_some_tasks_alone_have_the_same_rows(small):
    give, facts = small
    every = {task.name: task for task in make_tasks(chosen(()), give, facts)}
    for names in (("add3",), ("tense", "add3")):
        assert list(make_tasks(chosen(names), give, facts)) == [every[name] for name in names]


def test_other_rows_than_the_known_ones_are_refused(small):
    give, facts = small
    other = SampleFacts(facts.too_long, facts.cut, {**facts.data_sha256, "add3": "0" * 64})
    with pytest.raises(TaskDataError, match="Task add3: came out with other rows than the sample's adapters"):
        list(make_tasks(chosen(("add3",)), give, other))


def test_an_unknown_task_lists_the_menu():
    with pytest.raises(TaskDataError, match=r"The sample: has no task 'nosuch'. It has: cosmosqa_answer, "):
        chosen(("add3", "nosuch"))


@NEEDS_BIG_BENCH
def test_the_sample_comes_out_of_big_bench_as_the_adapters_know_it():
    """`make_tasks` refuses other rows by itself; here also what validation rows must not be."""
    made = list(make_tasks(chosen(()), lambda path: read_task_json(CACHED[path]), sample_facts()))
    assert len(made) == 53
    tested = {one.prompt for task in made for one in task.test}
    for task in (task for task in made if task.held_out):
        assert len(task.validation) == 32
        assert len({one.prompt for one in task.validation} - tested) == 32


@NEEDS_BIG_BENCH
@pytest.mark.slow
def test_left_out_rows_are_the_long_ones(real_base):
    def length(text: str) -> int:
        return len(real_base.tokenizer(text, add_special_tokens=False)["input_ids"])

    facts = sample_facts()
    (task,) = chosen(("multirc_answer",))
    raw = read_task_json(CACHED[task.paths[0]])
    for example in raw.examples[:1_500]:
        whole = length(prompt_of(raw, example, task.wording)) + length(example.answers[0])
        assert facts.keeps(task.paths[0], example.row) == (whole <= 200)
    for example in read_task_json(CACHED["gem/xsum"]).examples[:50]:
        kept = facts.shortened("gem/xsum", example.row, example.text)
        assert length(kept) == min(130, length(example.text))


# Folders


def test_what_is_written_is_read_again(tmp_path):
    task = Task("poems", "text", (Example("a\nb", "ü\u2028"),), (Example("c", "d", ("d", "e")),), (Example("v", "w"),))
    write_task(tmp_path / "poems.jsonl", task)
    assert read_tasks(tmp_path) == read_tasks(tmp_path / "poems.jsonl") == (task,)


def test_rows_to_spare_are_none_where_all_train():
    assert drawn([Item("p", ("a",), "s")], Draw(test_share=0)) == Drawn(
        (Example("p", "a"),), (), frozenset(), (Item("p", ("a",), "s"),)
    )
