"""Questions about an entity `{e}`, with the entity named or referred to.

The rule of a rewritten question: what refers to an entity is replaced by the entity's name ("its" by "Chad's", "there" by
"in Chad"), an ellipsis is completed after the question before it, and everything else stays word for word.
"""

import re

from facts import Entity
from voice import capitalised

WOMEN = set(
    "Anna Carla Elena Grace Irene Katya Mina Olga Rosa Tessa Marie Ada Lise Mary Emmy Barbara Rosalind Caroline Dorothy Rita Chien-Shiung".split()
)  # first names
PEOPLE = ("scientist", "person")
PLACES = ("country", "city", "shop", "hotel", "flat", "museum", "building")
FORMS = {"it": ("it", "it", "its"), "he": ("he", "him", "his"), "she": ("she", "her", "her")}  # subject, object, possessive
OF = re.compile(r"\bthe ((?:[\w-]+ ){0,2}[\w-]+) of \{e\}(?!'s)")
IN = re.compile(r"\b(?:in|at|to) \{e\}(?!'s)")
SUBJECT_AFTER = set("is are was were does did do has have had can could will would which that what who when where how if because and".split())


def possessive(name: str) -> str:
    return name + ("'" if name.endswith("s") else "'s")


def named(template: str, name: str) -> str:
    """The question that names the entity."""
    return capitalised(template.replace("{e}'s", possessive(name)).replace("{e}", name))


def pronoun(entity: Entity) -> str:
    if entity.kind not in PEOPLE:
        return "it"
    return "she" if entity.name.split()[0] in WOMEN else "he"


def with_possessive(template: str) -> str:
    """`the capital of {e}` as `{e}'s capital`, which a pronoun can stand in for."""
    return OF.sub(r"{e}'s \1", template, count=1)


def with_pronoun(template: str, which: str) -> str:
    """The question with it, its, he, him, his, ... for the entity."""
    subject, object_, possessor = FORMS[which]
    text = template.replace("{e}'s", possessor)
    parts = text.split("{e}")
    said = parts[0]
    for part in parts[1:]:
        before = said.split()[-1].lower().strip(",") if said.split() else "is"
        said += (subject if before in SUBJECT_AFTER else object_) + part
    return capitalised(said)


def with_there(template: str) -> str | None:
    """The question with "there" for "in {e}"; None where it has no such place."""
    if template.count("{e}") != 1 or not IN.search(template):
        return None
    return capitalised(IN.sub("there", template))


def short_noun(noun: str) -> str | None:
    """What is asked of the entity: `capital` for `the capital of {e}`; None for longer phrases."""
    found = OF.fullmatch(noun)
    return found[1] if found else None
