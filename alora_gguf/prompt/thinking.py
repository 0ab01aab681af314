"""The strings that a model writes around its thought, found in what its template writes and in what it says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Thinking:
    """start, THOUGHT, end, turn, answer, ANSWER, answer_end: what a model that thinks may write, with white space between them.

    turn         what begins its message anew after the thought, where a thought is a message of its own. A model that does not
                 think writes no turn: the prompt has it
    answer       what stands before the answer, with a thought and without; answer_end behind it
    before       `start`, with the white space behind it that the template writes; between: all that it writes from a thought to the answer
    """

    start: str
    end: str
    turn: str = ""
    answer: str = ""
    answer_end: str = ""
    before: str = field(default="", compare=False)
    between: str = field(default="", compare=False)

    @property
    def closing(self) -> str:
        """What ends a thought and begins the answer."""
        return self.between or self.end + self.turn + self.answer

    @property
    def without(self) -> str:
        """What begins an answer that no thought stands before, in a prompt that does not leave one open."""
        return self.answer or (self.before or self.start) + self.closing

    def thinks_in(self, prompt: str) -> bool:
        """Whether a rendered prompt leaves the thought open: it ends with `start`, so that the model's first word is thought."""
        return prompt.rstrip().endswith(self.start.strip())

    def passed_by(self, prompt: str) -> str:
        """What follows a rendered prompt where the model is not to think: an empty thought, or what stands before an answer without one."""
        gap = "" if self.turn or self.answer else "\n\n"
        if self.thinks_in(prompt):
            n_lines = len(prompt) - len(prompt.rstrip("\n"))  # which some templates write behind the tag
            return f"{gap[n_lines:]}{self.end}{gap}{self.turn}{self.answer}"
        if prompt.rstrip().endswith((self.end + self.turn + self.answer).strip()) or self.answer and prompt.rstrip().endswith(self.answer.strip()):
            return ""  # the template has written it
        return self.answer or f"{self.start}{gap}{self.end}{gap}"


# Where a pair has several forms of an answer, that with most strings comes first.
_KNOWN = (
    Thinking("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant", "<|channel|>final<|message|>"),  # gpt-oss
    Thinking(" to=self<|message|>", "<|eom|>", "<|start|>assistant", " to=user<|message|>"),  # Muse
    Thinking("<|think|>", "<|end|>", "<|begin|>assistant", "<|content|>"),  # Solar
    Thinking("<|open|>think<|sep|>", "<|close|>think<|sep|>", "", "<|open|>response<|sep|>", "<|close|>response<|sep|>"),  # Kimi K3
    Thinking("<|channel>thought", "<channel|>"),  # Gemma 4
    Thinking("<|START_THINKING|>", "<|END_THINKING|>", "", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Command R7B, A
    Thinking("<|START_THINKING|>", "<|END_THINKING|>", "", "<|START_TEXT|>", "<|END_TEXT|>"),
    Thinking("<|START_THINKING|>", "<|END_THINKING|>"),
    Thinking("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Thinking("[THINK]", "[/THINK]"),  # Magistral, Ministral
    Thinking("◁think▷", "◁/think▷"),  # Kimi VL
    Thinking("<seed:think>", "</seed:think>"),
    Thinking("<think>", "</think>", "", "<response>", "</response>"),  # Granite 3
    Thinking("<think>", "</think>"),
    Thinking("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", answer_end="[END FINAL RESPONSE]"),  # Apriel: its words, not tags
    Thinking("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    Thinking("<thinking>", "</thinking>"),
)
_OF_ANY_MESSAGE = "<|end|>", "<|eom|>"  # ends that say nothing of a thought
_TAG = r"[<\[](/?)[^<>\[\]\s]*(?:think|thought|reason)[^<>\[\]\s]*[>\]]"  # of a name that says it


def thinking_written(before: str, between: str, behind: str) -> Thinking | None:
    """By a rendering: what it has before a thought, between this and the answer, and behind the answer."""
    written, before, between, behind = (before, between), before.rstrip(), between.strip(), behind.lstrip()
    as_written = lambda found: replace(found, before=found.start + written[0][len(before) :], between=written[1])
    for known in _KNOWN:
        rest = between.removeprefix(known.end)
        if before.endswith(known.start) and rest != between and behind.startswith(known.answer_end):
            if rest.strip() == known.turn + known.answer:
                return as_written(known)
    start, end = re.search(_TAG + r"\Z", before, re.IGNORECASE), re.match(_TAG, between, re.IGNORECASE)
    return as_written(Thinking(start[0], end[0])) if start and end and not start[1] and end[1] else None


def thinking_said(source: str) -> Thinking | None:
    """By a template's source, where it only tells the model how to think, or takes thoughts out of what was said."""
    source = re.sub(r"\{#.*?#\}", "", source, flags=re.DOTALL)
    for known in _KNOWN:
        needed = known.end, known.answer, known.answer_end, known.start if known.end in _OF_ANY_MESSAGE else ""
        around_answer = re.escape(known.answer) + r"(\{\{[^}]*\}\})?" + re.escape(known.answer_end)
        if all(text in source for text in needed) and (not known.answer or re.search(around_answer, source)):
            return known
    return None
