"""The sample's tasks: 44 that adapters are trained on, 9 held out, in 9 families, all from BIG-bench 1.0.0.

The table says where each comes from, how its prompts are worded, and what counts as the source text of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from explorer.tasks.bigbench import BigBenchExample, Wording
from explorer.tasks.draw import Draw, plain

USUAL = Draw()
OWN = Wording()
NONE = Wording(instruction="")
#: Natural-instructions tasks end their prefix with a sentence that says what to do: "Prompt: Write ...".
SENTENCE = Wording(after="Prompt:")
TO_PIG_LATIN = Wording("Translate English into Pig Latin.")
FROM_PIG_LATIN = Wording("Translate Pig Latin into English.")
DATE = Wording("Reformat the date.")
PAST = Wording("Complete the sentence with the past tense of the verb.")
PLURAL = Wording("Complete the sentence with the plural of the noun.")
QUESTION = Wording("Turn the statement into a question.", own_prefixes=False)
NEGATION = Wording("Negate the sentence.", own_prefixes=False)
PRONOUN = Wording("Replace the repeated noun with a pronoun.", own_prefixes=False)


def whole_input(example: BigBenchExample) -> str:
    """The input itself."""
    return plain(example.text)


def first_line(example: BigBenchExample) -> str:
    """The paragraph that several tasks ask about: the first line, without its label."""
    return plain(example.text.strip().split("\n")[0].split(":", 1)[-1])


def title(example: BigBenchExample) -> str:
    """The article that a passage is from: what stands before the first colon."""
    return plain(example.text.split(":")[0])


def answer(example: BigBenchExample) -> str:
    """The first reference, which is what another task asks about."""
    return plain(example.answers[0])


def before_request(example: BigBenchExample) -> str:
    """The sentence that is to be changed, without what it is to be changed to."""
    return plain(example.text.split("Change tense")[0])


def row_number(example: BigBenchExample) -> str:
    """The row: files of parallel translations, or with several references a row, agree on it."""
    return f"i{example.row}"


@dataclass(frozen=True)
class SampleTask:
    """One task of the sample.

    Args:
        name: of the task and its file.
        family: what kind of task.
        paths: folders of BIG-bench's benchmark_tasks whose task.json files make it up, in this order.
        wording: of its prompts.
        source: the source text of an example.
        draw: how its rows are drawn.
        held_out: whether it only tests.
    """

    name: str
    family: str
    paths: tuple[str, ...]
    wording: Wording
    source: Callable[[BigBenchExample], str] = whole_input
    draw: Draw = USUAL
    held_out: bool = False


NATURAL = "natural_instructions/subtask"
EMOTIONS = "multiemo/products_sentence_"
UNNATURAL = "unnatural_in_context_learning/"
GRAMMAR = "linguistic_mappings/"
WRONG_TIMES = (
    f"{NATURAL}005_mctaco_wrong_answer_generation_event_duration",
    f"{NATURAL}011_mctaco_wrong_answer_generation_event_ordering",
    f"{NATURAL}014_mctaco_wrong_answer_generation_absolute_timepoint",
)


def _instructed(
    name: str, family: str, subtask: str, source: Callable[[BigBenchExample], str], *, held_out: bool = False
) -> SampleTask:
    """A task of natural-instructions; few texts are behind a held-out one, so more of them are for testing."""
    draw = Draw(test_share=30) if held_out else USUAL
    return SampleTask(name, family, (NATURAL + subtask,), SENTENCE, source, draw, held_out)


def _sentiment(language: str, *, held_out: bool = False) -> SampleTask:
    """Opinions on products, the same ones in every language."""
    return SampleTask(f"sentiment_{language}", "sentiment", (EMOTIONS + language,), OWN, row_number, held_out=held_out)


SAMPLE_TASKS = (
    _instructed("cosmosqa_answer", "qa", "024_cosmosqa_answer_generation", first_line),
    _instructed("qasc_answer", "qa", "041_qasc_answer_generation", first_line),
    _instructed("multirc_answer", "qa", "051_multirc_correct_answer_single_sentence", first_line),
    _instructed("winogrande_answer", "qa", "033_winogrande_answer_generation", whole_input),
    _instructed("ropes_answer", "qa", "061_ropes_answer_generation", first_line),
    SampleTask("conflict_qa", "qa", ("contextual_parametric_knowledge_conflicts",), OWN, held_out=True),
    _instructed("cosmosqa_question", "question_gen", "023_cosmosqa_question_generation", first_line),
    _instructed("qasc_question", "question_gen", "040_qasc_question_generation", first_line),
    _instructed("ropes_question", "question_gen", "060_ropes_question_generation", first_line),
    _instructed("winogrande_question", "question_gen", "032_winogrande_question_generation_person", whole_input),
    _instructed(
        "mctaco_question_freq", "question_gen", "015_mctaco_question_generation_frequency", first_line, held_out=True
    ),
    _instructed("cosmosqa_wrong", "wrong_answer", "025_cosmosqa_incorrect_answer_generation", first_line),
    _instructed("qasc_wrong", "wrong_answer", "042_qasc_incorrect_option_generation", first_line),
    SampleTask("mctaco_wrong", "wrong_answer", WRONG_TIMES, SENTENCE, first_line, Draw(test_share=30)),
    _instructed(
        "mctaco_wrong_freq", "wrong_answer", "017_mctaco_wrong_answer_generation_frequency", first_line, held_out=True
    ),
    SampleTask("common_gen", "text_gen", ("gem/common_gen",), NONE, draw=Draw(test_share=22, rounds=3)),
    SampleTask("e2e_nlg", "text_gen", ("gem/e2e_nlg",), NONE, draw=Draw(test_share=30)),
    SampleTask("webnlg_en", "text_gen", ("gem/webnlg_en",), NONE, draw=Draw(rounds=3)),
    SampleTask("asset_simplify", "text_gen", ("gem/asset",), NONE, row_number, Draw(test_share=30, rounds=5)),
    SampleTask("xsum", "text_gen", ("gem/xsum",), NONE),
    _instructed("qasc_combine", "text_gen", "038_qasc_combined_fact", answer),
    SampleTask("wikilingua_en", "text_gen", ("gem/wikilingua_en",), NONE, held_out=True),
    SampleTask("vitaminc", "nli", ("vitaminc_fact_verification",), OWN, title),
    SampleTask("fever", "nli", ("fact_checker/fever",), NONE),
    SampleTask("epistemic", "nli", ("epistemic_reasoning",), OWN),
    SampleTask("presupposition_nli", "nli", ("presuppositions_as_nli",), OWN, draw=Draw(test_share=14)),
    SampleTask("logical_fallacy", "nli", ("logical_fallacy_detection",), NONE),
    SampleTask("formal_fallacies", "nli", ("formal_fallacies_syllogisms_negation",), NONE),
    SampleTask("winowhy", "nli", ("winowhy",), OWN, first_line, held_out=True),
    _sentiment("en"),
    _sentiment("de"),
    _sentiment("es"),
    _sentiment("fr"),
    _sentiment("zh"),
    _sentiment("pl", held_out=True),
    SampleTask("add3", "arithmetic", ("arithmetic/3_digit_addition",), NONE),
    SampleTask("sub3", "arithmetic", ("arithmetic/3_digit_subtraction",), NONE),
    SampleTask("mul2", "arithmetic", ("arithmetic/2_digit_multiplication",), NONE),
    SampleTask("unit_si", "arithmetic", ("unit_conversion/si_conversion",), NONE),
    SampleTask("object_counting", "arithmetic", ("object_counting",), NONE),
    SampleTask("add4", "arithmetic", ("arithmetic/4_digit_addition",), NONE, held_out=True),
    SampleTask("pig_latin_encode", "word_form", ("language_games/pig_latin_encode",), TO_PIG_LATIN),
    SampleTask("pig_latin_decode", "word_form", ("language_games/pig_latin_decode",), FROM_PIG_LATIN, answer),
    SampleTask("word_sorting", "word_form", ("word_sorting",), OWN),
    SampleTask("unscramble", "word_form", ("word_unscrambling",), NONE),
    SampleTask("dates", "word_form", (UNNATURAL + "dates",), DATE),
    SampleTask("dates_back", "word_form", (UNNATURAL + "dates_unnatural_form",), DATE, held_out=True),
    SampleTask("past_tense", "grammar", (GRAMMAR + "past_tense_json",), PAST),
    SampleTask("plural", "grammar", (GRAMMAR + "plural_json",), PLURAL),
    SampleTask("make_question", "grammar", (GRAMMAR + "question_formation_json",), QUESTION),
    SampleTask("negate", "grammar", (GRAMMAR + "sentence_negation_json",), NEGATION),
    SampleTask("pronoun", "grammar", (GRAMMAR + "pronoun_replacement_json",), PRONOUN),
    SampleTask("tense", "grammar", ("tense",), NONE, before_request, Draw(test_share=100), held_out=True),
)
