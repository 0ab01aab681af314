"""Facts of ../facts.py in sentences, lists and JSON, and what is asked about them: values, statements, what is not stated, which is more."""

import re

from facts import Entity, entities_of
from rows import Asked, choice, predicate, score
from voice import Voice, capitalised
from wording import GENERIC, PEOPLE, WORDINGS

UNKNOWN = ("not stated", "unknown", "the text does not say", "none of these", "cannot be told", "no answer")
STATED = "The text says {n}. | Is {n} given? | One can learn {n} from this. | {n} is mentioned. || Does it tell {n}? || {n} can be found here."
ABOUT = "What is it about? | Topic | What kind of thing is described? | Subject of the text || What does the text describe? || The text deals with"
MANY = ("How many facts are given?", "Amount of information", "How much does the text tell?")
FEW_TO_MANY = (("one or two", "three or four", "five or more"), ("little", "some", "much"))


class Passages:
    """One split's entities, and their values by attribute."""

    def __init__(self, split: str):
        self.entities = entities_of(split)
        self.values = {
            (kind, attribute): sorted({e.values[attribute][0] for e in of if attribute in e.values})
            for kind, of in self.entities.items()
            for attribute in WORDINGS[kind]
        }


def passage(voice: Voice, passages: Passages) -> tuple[object, list[Asked]]:
    """One or two entities of a kind."""
    rng, pick = voice.rng, voice.pick
    kind = rng.choice(list(passages.entities))
    chosen = rng.sample(passages.entities[kind], min(len(passages.entities[kind]), rng.choice((1, 1, 2))))
    stated = [(e, rng.sample(list(e.values), rng.randint(min(2, len(e.values) - 1), min(5, len(e.values) - 1)))) for e in chosen]
    said = {(e, a): rng.choice(e.values[a]) for e, attributes in stated for a in attributes}
    if voice.chance(0.3):
        records = [{"name": e.name, **{_key(kind, a): said[e, a] for a in attributes}} for e, attributes in stated]
        state: object = records[0] if len(records) == 1 else records
    else:
        written = [_sentence(voice, e, a, said[e, a], first=i == 0) for e, attributes in stated for i, a in enumerate(attributes)]
        state = rng.choice((" ", " ", "\n")).join(written)
    facts = list(said)
    asked = []
    for entity, attribute in rng.sample(facts, min(2, len(facts))):
        value, question = said[entity, attribute], _question(voice, entity, attribute)
        others = [v for v in passages.values[kind, attribute] if v not in entity.values[attribute]]
        here = [v for (e, a), v in said.items() if a == attribute and e is not entity and v != value]
        options = list(dict.fromkeys([*here, *rng.sample(others, min(len(others), rng.randint(1, 5)))]))
        if voice.chance(0.25):
            options.append(rng.choice(UNKNOWN))
        asked.append(choice(question, rng.sample([value, *options], len(options) + 1), value))
        wrong = rng.choice([*here, *here, *options[:1]] or [value])
        for v in (value, wrong):
            asked.append(predicate(_statement(voice, entity, attribute, v), v == value))
    entity, attributes = rng.choice(stated)
    missing = [a for a in entity.values if a not in attributes]
    if missing:
        lacking = rng.choice(missing)
        options = rng.sample(passages.values[kind, lacking], min(3, len(passages.values[kind, lacking])))
        asked.append(choice(_question(voice, entity, lacking), [*options, unknown := rng.choice(UNKNOWN)], unknown))
        for a, right in ((lacking, False), (rng.choice(attributes), True)):
            asked.append(predicate(capitalised(pick(STATED).format(n=pick(WORDINGS[kind][a].nouns).format(e=entity.name))), right))
    topics = [GENERIC[k].removeprefix("the ").removeprefix("this ") for k in rng.sample([k for k in GENERIC if k != kind], rng.randint(1, 6))]
    topic = GENERIC[kind].removeprefix("the ").removeprefix("this ")
    asked.append(choice(pick(ABOUT), rng.sample([topic, *topics], len(topics) + 1), topic))
    if len(chosen) == 2:
        attribute = rng.choice([a for a in WORDINGS[kind] if all((e, a) in said for e in chosen)] or [None])
        if attribute and said[chosen[0], attribute] != said[chosen[1], attribute]:
            one = rng.choice(chosen)
            label = WORDINGS[kind][attribute].label.lower()
            asked.append(
                choice(
                    rng.choice((f"Whose {label} is {said[one, attribute]}?", f"Which has this {label}: {said[one, attribute]}?")),
                    [e.name for e in chosen],
                    one.name,
                )
            )
    asked.append(score(rng.choice(MANY), rng.choice(FEW_TO_MANY), 0 if len(facts) < 3 else 1 if len(facts) < 5 else 2))
    return state, rng.sample(asked, min(5, len(asked)))


