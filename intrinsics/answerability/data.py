"""Makes the answerability data: passages, questions about them, and whether the passage holds the answer.

    python intrinsics/answerability/data.py --out DIR      writes train.jsonl and valid.jsonl

Half of a passage's questions are answerable. No entity is in two splits, and every split has its own wordings, layouts,
system prompts and earlier turns.
"""

import argparse
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import phrasing
from facts import SPLITS, Entity, entities_of

SEED = 20261124
PASSAGES = {"train": 1000, "valid": 80, "test": 150}
GEOGRAPHY = ("country", "country", "city", "currency")
OTHERS = (
    "element", "novel", "animal", "building", "scientist", "shop", "event", "journey", "product", "course",
    "hotel", "person", "flat", "trip", "museum",
)


@dataclass(frozen=True)
class Mix:
    """What a split's examples are like, as shares: `reasons` why a question is unanswerable (as weights), `pairs` of
    passages about two entities, `endings` of conversations that end with the user and with the base model's answer,
    `woven` of passages in prose whose facts are mixed and share sentences. Only one passage in `base_every` has endings
    with the base model's answer."""

    questions: int  # a passage
    reasons: dict[str, float]
    pairs: float
    endings: tuple[float, float]
    base_every: int
    woven: float


HELD_OUT = Mix(4, {"missing": 0.4, "swapped": 0.3, "stranger": 0.2, "off-topic": 0.1}, 0.65, (0.5, 0.35), 1, 0.0)
MIXES = {
    "train": Mix(8, {"missing": 0.34, "swapped": 0.46, "stranger": 0.14, "off-topic": 0.06}, 0.8, (0.5, 0.35), 3, 0.5),
    "valid": HELD_OUT,
    "test": HELD_OUT,
}


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


