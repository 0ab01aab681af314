"""The strings that a model writes around its thought."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thinking:
    """start, end: around the thought. answer: what may stand between it and the answer. answer_end: what may stand behind that."""

    start: str
    end: str
    answer: str = ""
    answer_end: str = ""

    def thinks_in(self, prompt: str) -> bool:
        """Whether a rendered prompt ends within a thought."""
        return self.start in prompt and self.end not in prompt[prompt.rindex(self.start) + len(self.start) :]


def thinking_of(source: str) -> Thinking | None:
    return Thinking("<think>", "</think>") if "<think>" in source else None
