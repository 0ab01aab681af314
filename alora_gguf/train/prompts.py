"""An example's tokens: what the base computes, what the adapter computes, and what is wanted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import AloraError, TrainError
from ..prompt.builder import Intrinsic, PromptBuilder, Setting
from ..prompt.chat_template import template_of
from ..prompt.io_yaml import IntrinsicIO
from ..runtime.vocab import Vocab
from .data import Line


@dataclass(frozen=True)
class Example:
    """prefix: before the activation's start; suffix: from there on; output: wanted after it, with the end of the message."""

    prefix: list[int]
    suffix: list[int]
    output: list[int]


class Prompts:
    """Makes examples as the runtime makes prompts: with its vocabulary, template and io.yaml."""

    def __init__(self, vocab: Vocab, base_name: str, invocation: Sequence[int], io: IntrinsicIO | None):
        self.vocab, self.invocation, self.io = vocab, list(invocation), io
        self._builder = PromptBuilder(vocab, lambda: template_of(vocab, None, base_name))
        self._intrinsic = Intrinsic(self.invocation, io)
        self.end = self._end_of_message()

    def example(self, line: Line) -> Example:
        """Raises TrainError, with the line, if the runtime would refuse it."""
        try:
            if self.io is None and line.arguments:
                raise TrainError("arguments: expected an io.yaml whose instruction takes them, got none; give --io")
            prompt = self._builder.intrinsic(line.messages, self._intrinsic, Setting(line.documents), arguments=line.arguments)
        except AloraError as e:
            raise TrainError(f"{line.where}: {e}") from e
        output = self.vocab.tokenize_more(self.output(line), special=False)
        return Example(prompt.tokens[: prompt.start], prompt.tokens[prompt.start :], [*output, self.end])

    def _end_of_message(self) -> int:
        """The token that the template writes behind an answer, if generation ends with it; else the one that ends a text."""
        text = self._builder.render([{"role": "user", "content": "x"}, {"role": "assistant", "content": "ANSWER"}], add_generation_prompt=False)
        behind = self.vocab.tokenize(text.rpartition("ANSWER")[2])
        return behind[0] if behind and self.vocab.is_eog(behind[0]) else self.vocab.eos

    def output(self, line: Line) -> str:
        """The text that the intrinsic is to say."""
        if self.io is not None and self.io.schema is not None:
            return json.dumps(line.output, ensure_ascii=False)
        if not isinstance(line.output, str):
            raise TrainError(f"{line.where}: output: expected text, got {line.output!r:.80}; give an io.yaml with a response_format for JSON")
        return line.output