class Writer:
    """Writes passages and questions of one split.

    `rng` decides everything; the same split, seed and number of passages give the same examples.
    """

    def __init__(self, split: str, rng: random.Random):
        self.rng, self.split, self.mix, self.entities = rng, split, MIXES[split], entities_of(split)

    def pick(self, field: str) -> str:
        return self.rng.choice(phrasing.choices(field, self.split))

    def value(self, entity: Entity, attribute: str) -> str:
        return self.rng.choice(entity.values[attribute])

    def passage(self, stated: list[tuple[Entity, list[str]]]) -> str:
        """The text that states the given attributes of the given entities, as sentences or as lists."""
        as_list = self.rng.random() < 0.25
        if not as_list and self.mix.woven and self.rng.random() < self.mix.woven:
            return self.woven(stated)
        block = self.listing if as_list else self.sentences
        blocks = [block(entity, attributes) for entity, attributes in stated]
        if self.rng.random() < 0.25:
            blocks.insert(self.rng.choice((0, len(blocks))), self.pick(phrasing.REMARKS))
        return ("\n\n" if as_list else self.rng.choice((" ", "\n"))).join(blocks)

    def listing(self, entity: Entity, attributes: list[str]) -> str:
        item = self.pick(phrasing.ITEMS)
        lines = [capitalised(self.pick(phrasing.HEADINGS).format(e=entity.name))]
        for attribute in attributes:
            label = phrasing.WORDINGS[entity.kind][attribute].label
            lines.append(item.format(l=label, v=self.rng.choice(entity.values[attribute])))
        return "\n".join(lines)

    def sentences(self, entity: Entity, attributes: list[str]) -> str:
        """Sentences of which the first names the entity; the others may call it `it` or by its kind."""
        written = []
        for attribute in attributes:
            subject = entity.name
            if written and entity.kind not in phrasing.PEOPLE and self.rng.random() < 0.5:
                subject = self.rng.choice(("it", phrasing.GENERIC[entity.kind]))
            statement = self.pick(phrasing.WORDINGS[entity.kind][attribute].statements)
            written.append(capitalised(statement.format(e=subject, v=self.rng.choice(entity.values[attribute]))))
        return " ".join(written)

    def woven(self, stated: list[tuple[Entity, list[str]]]) -> str:
        """Sentences in which the entities take turns, some of them with two facts, and remarks between."""
        facts = [(entity, attribute) for entity, attributes in stated for attribute in attributes]
        if self.rng.random() < 0.7:
            self.rng.shuffle(facts)
        written = []
        while facts:
            taken = [facts.pop(0) for _ in range(min(len(facts), self.rng.choice((1, 2))))]
            templates = [self.pick(phrasing.WORDINGS[entity.kind][attribute].statements) for entity, attribute in taken]
            written.append(capitalised(self.sentence(taken, templates)))
            if self.rng.random() < 0.15:
                written.append(self.pick(phrasing.REMARKS))
        return " ".join(written)

    def sentence(self, facts: list[tuple[Entity, str]], templates: list[str]) -> str:
        """One sentence of one or two facts."""
        filled = [t.format(e=entity.name, v=self.value(entity, a)) for t, (entity, a) in zip(templates, facts, strict=True)]
        if len(facts) == 1:
            return filled[0]
        clauses = [(text if t.startswith("{") else text[:1].lower() + text[1:])[:-1] for t, text in zip(templates, filled, strict=True)]
        entity = facts[0][0]
        if entity is facts[1][0] and all(t.startswith("{e} ") for t in templates) and entity.kind not in phrasing.PEOPLE:
            said = [clause.removeprefix(entity.name + " ") for clause in clauses]
            return self.pick(phrasing.JOINED_SUBJECT).format(s=entity.name, b=said[0], c=said[1])
        return self.pick(phrasing.JOINED).format(a=clauses[0], b=clauses[1])

    def question(self, entity: Entity, attribute: str, alone: bool) -> str:
        """A question about one attribute; `alone` allows calling the only entity of the passage `it` or by its kind."""
        wording = phrasing.WORDINGS[entity.kind][attribute]
        name = phrasing.GENERIC[entity.kind] if alone and self.rng.random() < 0.25 else entity.name
        if self.rng.random() < 0.4:
            text = self.pick(phrasing.FRAMES).format(n=self.pick(wording.nouns).format(e=name))
        else:
            text = self.pick(wording.questions).format(e=name)
        return self.pick(phrasing.OPENERS).format(q=capitalised(text))

    def stated(self, kind: str) -> list[tuple[Entity, list[str]]]:
        """One or two entities of a kind, with the attributes that the passage will state of each."""
        number = min(2 if self.rng.random() < self.mix.pairs else 1, len(self.entities[kind]))
        chosen = []
        for entity in self.rng.sample(self.entities[kind], number):
            attributes = list(entity.values)
            most = len(attributes) - 1 if number == 1 else min(3, len(attributes) - 1)
            self.rng.shuffle(attributes)
            chosen.append((entity, attributes[: self.rng.randint(min(2, most), min(most, 6))]))
        return chosen

    def unanswerable(self, kind: str, stated: list[tuple[Entity, list[str]]], passage: str, reason: str) -> tuple[str, str] | None:
        """A question that the passage does not answer, and the question's true answer; None where there is none."""
        alone = len(stated) == 1
        if reason == "off-topic":
            if self.rng.random() < 0.3:
                return self.pick(phrasing.OFF_TOPIC), "nothing in particular"
            other = self.rng.choice([k for k in self.entities if k != kind])
            entity = self.rng.choice(self.entities[other])
            attribute = self.rng.choice(list(entity.values))
        elif reason == "stranger":
            inside = {e for e, _ in stated}
            entity = self.rng.choice(self.entities[kind])
            attribute = self.rng.choice([a for _, attributes in stated for a in attributes])
            if entity in inside or attribute not in entity.values:
                return None
            alone = False
        else:
            entity, given = self.rng.choice(stated)
            elsewhere = {a for e, attributes in stated if e is not entity for a in attributes}
            free = [a for a in entity.values if a not in given and (a in elsewhere) == (reason == "swapped")]
            free = [a for a in free if not any((g, a) in phrasing.GIVES_AWAY for g in given)]
            if not free:
                return None
            attribute = self.rng.choice(free)
        if reason != "off-topic":
            named_as_value = any(entity.name in v for e, attributes in stated for a in attributes for v in e.values[a])
            if named_as_value or any(len(v) > 3 and v in passage for v in entity.values[attribute]):
                return None
        return self.question(entity, attribute, alone and reason != "off-topic"), self.rng.choice(entity.values[attribute])

    def prefix(self) -> list[dict]:
        """The messages before the passage: mostly none, else a system prompt, an earlier exchange, or both."""
        messages = []
        if self.rng.random() < 0.35:
            messages.append({"role": "system", "content": self.pick(phrasing.SYSTEMS)})
        if self.rng.random() < 0.15:
            asked, said = self.pick(phrasing.EARLIER).split("/")
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        return messages

    def answer(self, truth: str, kind: str, with_base: bool) -> tuple[str, list[dict]]:
        """How the conversation ends: with the user, with a written answer, or with one that the base model will give."""
        draw, (none, base) = self.rng.random(), self.mix.endings
        if draw < none:
            return "none", []
        if draw < none + base:
            return ("base" if with_base else "none"), []
        if self.rng.random() < 0.3:
            return "written", [{"role": "assistant", "content": self.pick(phrasing.REFUSALS)}]
        if self.rng.random() < 0.35:
            other = self.rng.choice(self.entities[kind])
            truth = self.rng.choice(self.rng.choice(list(other.values.values())))
        return "written", [{"role": "assistant", "content": capitalised(self.pick(phrasing.ANSWERS).format(v=truth))}]

    def group(self, number: int) -> list[dict]:
        """The examples of one passage."""
        kinds = [k for k in (GEOGRAPHY if number % 2 else OTHERS) if k in self.entities]
        kind = self.rng.choice(kinds)
        stated = self.stated(kind)
        passage, prefix, layout = self.passage(stated), self.prefix(), self.pick(phrasing.LAYOUTS)
        facts = [(entity, a) for entity, attributes in stated for a in attributes]
        questions = []
        half = self.mix.questions // 2
        chosen = self.rng.sample(facts, min(len(facts), half))
        for entity, attribute in chosen + self.rng.choices(facts, k=half - len(chosen)):
            text = self.question(entity, attribute, len(stated) == 1)
            questions.append((text, self.rng.choice(entity.values[attribute]), "answerable", "stated"))
        while len(questions) < self.mix.questions:
            reason = self.rng.choices(list(self.mix.reasons), list(self.mix.reasons.values()))[0]
            drawn = self.unanswerable(kind, stated, passage, reason)
            if drawn and drawn[0] not in [q[0] for q in questions]:
                questions.append((*drawn, "unanswerable", reason))
        self.rng.shuffle(questions)
        examples = []
        for text, truth, label, reason in questions:
            ending, answer = self.answer(truth, kind, number % self.mix.base_every == 0)
            asked = {"role": "user", "content": layout.format(p=passage, q=text)}
            examples.append({
                "messages": prefix + [asked] + answer, "label": label, "reason": reason,
                "kind": kind, "passage": number, "answer": ending,
            })
        return examples


