"""Makes the answerability data: texts, questions about them, and whether the texts hold the answer.

    python intrinsics/answerability/data.py --out DIR      writes first.jsonl, train.jsonl, first_valid.jsonl, valid.jsonl, test.jsonl

Half of a passage's questions are answerable. No entity is in two splits, and every split has its own wordings, layouts,
system prompts and earlier turns. What is said begins with the fact that was found, its value and what that is of whom. For an
unanswerable question that is a fact which does not answer it: another entity's of this attribute, another of this entity's, or
none where nothing is near. The verdict compares it with the question, so that finding never has to choose between a fact and none.
What a value is has one name in first.jsonl, which is learned sooner, and several in train.jsonl, where texts about anything
(prose.txt) are added.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import phrasing
from facts import SPLITS, Entity, entities_of
from voice import SEED, Voice, assistant, capitalised, system, user, write_jsonl

FIRST = 1200  # passages that training begins with
PASSAGES = {"train": 500, "valid": 80, "test": 150}
PROSE = 4  # times that a text of prose.txt is used
GEOGRAPHY = ("country", "country", "city", "currency")
OTHERS = (
    "element",
    "novel",
    "animal",
    "building",
    "scientist",
    "shop",
    "event",
    "journey",
    "product",
    "course",
    "hotel",
    "person",
    "flat",
    "trip",
    "museum",
)
PLACES = {"documents": 0.5, "system": 0.2, "handed": 0.2, "asked": 0.1}  # where the passage is


@dataclass(frozen=True)
class Mix:
    """What a split's examples are like, as shares: `reasons` why a question is unanswerable (as weights), `pairs` of
    passages about two entities, `woven` of passages in prose whose facts are mixed and share sentences."""

    questions: int  # a passage
    reasons: dict[str, float]
    pairs: float
    woven: float


REASONS = {"missing": 0.4, "swapped": 0.3, "stranger": 0.2, "off-topic": 0.1}
MIXES = {
    "train": Mix(8, {"missing": 0.36, "swapped": 0.44, "stranger": 0.14, "off-topic": 0.06}, 0.75, 0.5),
    "valid": Mix(4, REASONS, 0.65, 0.0),
    "test": Mix(4, REASONS, 0.65, 0.0),
}


class Writer:
    """Writes passages and questions of one split."""

    def __init__(self, split: str, seed: int, labels: bool):
        voice = Voice(split, seed)
        self.rng, self.pick, self.chance = voice.rng, voice.pick, voice.chance
        self.mix, self.entities = MIXES[split], entities_of(split)
        self.said: dict[tuple[Entity, str], str] = {}  # the values as the passage has them
        self.labels, self.names = labels, Voice("train", seed)  # what is found is worded alike in all splits

    def value(self, entity: Entity, attribute: str) -> str:
        return self.said.setdefault((entity, attribute), self.rng.choice(entity.values[attribute]))

    def passages(self, stated: list[tuple[Entity, list[str]]]) -> list[str]:
        """One text, or one of each entity, that state the given attributes, as sentences or as lists."""
        as_list, apart = self.chance(0.25), len(stated) > 1 and self.chance(0.3)
        if not as_list and not apart and self.chance(self.mix.woven):
            return [self.woven(stated)]
        block = self.listing if as_list else self.sentences
        blocks = [block(entity, attributes) for entity, attributes in stated]
        if self.chance(0.25):
            blocks.insert(self.rng.choice((0, len(blocks))), self.pick(phrasing.REMARKS))
        return blocks if apart else [("\n\n" if as_list else self.rng.choice((" ", "\n"))).join(blocks)]

    def listing(self, entity: Entity, attributes: list[str]) -> str:
        item = self.pick(phrasing.ITEMS)
        lines = [capitalised(self.pick(phrasing.HEADINGS).format(e=entity.name))]
        for attribute in attributes:
            label = phrasing.WORDINGS[entity.kind][attribute].label
            lines.append(item.format(l=label, v=self.value(entity, attribute)))
        return "\n".join(lines)

    def sentences(self, entity: Entity, attributes: list[str]) -> str:
        """Sentences of which the first names the entity; the others may call it `it` or by its kind."""
        written = []
        for attribute in attributes:
            subject = entity.name
            if written and entity.kind not in phrasing.PEOPLE and self.chance(0.5):
                subject = self.rng.choice(("it", phrasing.GENERIC[entity.kind]))
            statement = self.pick(phrasing.WORDINGS[entity.kind][attribute].statements)
            written.append(capitalised(statement.format(e=subject, v=self.value(entity, attribute))))
        return " ".join(written)

    def woven(self, stated: list[tuple[Entity, list[str]]]) -> str:
        """Sentences in which the entities take turns, some of them with two facts, and remarks between."""
        facts = [(entity, attribute) for entity, attributes in stated for attribute in attributes]
        if self.chance(0.7):
            self.rng.shuffle(facts)
        written = []
        while facts:
            taken = [facts.pop(0) for _ in range(min(len(facts), self.rng.choice((1, 2))))]
            templates = [self.pick(phrasing.WORDINGS[entity.kind][attribute].statements) for entity, attribute in taken]
            written.append(capitalised(self.sentence(taken, templates)))
            if self.chance(0.15):
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
        name = phrasing.GENERIC[entity.kind] if alone and self.chance(0.25) else entity.name
        if self.chance(0.4):
            text = self.pick(phrasing.FRAMES).format(n=self.pick(wording.nouns).format(e=name))
        else:
            text = self.pick(wording.questions).format(e=name)
        return self.pick(phrasing.OPENERS).format(q=capitalised(text))

    def stated(self, kind: str) -> list[tuple[Entity, list[str]]]:
        """One or two entities of a kind, with the attributes that the passage will state of each."""
        number = min(2 if self.chance(self.mix.pairs) else 1, len(self.entities[kind]))
        chosen = []
        for entity in self.rng.sample(self.entities[kind], number):
            attributes = list(entity.values)
            most = len(attributes) - 1 if number == 1 else min(3, len(attributes) - 1)
            self.rng.shuffle(attributes)
            chosen.append((entity, attributes[: self.rng.randint(min(2, most), min(most, 6))]))
        return chosen

    def found(self, entity: Entity, attribute: str) -> str:
        """A fact of the passage, its value first."""
        wording = phrasing.WORDINGS[entity.kind][attribute]
        name = f"{wording.label.lower()} of {entity.name}" if self.labels else self.names.pick(wording.nouns).format(e=entity.name)
        return f"{self.value(entity, attribute)}, {name}"

    def unanswerable(self, kind: str, stated: list[tuple[Entity, list[str]]], passage: str, reason: str) -> tuple[str, str] | None:
        """A question that the passage does not answer, and what is found for it; None where there is none."""
        alone = len(stated) == 1
        if reason == "off-topic":
            if self.chance(0.3):
                return self.pick(phrasing.OFF_TOPIC), ""
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
        found = ""
        if reason in ("swapped", "stranger"):
            found = self.found(*self.rng.choice([(e, attribute) for e, attributes in stated if e is not entity and attribute in attributes]))
        elif reason == "missing":
            found = self.found(entity, self.rng.choice(given))
        return self.question(entity, attribute, alone and reason != "off-topic"), found

    def placed(self, texts: list[str]) -> tuple[list[dict], list[dict], str]:
        """The messages before the question, the documents, and the field of the question's layout, `{q}` but for "asked"."""
        place = self.rng.choices(list(PLACES), list(PLACES.values()))[0]
        passage, messages, documents, layout = "\n\n".join(texts), [], [], "{q}"
        if place == "system":
            messages.append(system(self.pick(phrasing.BRIEFED).format(p=passage)))
        elif self.chance(0.35):
            messages.append(system(self.pick(phrasing.SYSTEMS)))
        if self.chance(0.15):
            asked, said = self.pick(phrasing.EARLIER).split("/")
            messages += [user(asked), assistant(said)]
        if place == "documents":
            documents = [{"text": text} for text in texts]
        elif place == "handed":
            handed, said = self.pick(phrasing.HANDED).split("/")
            messages += [user(handed.format(p=passage)), assistant(said)]
        elif place == "asked":
            layout = self.pick(phrasing.LAYOUTS).replace("{p}", passage.replace("{", "{{").replace("}", "}}"))
        return messages, documents, layout

    def group(self, number: int) -> list[dict]:
        """The examples of one passage."""
        self.said = {}
        kind = self.rng.choice([k for k in (GEOGRAPHY if number % 2 else OTHERS) if k in self.entities])
        stated = self.stated(kind)
        texts = self.passages(stated)
        messages, documents, layout = self.placed(texts)
        facts = [(entity, a) for entity, attributes in stated for a in attributes]
        half = self.mix.questions // 2
        chosen = self.rng.sample(facts, min(len(facts), half))
        questions = {}
        for entity, attribute in chosen + self.rng.choices(facts, k=half - len(chosen)):
            questions[self.question(entity, attribute, len(stated) == 1)] = "answerable", self.found(entity, attribute), "stated"
        half = len(questions)
        while len(questions) < 2 * half:
            reason = self.rng.choices(list(self.mix.reasons), list(self.mix.reasons.values()))[0]
            question, found = self.unanswerable(kind, stated, "\n".join(texts), reason) or ("", "")
            if question and question not in questions:
                questions[question] = "unanswerable", found, reason
        examples = [
            {
                "messages": [*messages, user(layout.format(q=question))],
                "documents": documents,
                "output": {"found": found, "answerability": verdict},
                "reason": reason,
                "kind": kind,
                "passage": number,
            }
            for question, (verdict, found, reason) in questions.items()
        ]
        self.rng.shuffle(examples)
        return examples


