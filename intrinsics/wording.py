"""How the attributes of facts.py are worded: `wordings.toml` as Python."""

import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Wording:
    """One attribute's wordings: a label for lists, statements, noun phrases, and full questions, as fields of voice.choices."""

    label: str
    statements: str
    nouns: str
    questions: str


def wordings(path: Path) -> dict[str, dict[str, Wording]]:
    """The attributes' wordings by kind; line breaks in the file count as spaces."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        kind: {name: Wording(**{k: " ".join(text.split()) for k, text in fields.items()}) for name, fields in attributes.items()}
        for kind, attributes in tables.items()
    }


WORDINGS = wordings(Path(__file__).with_name("wordings.toml"))

GENERIC = {
    "country": "the country",
    "city": "the city",
    "currency": "the currency",
    "element": "the element",
    "novel": "the novel",
    "animal": "the animal",
    "building": "the building",
    "scientist": "the scientist",
    "shop": "the shop",
    "event": "the event",
    "journey": "the service",
    "product": "the product",
    "course": "the course",
    "hotel": "the hotel",
    "person": "this person",
    "flat": "the flat",
    "trip": "the trip",
    "museum": "the museum",
}
PEOPLE = ("scientist", "person")

FRAMES = (
    "What is {n}? | Tell me {n}. | Can you tell me {n}? | I would like to know {n}. | Do you know {n}? | What does it say about {n}? "
    "| I want to know {n}. | Say {n}. | Is there anything about {n}? | Name {n}. | I need {n}. | Does the text mention {n}? "
    "| We were asked for {n}. | I wonder about {n}. "
    "|| Find out {n}. | My question is about {n}. | Would you tell us {n}? "
    "|| Please give {n}. | Could you find {n}? | Let me know {n}, please. | I am looking for {n}."
)

# A system prompt, or a message and its reply, that holds a text.
BRIEFED = (
    "You answer questions about this text.\n\n{p} | Use the following information to help the user.\n{p} | Context: {p} "
    "| Here is what you know:\n\n{p}\n\nAnswer briefly. | You work at an information desk. Your notes:\n{p} | Facts: {p} Give short answers. "
    "|| Stick to the page below.\n\n{p} || The following was retrieved for the user:\n\n{p} | All you have been told is this:\n{p}"
)
HANDED = (
    "Here is a text: {p}/Thank you. What would you like to know? | {p}/I have read it. | Please read this.\n\n{p}/Done. "
    '| Look at this: {p}/What do you want to know? | I want to ask you about the following.\n\n{p}/Go ahead. | Text:\n"{p}"/Got it. '
    "|| Keep this in mind: {p}/I will. || I copied these lines for you:\n\n{p}/Received. | Have a look at this page. {p}/Sure, I looked at it."
)
