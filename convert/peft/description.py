"""What an adapter is for, in one sentence, out of a model card."""

import re

MOST = 200  # characters
SECTION = re.compile(r"(model |adapter |intrinsic )?(description|summary|overview)|introduction|about( the model| this model)?", re.IGNORECASE)
MOST_READ, MOST_OF_PARAGRAPH = 100_000, 1_000  # characters: patterns may take the square of it
# What templates and programs write that say nothing of the job: Hugging Face's, Trainer's, TRL's, Unsloth's, Axolotl's, alora train's
BOILERPLATE = re.compile(
    r"more information needed|\bmodel card\b|automatically generated|fine-?tuned version of|fine-?tuned (from|using|with|on)\b|\bwas trained\b|"
    r"\bhas been trained\b|trained (2x |faster )|\bbuilt with\b|this (repo|repository|model) (contains|is a (lora|peft))\b|"
    r"^(active from the first of the invocation tokens|an ordinary lora, active|the held-out figures are)|^it achieves the following",
    re.IGNORECASE,
)
NO_PROSE = re.compile(r"\s*(\||>|[-*+]\s|\d+[.)]\s|<|!\[|\[!\[|={3,}|-{3,}|\*{3,}|_{3,}|\$\$)|( {4}|\t)")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|approx|resp|no|fig|dr|mr|mrs|ms|st|inc)\.$|\b[A-Z]\.$", re.IGNORECASE)


def card_sentence(card: str) -> str | None:
    """The first plain sentence of its description section, else of what stands under its title; at most MOST characters.

    Tables, lists, code, quotations and what templates leave behind are passed by; None if nothing else is there.
    """
    text = re.sub(r"\A---\r?\n.*?\r?\n---[ \t]*(?:\r?\n|\Z)", "", card[:MOST_READ], count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?(-->|\Z)", "", text, flags=re.DOTALL)
    text = re.sub(r"^(```|~~~).*?(^\1\s*$|\Z)", "\n", text, flags=re.DOTALL | re.MULTILINE)
    described, first = [], []
    for heading, level, paragraphs in _sections(text):
        if SECTION.fullmatch(_plain(heading).rstrip(":")):
            described += paragraphs
        elif level <= 1:
            first += paragraphs
    sentences = (sentence for paragraph in (*described, *first) if (sentence := _sentence(paragraph)))
    return next(sentences, None)


def shortened(text: str, most: int = MOST) -> str:
    """On one line, of at most `most` characters: what does not fit is cut where a clause ends, else behind a word."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    clauses = [match.start() for match in re.finditer(r"[:;](?= )", text[:most]) if match.start() >= most // 5]
    return text[: clauses[-1]] if clauses else text[: most - 1].rpartition(" ")[0].rstrip(",;: ") + "…"


def _sections(text: str) -> list[tuple[str, int, list[str]]]:
    """(heading, its level, its paragraphs) each; what stands before the first heading has level 0."""
    sections: list[tuple[str, int, list[str]]] = [("", 0, [])]
    prose: list[str] = []
    for line in [*text.splitlines(), ""]:
        level = len(line) - len(line.lstrip("#"))
        is_heading = 0 < level <= 6 and line[level : level + 1].isspace()
        if is_heading or not line.strip():
            sections[-1][2].append("\n".join(prose))
            prose = []
        if is_heading:
            sections.append((line[level:MOST_OF_PARAGRAPH].strip("# \t"), level, []))
        elif line.strip():
            prose.append(line)
    return sections


def _sentence(paragraph: str) -> str | None:
    lines = paragraph.splitlines()
    if not lines or NO_PROSE.match(lines[0]):
        return None
    text = re.sub(
        r"^\W{0,3}(model |adapter )?(description|summary|overview):\s*", "", _plain(" ".join(lines)[:MOST_OF_PARAGRAPH]), flags=re.IGNORECASE
    )
    for match in re.finditer(r"[.!?](?=[\"')\]]*(?:\s|$))", text):
        if not ABBREVIATION.search(text[max(0, match.end() - 10) : match.end()]):
            sentence = text[: match.end()]
            break
    else:
        sentence = text
    usable = len(sentence.split()) >= 3 and re.search(r"\w", sentence) and not BOILERPLATE.search(sentence)
    return shortened(sentence) if usable else None


def _plain(text: str) -> str:
    """Without Markdown's and HTML's marks."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"</?[A-Za-z][^<>]*>", "", text)
    text = re.sub(r"(\*\*|__|``?)(.*?)\1", r"\2", text)
    text = re.sub(r"(?<!\w)[*_](\S(?:.*?\S)?)[*_](?!\w)", r"\1", text)
    return " ".join(text.split())