def prose(writer: Writer) -> list[dict]:
    """The examples of prose.txt, each of its texts PROSE times in other places."""
    examples = []
    for number, block in enumerate(Path(__file__).with_name("prose.txt").read_text(encoding="utf-8").split("\n\n")[1:] * PROSE):
        text, *lines = block.strip().split("\n")
        messages, documents, layout = writer.placed([text])
        for line in lines:
            question, found = line[2:].split(" | ")
            question = layout.format(q=writer.pick(phrasing.OPENERS).format(q=question))
            verdict, reason = ("answerable", "stated") if line[0] == "+" else ("unanswerable", "missing")
            examples.append(
                {
                    "messages": [*messages, user(question)],
                    "documents": documents,
                    "output": {"found": found, "answerability": verdict},
                    "reason": reason,
                    "kind": "prose",
                    "passage": PASSAGES["train"] + number,
                }
            )
    return examples


def examples_of(split: str, seed: int = SEED, labels: bool = False) -> list[dict]:
    """The examples of a split, {"messages", "documents", "output", "reason", "kind", "passage"}; `reason` says why.

    With `labels` those that training begins with.
    """
    writer = Writer(split, seed, labels)
    examples = [example for number in range(FIRST if labels and split == "train" else PASSAGES[split]) for example in writer.group(number)]
    return examples + prose(writer) if split == "train" and not labels else examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, split, labels in (("first", "train", True), ("first_valid", "valid", True), *((split, split, False) for split in SPLITS)):
        examples = examples_of(split, arguments.seed, labels)
        write_jsonl(arguments.out / f"{name}.jsonl", examples)
        print(f"{name}: {len(examples)} examples, {len({e['passage'] for e in examples})} passages")


if __name__ == "__main__":
    main()