def examples_of(split: str, passages: int | None = None, seed: int = SEED) -> list[dict]:
    """The examples of a split: `passages` groups of one passage.

    Each is {"messages", "label", "reason", "kind", "passage", "answer"}; `label` is "answerable" or "unanswerable",
    `reason` says why, `answer` how the conversation ends: "none" (with the user), "written" (with the assistant), or
    "base": the messages end with the user; in test.jsonl the base model's own answer, at most 24 tokens, greedy, follows.
    """
    if split not in SPLITS:
        raise ValueError(f"data: split: expected one of {', '.join(SPLITS)}, got {split!r}; name one of these")
    writer = Writer(split, random.Random(f"{seed} {split}"))
    return [example for number in range(passages or PASSAGES[split]) for example in writer.group(number)]


def write_jsonl(path: Path, examples: list[dict]) -> None:
    """Lines as `alora train` reads them: the label is the `output`."""
    lines = [json.dumps({"output": e["label"], **{k: v for k, v in e.items() if k != "label"}}, ensure_ascii=False) for e in examples]
    Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write train.jsonl and valid.jsonl to")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid"):
        examples = examples_of(split, seed=arguments.seed)
        write_jsonl(arguments.out / f"{split}.jsonl", examples)
        print(f"{split}: {len(examples)} examples, {len(examples) // MIXES[split].questions} passages")


if __name__ == "__main__":
    main()
