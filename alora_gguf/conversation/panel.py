"""The typed questions of one call: each on a fork of the conversation, all in one batch, read from what could come next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..engine.adapter import Adapter
from ..engine.cache import Activation
from ..engine.engine import Engine
from ..engine.request import Request
from ..engine.scoring import Scoring
from ..errors import AloraError, ClosedError, ContextFullError, PromptError, copied
from ..prompt.builder import Setting
from ..prompt.decisions.enum_output import EnumOutput, enum_output
from ..prompt.decisions.prompts import DecisionPrompts, begins_another, told_apart
from ..prompt.decisions.question import Asked, Choice, Predicate, Question, Score, decision, orders, shares
from ..prompt.io_yaml import sampling_of
from ..prompt.messages import Message
from ..prompt.token_history import Known
from ..reply import Decision, Decisions, Usage
from ..runtime.sampling import SamplingParams


class Posed(NamedTuple):
    """A question, and the adapter that answers it, None: the base. Or no question: the adapter is an intrinsic, and asks its own."""

    question: Question | None
    adapter: Adapter | None

    @property
    def kind(self) -> str:
        return {Predicate: "predicate", Score: "score"}.get(type(self.question), "choice")


def posed(questions: Mapping[str, Question | str], adapter: str | None, engine: Engine) -> dict[str, Posed]:
    """What a call asks. Raises PromptError, UnknownAdapterError, NoInvocationError."""
    if not isinstance(questions, Mapping) or not questions:
        raise PromptError(f"questions: expected a mapping of names to Predicate, Choice, Score or intrinsics' names, got {questions!r:.80}")
    made = {}
    by_all = None if adapter is None else engine.adapters[adapter]
    for name, question in questions.items():
        if isinstance(question, str):
            made[name] = Posed(None, _named(name, engine.adapters.intrinsic, question))
        elif isinstance(question, Predicate | Choice | Score):
            made[name] = Posed(question, _named(name, engine.adapters.__getitem__, question.adapter) if question.adapter is not None else by_all)
        else:
            raise PromptError(f"questions[{name!r}]: expected a Predicate, Choice or Score, or an intrinsic's name, got {question!r:.80}")
    return made


def _named(name: str, find: Callable[[str], Adapter], wanted: str) -> Adapter:
    """The adapter that a question names; what is wrong with it says which question."""
    try:
        return find(wanted)
    except AloraError as e:
        raise type(e)(f"questions[{name!r:.60}]: {e}") from e


class Where(NamedTuple):
    """What questions are asked on.

    activations   of the adapter that the conversation is held with
    known         a text and its tokens, beside the history
    """

    engine: Engine
    messages: Sequence[Message]
    setting: Setting
    activations: Sequence[Activation]
    known: Known | None = None


@dataclass
class _Way:
    """One of the ways in which a question is asked.

    shared     how many tokens it begins with that others have too, and the LoRA that is active on these
    scores     log probabilities of its labels, once they are known
    n_new      tokens that were computed for it, but for those that were generated
    n_own      tokens of its prompt that an intrinsic said first; n_said: how many it said
    """

    asked: Asked
    scoring: Scoring
    shared: tuple[int, int | None]
    scores: np.ndarray | None = None
    n_new: int = 0
    n_own: int = 0
    n_said: int = 0


@dataclass
class _Item:
    posed: Posed
    ways: list[_Way] = field(default_factory=list)
    n_left: int = 0
    error: Exception | None = None
    said: Request | None = None  # an intrinsic's own words before its value
    output: EnumOutput | None = None
    warnings: list[str] = field(default_factory=list)


class Panel:
    """Made of the questions; then start(). One that fails leaves the others theirs.

    on_decision(name, decision) is called as each is decided, and on_end() after the last, on the loop's thread, or on that of start()
    is_cancelled() says whether the rest need not be made: many questions in many orders take long

    Raises PromptError if the conversation cannot be asked at all.
    """

    def __init__(
        self,
        where: Where,
        questions: Mapping[str, Posed],
        on_decision: Callable[[str, Decision], None],
        on_end: Callable[[], None],
        *,
        n_orders: int = 1,
        seed: int = 0,
        background: bool = False,
        t_start: float | None = None,
        warnings: Sequence[str] = (),
        is_cancelled: Callable[[], bool] = lambda: False,
    ):
        self._where, self._engine = where, where.engine
        self._prompts = DecisionPrompts(where.engine.prompts, where.messages, where.setting, known=where.known)
        self._on_decision, self._on_end = on_decision, on_end
        self._options: dict[str, Any] = {"cache_salt": where.setting.cache_salt, "background": background, "t_start": t_start}
        self._items: dict[str, _Item] = {}
        self._decided: dict[str, Decision] = {}
        self._lock = threading.Lock()
        self._is_cancelled = is_cancelled
        self.cancelled = False
        for name, one in questions.items():
            item = self._items[name] = _Item(one, warnings=[*warnings])
            try:
                item.warnings += one.adapter.warnings if one.adapter else []
                self._make(item, n_orders, seed)
            except ClosedError:
                raise
            except AloraError as e:
                item.error = e

    @property
    def is_too_long(self) -> bool:
        """Whether the context has no room for a question."""
        return any(isinstance(item.error, ContextFullError) for item in self._items.values())

    # asking

    def start(self) -> None:
        """Raises ClosedError."""
        scorings = []
        for name, item in self._items.items():
            item.n_left = len(item.ways)
            for way in item.ways:
                if (known := self._engine.scores.get(way.scoring)) is not None:
                    way.scores = known
                    item.n_left -= 1
                else:
                    way.scoring.on_end = partial(self._ended, name, way)
                    scorings.append(way.scoring)
        speaking = {name: item.said for name, item in self._items.items() if item.said is not None}
        for name, said in speaking.items():
            said.on_end = partial(self._spoke, name)
        for name, item in self._items.items():
            if not item.n_left and name not in speaking:
                self._decide(name)
        if scorings or speaking:
            self._engine.loop.submit(*scorings, *speaking.values())

    def cancel(self, error: BaseException | None = None) -> None:
        """Ends what is not decided; from any thread or signal handler."""
        self.cancelled = True
        for item in self._items.values():
            for request in (item.said, *(way.scoring for way in item.ways)):
                if request is not None and not request.has_ended:
                    request.cancel(error)

    @property
    def progress(self) -> tuple[int, int]:
        """How many tokens of the prompts are in the cache, and how many there are; from any thread."""
        of_each = [way.scoring.progress for item in self._items.values() for way in item.ways if way.scores is None]
        return sum(n for n, _ in of_each), sum(n for _, n in of_each)

    def result(self) -> Decisions:
        """After the end: those that were decided, and the usage of all that was asked. Raises ClosedError."""
        for one in self._decided.values():
            if isinstance(one.error, ClosedError):
                raise copied(one.error)
        decided = {name: self._decided[name] for name in self._items if name in self._decided}
        return Decisions(decided, self._usage([way for item in self._items.values() for way in item.ways]))

    # making

    def _make(self, item: _Item, n_orders: int, seed: int) -> None:
        question, adapter = item.posed
        if self._is_cancelled():
            return
        if question is None:
            assert adapter is not None
            return self._make_intrinsic(item, adapter)
        trained = None if adapter is None else adapter.metadata.decisions
        if trained is not None and isinstance(question, Choice) and question.labels is None:
            question = replace(question, labels="values")
        for order in orders(question, n_orders, seed):
            if self._is_cancelled():
                return item.ways.clear()  # some of its orders would be another answer
            asked = question.asked(order, self._prompts.is_label)
            if adapter is None:
                prompt = self._prompts.prompt(asked.text, asked.labels)
            else:
                prompt = self._prompts.prompt(
                    asked.text, asked.labels, adapter.invocation_tokens, is_lora=not adapter.is_activated, is_before=trained is not None
                )
            self._add(item, asked, prompt.tokens, prompt.labels, self._prompts.n_shared, adapter, prompt.start)

    def _make_intrinsic(self, item: _Item, adapter: Adapter) -> None:
        item.output = enum_output(adapter.io, f"intrinsic {adapter.name!r}")
        prompt = self._engine.prompts.intrinsic(self._where.messages, adapter.intrinsic, self._where.setting, known=self._where.known)
        assert prompt.start is not None and prompt.n_shared is not None  # of an intrinsic
        if item.output.before is not None:
            return self._add_intrinsic(item, adapter, prompt.tokens, prompt.start, prompt.n_shared, item.output.before)
        item.said = Request(
            prompt.tokens,
            SamplingParams.of({}, **sampling_of(prompt.asked)),
            self._engine.vocab,
            activations=self._active(adapter, prompt.start),
            checkpoint=min(prompt.n_shared, prompt.start) or None,
            **self._options,
        )
        self._check_room(item.said.n_prompt)

    def _add_intrinsic(self, item: _Item, adapter: Adapter, tokens: Sequence[int], start: int, n_shared: int, before: str) -> None:
        """Its values behind what it says first, as JSON."""
        assert item.output is not None
        vocab = self._engine.vocab
        texts, labels = [""], [[0]]
        for closed in (False, True):
            texts = item.output.labels(closed=closed)
            labels = [vocab.tokenize_more(before + text, special=False) for text in texts]
            if not begins_another(labels):
                break
        labels = told_apart(labels, vocab)
        n = 0
        while all(n < len(label) - 1 and label[n] == labels[0][n] for label in labels):
            n += 1
        asked = Asked("", texts, item.output.values)
        self._add(item, asked, [*tokens, *labels[0][:n]], [label[n:] for label in labels], n_shared, adapter, start)

    def _add(
        self,
        item: _Item,
        asked: Asked,
        tokens: Sequence[int],
        labels: Sequence[Sequence[int]],
        n_shared: int,
        adapter: Adapter | None,
        start: int | None,
    ) -> None:
        active = list(self._where.activations) if adapter is None or start is None else self._active(adapter, start)
        lora = next((a.adapter.uid for a in active if not a.start), None)
        n_shared = min(n_shared, len(tokens) if start is None or not start else start)
        scoring = Scoring(tokens, labels, self._engine.vocab, kin=self, activations=active, checkpoint=n_shared or None, **self._options)
        self._check_room(scoring.n_prompt + max(map(len, labels)) - 1)
        item.ways.append(_Way(asked, scoring, (n_shared, lora)))

    def _active(self, adapter: Adapter, start: int) -> list[Activation]:
        """A LoRA takes the place of the one that the conversation is held with, as both are active from the first token on."""
        return [*(self._where.activations if adapter.is_activated else ()), Activation(adapter, start)]

    def _check_room(self, n: int) -> None:
        self._engine.context.check_room(n)

    # as they end

    def _ended(self, name: str, way: _Way) -> None:
        item = self._items[name]
        scoring = way.scoring
        way.scores = scoring.scores
        if isinstance(scoring.error, Exception):
            item.error = item.error or scoring.error
        way.n_new += scoring.usage.prompt_tokens - scoring.usage.cached_tokens
        if way.scores is not None:
            self._engine.scores.put(scoring)
        item.n_left -= 1
        if not item.n_left:
            self._decide(name)

    def _spoke(self, name: str) -> None:
        """The rest needs a prompt, which is not for the loop's thread."""
        threading.Thread(target=self._go_on, args=(name,), name="alora_gguf decision", daemon=True).start()

    def _go_on(self, name: str) -> None:
        item = self._items[name]
        said, adapter = item.said, item.posed.adapter
        assert said is not None and adapter is not None and item.output is not None
        try:
            if said.error is None and said.finish_reason is not None and not self.cancelled:
                start, n_shared = said.activations[-1].start, said.checkpoint
                self._add_intrinsic(item, adapter, said.tokens[: said.n_prompt], start, n_shared, item.output.said_before(said.text))
                [way] = item.ways
                way.n_new = said.usage.prompt_tokens - said.usage.cached_tokens
                way.n_own, way.n_said = way.scoring.n_prompt - said.n_prompt, len(said.generated)
                item.n_left = 1
                way.scoring.on_end = partial(self._ended, name, way)
                self._engine.loop.submit(way.scoring)
                if self.cancelled:
                    way.scoring.cancel()
                return
            item.error = said.error if isinstance(said.error, Exception) else None
        except Exception as e:
            item.ways.clear()
            item.error = e
        self._decide(name)

    def _decide(self, name: str) -> None:
        item = self._items[name]
        scores = [way.scores for way in item.ways if way.scores is not None]
        made = None
        if item.error is not None:
            made = Decision(item.posed.kind, {}, self._usage([]), error=item.error, warnings=item.warnings)
        elif item.ways and len(scores) == len(item.ways):
            usage, asked = self._usage(item.ways), [way.asked for way in item.ways]
            if item.posed.question is not None:
                trained = item.posed.adapter and item.posed.adapter.metadata.decisions
                temperature = trained.temperature[item.posed.kind] if trained else 1.0
                made = decision(item.posed.question, asked, scores, usage, item.warnings, temperature)
            else:
                made = self._of_intrinsic(item, scores[0], usage)
        with self._lock:
            if made is not None:
                self._decided[name] = made
            item.n_left = -1
            is_last = all(other.n_left < 0 for other in self._items.values())
        if made is not None:
            self._on_decision(name, made)
        if is_last:
            self._on_end()

    def _of_intrinsic(self, item: _Item, scores: np.ndarray, usage: Usage) -> Decision:
        assert item.output is not None
        probabilities = dict(zip(item.output.values, shares(scores)))
        counts = item.output.counts
        likelihood = None if counts is None else sum(p * counts.get(value, 0.0) for value, p in probabilities.items())
        return Decision("choice", probabilities, usage, likelihood, warnings=item.warnings)

    def _usage(self, ways: Sequence[_Way]) -> Usage:
        """Of several ways: the tokens that they begin with together are counted once, and an intrinsic's own words as generated ones."""
        shared: dict[int | None, int] = {}
        for way in ways:
            n, lora = way.shared
            shared[lora] = max(n, shared.get(lora, 0))
        n_all = sum(shared.values()) + sum(way.scoring.usage.prompt_tokens - way.n_own - way.shared[0] for way in ways)
        n_new = sum(way.n_new for way in ways)
        ttft_ms = max((way.scoring.usage.ttft_ms for way in ways), default=0.0)
        return Usage(n_all, max(0, n_all - n_new), sum(way.n_said for way in ways), ttft_ms, 0.0)
