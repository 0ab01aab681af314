"""Makes the query-rewrite data: conversations, and their last question so that it can be understood alone.

    python intrinsics/query-rewrite/data.py --out DIR      writes train.jsonl, valid.jsonl and test.jsonl

The rule is in reference.py. Four last questions share a conversation; about a fifth of them need no change. No entity is
in two splits, and every split has its own wordings.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import phrasing
import reference
from facts import SPLITS, Entity, entities_of, table
from voice import SEED, Voice, assistant, capitalised, system, user, write_jsonl
from wording import WORDINGS

CONVERSATIONS = {"train": 2000, "valid": 60, "test": 150}
QUESTIONS = 4  # a conversation
KINDS = (
    "country",
    "country",
    "country",
    "country",
    "city",
    "city",
    "city",
    "currency",
    "element",
    "novel",
    "animal",
    "building",
    "scientist",
    "scientist",
    "shop",
    "event",
    "journey",
    "product",
    "course",
    "hotel",
    "person",
    "person",
    "flat",
    "trip",
    "museum",
)
PLANS = {"one": 0.3, "switch": 0.2, "mixed": 0.15, "listed": 0.1, "compared": 0.1, "place": 0.15}
MEASURES = {"country": "population", "city": "population", "building": "height", "scientist": "birth", "novel": "year", "element": "number"}
WORDS = {"country": "country", "city": "city", "journey": "service", "person": "person"}  # of the kinds; the others are called what they are
PLURAL = ("the Petronas Towers",)
TO_PLACE = ("capital", "largest", "city", "birthplace", "country", "town")  # attributes whose value is a place
ANY_PLACE = ("population", "continent", "area")  # what "it" may be asked of either place then
MORE = """name; birth; birthplace; field; fame
Michael Faraday; 1791; London; electricity; the discovery of induction
Johannes Kepler; 1571; Weil der Stadt; astronomy; the laws of planetary motion
Caroline Herschel; 1750; Hanover; astronomy; finding comets
Dorothy Hodgkin; 1910; Cairo; crystallography; the structure of penicillin
Louis Pasteur; 1822; Dole; microbiology; a vaccine against rabies
Rita Levi-Montalcini; 1909; Turin; neurology; the nerve growth factor
Alan Turing; 1912; London; computer science; the idea of a universal machine
Chien-Shiung Wu; 1912; Liuhe; nuclear physics; an experiment on parity"""  # scientists for the test set, so that it has he and she


@dataclass
class Talk:
    """A conversation so far: who it is about, and what a last question may refer to."""

    messages: list[dict] = field(default_factory=list)
    topics: list[Entity] = field(default_factory=list)  # the last one is what "it" is
    asked: str | None = None  # the template of the last question, where another entity can follow it
    used: set = field(default_factory=set)  # facts that were asked for
    place: bool = False  # the last answer was a place, so "there" would be unclear


class Writer:
    """Writes the conversations of one split."""

    def __init__(self, split: str, seed: int):
        self.voice = Voice(split, seed)
        self.rng, self.pick, self.chance = self.voice.rng, self.voice.pick, self.voice.chance
        self.entities = {k: [e for e in es if e.name not in PLURAL] for k, es in entities_of(split).items()}
        if split == "test":
            self.entities["scientist"] = self.entities["scientist"] + table("scientist", MORE, split)
        self.named = {(e.kind, e.name): e for es in self.entities.values() for e in es}
        self.kinds = [k for k in KINDS if len(self.entities.get(k, ())) > 2]

    def template(self, entity: Entity, attribute: str) -> str:
        """A question about an attribute, of `{e}`."""
        wording = WORDINGS[entity.kind][attribute]
        if self.chance(0.4):
            return capitalised(self.pick(phrasing.FRAMES).format(n=self.pick(wording.nouns)))
        return self.pick(wording.questions)

    def attribute(self, talk: Talk, entity: Entity, but: tuple[str, ...] = ()) -> str | None:
        free = [a for a in entity.values if (entity, a) not in talk.used and a not in but]
        return self.rng.choice(free) if free else None

    def referring(self, template: str, entity: Entity, there: bool = True) -> tuple[str, str]:
        """The question with a pronoun, and the one that names the entity."""
        if there and entity.kind in reference.PLACES and self.chance(0.6):
            text = reference.with_there(template)
            if text:
                return text, reference.named(template, entity.name)
        template = reference.with_possessive(template)
        return reference.with_pronoun(template, reference.pronoun(entity)), reference.named(template, entity.name)

    def kind_word(self, entity: Entity) -> str:
        return self.pick(phrasing.KIND).format(k=WORDS.get(entity.kind, entity.kind))

    def turn(self, talk: Talk, entity: Entity, attribute: str) -> None:
        """One question about an entity and its answer."""
        template = self.template(entity, attribute)
        same = talk.topics and talk.topics[-1] is entity
        clear = same and not (talk.place and attribute in ANY_PLACE)
        text = self.referring(template, entity, not talk.place)[0] if clear and self.chance(0.5) else reference.named(template, entity.name)
        value = self.rng.choice(entity.values[attribute])
        draw = self.rng.random()
        if draw < 0.55:
            said = self.pick(phrasing.ANSWERS).format(v=value)
        elif draw < 0.9:
            said = self.pick(WORDINGS[entity.kind][attribute].statements).format(e=entity.name, v=value)
        else:
            said = self.pick(phrasing.UNKNOWN)
        talk.messages += [user(text), assistant(capitalised(said))]
        talk.asked, talk.place = template, attribute in TO_PLACE and draw < 0.9
        talk.used.add((entity, attribute))
        talk.topics = [t for t in talk.topics if t is not entity] + [entity]

    def broad(self, talk: Talk, entity: Entity) -> None:
        """The user names an entity; the assistant is ready, or tells something."""
        said, attribute = self.pick(phrasing.READY), None
        if self.chance(0.5):
            attribute = self.attribute(talk, entity, TO_PLACE)
        if attribute:
            talk.used.add((entity, attribute))
            said = self.pick(WORDINGS[entity.kind][attribute].statements).format(e=entity.name, v=self.rng.choice(entity.values[attribute]))
        talk.messages += [user(self.pick(phrasing.BROAD).format(e=entity.name)), assistant(capitalised(said))]
        talk.asked, talk.place = None, False
        talk.topics = [t for t in talk.topics if t is not entity] + [entity]

    def about(self, talk: Talk, entity: Entity, turns: int) -> None:
        for number in range(turns):
            attribute = self.attribute(talk, entity)
            if number == 0 and self.chance(0.3) or attribute is None:
                self.broad(talk, entity)
            else:
                self.turn(talk, entity, attribute)

    def talk(self, plan: str) -> Talk:
        """What comes before the last question."""
        talk = Talk([system(self.pick(phrasing.SYSTEMS))] if self.chance(0.2) else [])
        if self.chance(0.08):
            asked, said = self.pick(phrasing.EARLIER).split("/")
            talk.messages += [user(asked), assistant(said)]
        kind = self.rng.choice(self.kinds if plan != "compared" else [k for k in self.kinds if k in MEASURES])
        first, second = self.rng.sample(self.entities[kind], 2)
        if plan == "one":
            self.about(talk, first, self.rng.choice((1, 1, 2, 3)))
        elif plan in ("switch", "mixed"):
            if plan == "mixed":
                second = self.rng.choice(self.entities[self.rng.choice([k for k in self.kinds if k != kind])])
            self.about(talk, first, self.rng.choice((1, 1, 2)))
            self.about(talk, second, self.rng.choice((1, 1, 2)))
        elif plan == "listed":
            text = self.pick(phrasing.BOTH).format(e=first.name, f=second.name)
            talk.messages += [user(text), assistant(self.pick(phrasing.READY))]
            talk.topics = [first, second]
        elif plan == "compared":
            measure = MEASURES[kind]
            larger = max((first, second), key=lambda e: number_of(e.values[measure][0]))
            if kind in ("scientist", "novel"):
                larger = first if larger is second else second
            text = self.pick(phrasing.COMPARED[kind]).format(e=first.name, f=second.name)
            talk.messages += [user(text), assistant(capitalised(self.pick(phrasing.WINNER).format(e=larger.name)))]
            talk.topics = [second if larger is first else first, larger]
            talk.used |= {(first, measure), (second, measure)}
        else:
            self.placed(talk)
        return talk

    def placed(self, talk: Talk) -> None:
        """A question whose answer is another entity: a city's country, or a country's city."""
        pairs = [(e, "country", self.named.get(("country", e.values["country"][0]))) for e in self.entities["city"]]
        pairs += [(e, a, self.named.get(("city", e.values[a][0]))) for e in self.entities["country"] for a in ("capital", "largest") if a in e.values]
        entity, attribute, answer = self.rng.choice([p for p in pairs if p[2]])
        template = self.template(entity, attribute)
        said = self.pick(phrasing.ANSWERS).format(v=answer.name)
        talk.messages += [user(reference.named(template, entity.name)), assistant(capitalised(said))]
        talk.topics, talk.used = [entity, answer], {(entity, attribute), (answer, "capital"), (answer, "largest"), (answer, "country")}

    def last(self, talk: Talk, plan: str) -> tuple[str, str, str] | None:
        """The last question as asked and as rewritten, and how it refers; None where the draw does not fit."""
        if self.chance(0.2):
            return self.complete(talk)
        *others, it = talk.topics
        if plan == "listed":
            entity, field = self.rng.choice(((talk.topics[0], phrasing.FIRST), (it, phrasing.SECOND)))
            return self.by_name(talk, entity, self.pick(field), "order")
        if plan == "place":
            entity = self.rng.choice(talk.topics)
            return self.by_name(talk, entity, self.kind_word(entity), "kind")
        draw = self.rng.random()
        if plan == "compared" and draw < 0.25:
            return self.by_name(talk, others[0], self.pick(phrasing.OTHER), "order")
        if plan == "mixed" and draw < 0.5 or plan == "one" and draw < 0.15:
            entity = self.rng.choice(talk.topics)
            if it.kind in reference.PEOPLE and others and others[0].kind in reference.PEOPLE and entity is not it:
                return None
            return self.by_name(talk, entity, self.kind_word(entity), "kind")
        if talk.asked and plan != "compared" and draw > 0.72:
            return self.same_asked(talk, it)
        if draw > 0.55 and it.kind not in reference.PEOPLE:
            return self.other_asked(talk, it)
        if others and {reference.pronoun(it), reference.pronoun(others[-1])} == {"he", "she"}:
            it = self.rng.choice((it, others[-1]))
        attribute = self.attribute(talk, it, ANY_PLACE if talk.place else ())
        if attribute is None:
            return None
        return (*self.opened(*self.referring(self.template(it, attribute), it, not talk.place)), "pronoun")

    def opened(self, asked: str, rewritten: str) -> tuple[str, str]:
        """Both with the same words around them."""
        opener = self.pick(phrasing.OPENERS)
        small = asked.split()[0] in ("What", "Which", "How", "Where", "When", "Who", "In", "On", "Can", "Do", "By", "At", "From")
        if "{s}" in opener and not small:
            opener = "{q}"
        return tuple(opener.format(q=text, s=text[:1].lower() + text[1:]) for text in (asked, rewritten))

    def by_name(self, talk: Talk, entity: Entity, words: str, how: str) -> tuple[str, str, str] | None:
        """A question that calls the entity something else than its name."""
        attribute = self.attribute(talk, entity)
        if attribute is None:
            return None
        template = self.template(entity, attribute)
        asked = capitalised(template.replace("{e}", words))
        return (*self.opened(asked, reference.named(template, entity.name)), how)

    def same_asked(self, talk: Talk, it: Entity) -> tuple[str, str, str] | None:
        """`And Chad?`: the question before, of another entity."""
        new = self.rng.choice(self.entities[it.kind])
        if new in talk.topics:
            return None
        template = reference.with_possessive(talk.asked) if self.possessive_asked(talk, it) else talk.asked
        return capitalised(self.pick(phrasing.SAME_ASKED).format(e=new.name)), reference.named(template, new.name), "same question"

    def possessive_asked(self, talk: Talk, it: Entity) -> bool:
        """Whether the question before was asked with a possessive pronoun for a noun phrase."""
        said = next(m["content"] for m in reversed(talk.messages) if m["role"] == "user")
        return it.name not in said and reference.with_pronoun(reference.with_possessive(talk.asked), reference.pronoun(it)) == said

    def other_asked(self, talk: Talk, it: Entity) -> tuple[str, str, str] | None:
        """`And its currency?`: what is this of the entity."""
        attribute = self.attribute(talk, it)
        short = reference.short_noun(self.pick(WORDINGS[it.kind][attribute].nouns)) if attribute else None
        if short is None:
            return None
        return capitalised(self.pick(phrasing.OTHER_ASKED).format(x=short)), f"What is the {short} of {it.name}?", "other question"

    def complete(self, talk: Talk) -> tuple[str, str, str]:
        """A question that stays as it is."""
        if self.chance(0.2):
            text = self.pick(phrasing.COMPLETE)
        else:
            entity = self.rng.choice(talk.topics if self.chance(0.5) else self.entities[talk.topics[-1].kind])
            text = reference.named(self.template(entity, self.rng.choice(list(entity.values))), entity.name)
            text = self.opened(text, text)[0]
        return text, text, "complete"

    def group(self, number: int) -> list[dict]:
        """The examples of one conversation."""
        plan = self.rng.choices(list(PLANS), list(PLANS.values()))[0]
        talk, drawn = self.talk(plan), {}
        for _ in range(200):
            one = self.last(talk, plan)
            if one and one[0] not in drawn:
                drawn[one[0]] = one
            if len(drawn) == QUESTIONS:
                break
        return [
            {
                "messages": talk.messages + [user(asked)],
                "output": rewritten,
                "reason": how,
                "plan": plan,
                "kind": talk.topics[-1].kind,
                "conversation": number,
            }
            for asked, rewritten, how in drawn.values()
        ]


def number_of(text: str) -> int:
    """The number that a value starts with, without its commas."""
    return int(text.split()[0].replace(",", ""))


def examples_of(split: str, conversations: int | None = None, seed: int = SEED) -> list[dict]:
    """The examples of a split, in groups of one conversation.

    Beside "messages" and "output", the rewritten question, an example has as `reason` what the last question refers by.
    """
    writer = Writer(split, seed)
    return [example for number in range(conversations or CONVERSATIONS[split]) for example in writer.group(number)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write train.jsonl, valid.jsonl and test.jsonl to")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        examples = examples_of(split, seed=arguments.seed)
        write_jsonl(arguments.out / f"{split}.jsonl", examples)
        print(f"{split}: {len(examples)} examples of {CONVERSATIONS[split]} conversations")


if __name__ == "__main__":
    main()
