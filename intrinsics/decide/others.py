"""Makes others.jsonl: tasks by others, for evaluation only.

    pip download --no-deps --no-binary :all: bigbench==1.0.0
    python intrinsics/decide/others.py bigbench-1.0.0.tar.gz

Tasks of BIG-bench 1.0.0 (Apache-2.0; Srivastava et al., Beyond the Imitation Game, 2022) with fixed options, in English, whose texts
have at most 400 characters, and which ask what a text says or what everyday words mean: no arithmetic, no puzzles of several steps, no
code, nothing for experts. They were chosen by that before anything was measured on them. Two are made of the data of
others: intent_recognition of SNIPS (CC0; Coucke et al., 2018), bbq_lite_json of BBQ (CC BY 4.0; Parrish et al., 2022). Tasks whose
texts come from elsewhere under other terms, or without any (wikiHow, Reddit, films), were left out.

BIG-bench asks that its data be in no training corpus. They are in none here, and the first row carries its canary.
"""

import argparse
import json
import random
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rows import Asked, choice, predicate, row
from voice import SEED, write_jsonl

MEMBER = "bigbench-1.0.0/bigbench/benchmark_tasks/{}/task.json"
A_TASK = 30
CHARACTERS = 400
MOST_OPTIONS = 10
Made = tuple[str, Asked] | None


def chosen(instruction: str, *, first: str = "", names: dict[str, str] | None = None) -> Callable[[str, dict[str, float]], Made]:
    """The options as they are; `first` stands before the text in the task and is no part of the state; `names` words options otherwise."""

    def make(text: str, scores: dict[str, float]) -> Made:
        best = max(scores.values())
        if list(scores.values()).count(best) != 1 or not 2 <= len(scores) <= MOST_OPTIONS:
            return None
        options = [(names or {}).get(option, option).strip() for option in scores]
        return (
            (text.removeprefix(first).strip(), choice(instruction, options, options[list(scores.values()).index(best)]))
            if len(set(options)) == len(options)
            else None
        )

    return make


def stated(statement: str, yes: str, *, first: str = "") -> Callable[[str, dict[str, float]], Made]:
    """Whether the option `yes` is right."""
    return lambda text, scores: (text.removeprefix(first).strip(), predicate(statement, scores[yes] > 0.5))


def asked_of_a_fact(text: str, scores: dict[str, float]) -> Made:
    """`Fact: ... Q: Did Mary arrive?`"""
    fact, _, question = text.removeprefix("Fact:").partition("Q:")
    return fact.strip(), predicate(question.strip(), scores["yes"] > 0.5)


def asked_last(text: str, scores: dict[str, float]) -> Made:
    """The last sentence is the question about what stands before it."""
    head, _, question = text.strip().rpartition(". ")
    made = chosen(question)(f"{head}.", scores)
    return made if head else None


def cause(text: str, scores: dict[str, float]) -> Made:
    events = sorted(scores)  # the cause stands first in the task
    return " ".join(events), chosen("Which of the two events caused the other?")(text, scores)[1]


def story(text: str, scores: dict[str, float]) -> Made:
    return chosen("Which proverb fits the story?")(text.partition("Which of the following")[0], scores)


def concept(text: str, scores: dict[str, float]) -> Made:
    head, _, question = text.partition("Question:")
    return chosen(question.strip())(head.removeprefix("Concept:"), scores)


WHAT = "Which answer to the question is right?"
TASKS: dict[str, tuple[tuple[str, ...], Callable[[str, dict[str, float]], Made]]] = {
    "intent_recognition": (("intent_recognition",), chosen("What does the user want the assistant to do?", first="Utterance:")),
    "bbq_lite": (tuple(f"bbq_lite_json/{kind}_disambig" for kind in ("age", "physical_appearance", "ses", "religion")), asked_last),
    "entailed_polarity": (("entailed_polarity",), asked_of_a_fact),
    "implicatures": (("implicatures",), stated("Speaker 2's answer means yes.", "yes")),
    "phrase_relatedness": (("phrase_relatedness",), chosen("Which phrase is the most related to it?")),
    "similarities_abstraction": (("similarities_abstraction",), chosen("How are the two alike?")),
    "odd_one_out": (("odd_one_out",), chosen("Which word does not belong with the others?", first="Pick the odd word out:")),
    "general_knowledge": (("general_knowledge",), chosen(WHAT)),
    "human_organs_senses": (("human_organs_senses",), chosen(WHAT)),
    "riddle_sense": (("riddle_sense",), chosen("What is the answer to the riddle?")),
    "english_proverbs": (("english_proverbs",), story),
    "conceptual_combinations": (
        tuple(
            f"conceptual_combinations/{kind}"
            for kind in ("contradictions", "emergent_properties", "fanciful_fictional_combinations", "invented_words")
        ),
        concept,
    ),
    "empirical_judgments": (("empirical_judgments",), chosen("What kind of relation between two events does the sentence assert?")),
    "irony_identification": (("irony_identification",), stated("The text is ironic.", "ironic")),
    "figure_of_speech": (("figure_of_speech_detection",), chosen("Which figure of speech is in the sentence?")),
    "nonsense_words_grammar": (("nonsense_words_grammar",), chosen("What is the answer to this question about grammar?")),
    "unit_identification": (("unit_conversion/unit_identification",), chosen("Which amount completes the sentence?")),
    "crass_ai": (("crass_ai",), chosen("What would have happened?")),
    "cause_and_effect": (("cause_and_effect/two_sentences",), cause),
    "novel_concepts": (("novel_concepts",), chosen("What do the things have in common?", first="What do the following have in common?")),
}


def rows_of(archive: tarfile.TarFile, rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for task, (parts, make) in TASKS.items():
        examples = []
        for part in parts:
            examples += json.load(archive.extractfile(MEMBER.format(part)))["examples"]
        made = [m for e in examples if (m := make(e["input"], e["target_scores"])) is not None and len(m[0]) <= CHARACTERS]
        rows += [row(text, [asked], task=task, source=f"BIG-bench, {task}") for text, asked in rng.sample(made, min(A_TASK, len(made)))]
    rng.shuffle(rows)  # so that the first ones are of all tasks
    return rows


def canary(archive: tarfile.TarFile) -> str:
    return json.load(archive.extractfile(MEMBER.format("intent_recognition")))["canary"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the source distribution of bigbench 1.0.0")
    arguments = parser.parse_args()
    with tarfile.open(arguments.archive) as archive:
        rows = rows_of(archive, random.Random(SEED))
        rows[0]["canary"] = canary(archive)
    for one in rows:  # the options in an order of their own: in some tasks the right one stands first
        for question in one["questions"].values():
            if question["type"] == "choice":
                random.Random(json.dumps(one, sort_keys=True)).shuffle(question["criteria"])
    write_jsonl(Path(__file__).parent / "others.jsonl", rows)
    print(f"{len(rows)} rows, {len(TASKS)} tasks")


if __name__ == "__main__":
    main()