def comparison(voice: Voice) -> tuple[object, list[Asked]]:
    """Numbers and words in a list: which is the largest, the first, is it there."""
    rng = voice.rng
    names = rng.sample("Ann Bill Cora Dan Eve Finn Gus Hana Ivo June".split(), rng.randint(2, 5))
    what, unit = rng.choice((("age", "years"), ("height", "cm"), ("points", "points"), ("price", "euros"), ("distance", "km"), ("weight", "kg")))
    numbers = dict(zip(names, rng.sample(range(3, 200), len(names))))
    if voice.chance(0.5):
        state: object = "\n".join(f"{n}: {v} {unit}" for n, v in numbers.items())
    else:
        state = [{"name": n, what: v} for n, v in numbers.items()]
    most, least = max(numbers, key=numbers.get), min(numbers, key=numbers.get)
    one = rng.choice(names)
    absent = rng.choice("Kim Lou Max Nia Otto".split())
    a, b = rng.sample(names, 2)
    asked = [
        choice(f"Who has the highest {what}?", names, most),
        choice(f"Who has the lowest {what}?", names, least),
        choice(f"What is the {what} of {one}?", [str(v) for v in numbers.values()], str(numbers[one])),
        choice("Who stands first?", rng.sample(names, len(names)), names[0]),
        choice("Who stands last?", rng.sample(names, len(names)), names[-1]),
        choice(f"{a} or {b}: who has more?", [a, b], a if numbers[a] > numbers[b] else b),
        predicate(f"{absent} is in the list.", False),
        predicate(f"{one} is in the list.", True),
        predicate(f"{a} has more than {b}.", numbers[a] > numbers[b]),
        predicate(f"{one} has {rng.choice(list(numbers.values()))} {unit}.", False),
    ]
    asked[-1] = predicate(asked[-1][0]["instructions"], asked[-1][0]["instructions"] == f"{one} has {numbers[one]} {unit}.")
    return state, rng.sample(asked, 4)


def _key(kind: str, attribute: str) -> str:
    return re.sub(r"\W+", "_", WORDINGS[kind][attribute].label.lower())


def _sentence(voice: Voice, entity: Entity, attribute: str, value: str, first: bool) -> str:
    subject = entity.name if first or entity.kind in PEOPLE or voice.chance(0.5) else voice.rng.choice(("it", GENERIC[entity.kind]))
    return capitalised(voice.pick(WORDINGS[entity.kind][attribute].statements).format(e=subject, v=value))


def _statement(voice: Voice, entity: Entity, attribute: str, value: str) -> str:
    """Worded as in a passage, or as a value of a noun."""
    if voice.chance(0.5):
        return capitalised(voice.pick(WORDINGS[entity.kind][attribute].statements).format(e=entity.name, v=value))
    noun = voice.pick(WORDINGS[entity.kind][attribute].nouns).format(e=entity.name)
    return voice.rng.choice((f"{capitalised(noun)} is {value}.", f"Is {noun} {value}?", f"{capitalised(noun)}: {value}"))


def _question(voice: Voice, entity: Entity, attribute: str) -> str:
    wording = WORDINGS[entity.kind][attribute]
    if voice.chance(0.4):
        return capitalised(voice.pick(wording.nouns).format(e=entity.name))
    return capitalised(voice.pick(wording.questions).format(e=entity.name))
