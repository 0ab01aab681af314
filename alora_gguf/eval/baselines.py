"""How an example is asked: by the base model with a prompt, by an ordinary LoRA, by the activated one."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..engine.cache import Activation
from ..engine.request import Request
from ..errors import ResultError
from ..model import Model
from ..prompt.builder import Setting
from ..prompt.io_yaml import IntrinsicIO, sampling_of
from ..reply import Reply
from ..runtime.sampling import SamplingParams
from ..train.data import Line


@dataclass(frozen=True)
class Said:
    """What came of one call. n_computed: tokens that were not in the cache; ms: from the call to its last token."""

    text: str
    result: Any
    n_computed: int
    ms: float


Way = Callable[[Line], Said]


def say(model: Model, line: Line, io: IntrinsicIO) -> None:
    """Computes the example's conversation: an intrinsic finds it in the cache, as it does in a chat."""
    said = model.engine.prompts.asked_in_words(line.messages, io, Setting(line.documents), arguments=line.arguments, without_instruction=True)
    model.generate(said.tokens, max_tokens=1, temperature=0)


def alora(model: Model, name: str) -> Way:
    def ask(line: Line) -> Said:
        chat = model.conversation(messages=line.messages)
        begun = time.perf_counter()
        return _run(model, chat.fork(model.intrinsic(name), chat.messages, documents=line.documents or None, arguments=line.arguments), begun)

    return ask


def lora(model: Model, name: str, like: str) -> Way:
    """The LoRA on the prompt of the intrinsic `like`, active from the first token on."""

    def ask(line: Line) -> Said:
        chat = model.conversation(messages=line.messages)
        begun = time.perf_counter()
        request = chat.fork(model.intrinsic(like), chat.messages, documents=line.documents or None, arguments=line.arguments)
        request.activations = [Activation(model.adapter(name), 0)]
        return _run(model, request, begun)

    return ask


def prompted(model: Model, io: IntrinsicIO) -> Way:
    """The base model, asked in words, its output held to the same schema."""

    def ask(line: Line) -> Said:
        begun = time.perf_counter()
        prompt = model.engine.prompts.asked_in_words(line.messages, io, Setting(line.documents), arguments=line.arguments)
        asked = prompt.asked
        assert asked is not None  # in words
        sampling = {**sampling_of(asked), "max_tokens": asked.sampling.get("max_tokens", 128)}
        request = Request(prompt.tokens, SamplingParams(**sampling), model.vocab, t_start=begun, result_of=prompt.result_of)
        return _run(model, request, begun)

    return ask


def _run(model: Model, request: Request, begun: float) -> Said:
    done = threading.Event()
    request.on_end = done.set
    model.engine.loop.submit(request)
    done.wait()
    return _said(request.reply, begun)


def _said(reply: Callable[[], Reply], begun: float) -> Said:
    """A text that is no result is a wrong answer, and no error."""
    try:
        got = reply()
    except ResultError as e:
        return Said(str(e), None, 0, (time.perf_counter() - begun) * 1e3)
    usage = got.usage
    n_computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
    return Said(got.text, got.result, n_computed, (time.perf_counter() - begun) * 1e3)
