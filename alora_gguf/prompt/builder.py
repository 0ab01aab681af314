"""Messages to tokens: the one place where prompts are made, for conversations, the server, training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PromptError
from .chat_template import ChatTemplate
from .control_tokens import ControlTokens, texts_of
from .documents import documents_message
from .intrinsic_prompt import intrinsic_prompt, place_of
from .io_yaml import IntrinsicIO, IntrinsicRequest, documents_of, judged
from .messages import Message, check_messages, text_of, without_thoughts
from .token_history import Known, TokenHistory, text_tokens

if TYPE_CHECKING:
    from ..runtime.vocab import Vocab

_NONE: Mapping[str, Any] = {}


class Setting(NamedTuple):
    """What a conversation has beside its messages.

    documents   texts, or mappings with `text` and perhaps `doc_id` and `title`
    variables   of the chat template, as `enable_thinking` or `tools`
    now         the time that the template writes, None: the clock's
    cache_salt  whose tokens are known
    """

    documents: Sequence[Mapping[str, Any] | str] = ()
    variables: Mapping[str, Any] = _NONE
    now: datetime | None = None
    cache_salt: Hashable = None


class Intrinsic(NamedTuple):
    """What the prompt of an intrinsic takes from its adapter; `invoked_after` is the role whose messages it judges, None: any."""

    invocation: Sequence[int]
    io: IntrinsicIO | None = None
    invoked_after: str | None = None
    where: str = "intrinsic"


@dataclass(frozen=True)
class Prompt:
    """tokens of a prompt, and what is known of them.

    text        of the tokens; of an intrinsic's, what the first n_shared say
    is_chat     whether the base answers it as a chat, perhaps after a thought
    thinks      whether the prompt ends within a thought
    start       index from which on the intrinsic is active, None: the base's
    n_shared    how many tokens the conversation has, without what asks about it
    asked       the request that an io.yaml made of the conversation
    result_of   what that io.yaml makes of an answer's text and logprobs
    """

    tokens: list[int]
    text: str = ""
    is_chat: bool = False
    thinks: bool = False
    start: int | None = None
    n_shared: int | None = None
    asked: IntrinsicRequest | None = None
    result_of: Callable[[str, Sequence[Any]], Any] | None = field(default=None, repr=False)


class PromptBuilder:
    """Makes the prompts of one model: its vocabulary, its chat template, and a history of texts whose tokens are in the cache.

    Texts of people and documents have no control tokens in them, even where they spell the name of one. With `parse_special`
    names are tokens everywhere, as in llama.cpp.
    Any thread may call it.
    """

    def __init__(self, vocab: Vocab, make_template: Callable[[], ChatTemplate], history: TokenHistory | None = None, *, parse_special: bool = False):
        self.vocab = vocab
        self._make_template = make_template
        self.history = TokenHistory() if history is None else history
        self._parse_special = parse_special

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template. Raises PromptError if there is none."""
        return self._make_template()

    @cached_property
    def control(self) -> ControlTokens:
        return ControlTokens(self.vocab, self.template, protects=not self._parse_special)

    @cached_property
    def answer_gap(self) -> str:
        """The white space that the template writes between the generation prompt and an answer."""
        question, answer = {"role": "user", "content": "Xquestionx"}, {"role": "assistant", "content": "Xanswerx"}
        prompt = self.render([question], add_generation_prompt=True)
        try:
            gap, found, _ = self.render([question, answer], add_generation_prompt=False).removeprefix(prompt).partition("Xanswerx")
        except PromptError:
            return ""
        return gap if found and not gap.strip() else ""

    # text

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool, setting: Setting = Setting(), mark: str = "") -> str:
        """The messages as the template writes them: with the documents, and fitted to what it takes. Raises PromptError."""
        template = self.template
        template.check(setting.variables)
        given = {**template.features.absent, **setting.variables}
        documents = documents_of(setting.documents)
        if documents and template.features.documents:
            given["documents"] = documents
        elif documents:
            messages = [documents_message(documents), *messages]
        return template.render(template.fit(messages), add_generation_prompt=add_generation_prompt, now=setting.now, mark=mark, **given)

    def remember(self, prompt: Prompt, generated: Sequence[int], cache_salt: Hashable = None) -> None:
        """What was generated after a prompt, as it will stand in the next one, has these tokens."""
        said = self.control.spelled(generated) if prompt.is_chat else self.vocab.detokenize(generated)
        self.history.remember(prompt.text + said, [*prompt.tokens, *generated], cache_salt)

    # prompts

    def completion(self, text: str, cache_salt: Hashable = None) -> Prompt:
        """The prompt that is a text already: names of control tokens in it are these tokens."""
        return Prompt(text_tokens(text, self.vocab.tokenize_prompt, self.history.fitting(text, cache_salt)), text)

    def chat(self, messages: Sequence[Message], setting: Setting = Setting(), *, add_generation_prompt: bool = True) -> Prompt:
        """The prompt that the base answers, or the text of what has been said. Raises PromptError."""
        check_messages(messages)
        mark = self.control.mark(messages, setting.documents, setting.variables)
        return self._said(self.control.messages(messages, mark), self._protected(setting, mark), mark, add_generation_prompt)

    def asked_in_words(
        self,
        messages: Sequence[Message],
        io: IntrinsicIO,
        setting: Setting = Setting(),
        *,
        arguments: Mapping[str, Any] = _NONE,
        without_instruction: bool = False,
    ) -> Prompt:
        """The prompt by which the base is asked what an intrinsic is asked; `without_instruction`, the conversation alone. Raises PromptError."""
        check_messages(messages)
        mark, rewritten, plain, of = self._rewritten(messages, io, setting, arguments)
        said = rewritten.messages[: rewritten.n_conversation] if without_instruction else rewritten.messages
        prompt = self._said(said, of, mark, add_generation_prompt=not without_instruction)
        return replace(prompt, asked=plain, result_of=partial(io.result, plain))

    def intrinsic(
        self,
        messages: Sequence[Message],
        intrinsic: Intrinsic,
        setting: Setting = Setting(),
        *,
        arguments: Mapping[str, Any] = _NONE,
        with_thoughts: bool = False,
        may_be_asked: bool = False,
        known: Known | None = None,
    ) -> Prompt:
        """The prompt of an intrinsic on a conversation, and where its adapter begins.

        arguments       of the instruction in its io.yaml
        with_thoughts   it sees what the model thought before it answered
        may_be_asked    the last message may be the instruction already, as granite-common's clients send it; the io.yaml is then left alone
        known           a text and its tokens, beside the history

        Raises PromptError.
        """
        check_messages(messages)
        given = [m if with_thoughts else without_thoughts(m) for m in judged(messages, intrinsic.invoked_after, intrinsic.where)]
        if intrinsic.io is not None and not self._names(intrinsic.invocation, given):  # a generation prompt that invokes it says nothing of that
            may_be_asked = may_be_asked and intrinsic.io.is_asked(given, documents_of(setting.documents))
        if may_be_asked or intrinsic.io is None:
            mark = self.control.mark(given, setting.documents, setting.variables)
            said, of = self.control.messages(given, mark), self._protected(setting, mark)
            prompt, is_appended = self._invoked(given, said, len(said), (), intrinsic, of, mark, known)
            if intrinsic.io is None or not is_appended:
                return prompt
        mark, rewritten, plain, of = self._rewritten(given, intrinsic.io, setting, arguments)
        prompt, _ = self._invoked(given, rewritten.messages, rewritten.n_conversation, rewritten.own_words, intrinsic, of, mark, known)
        return replace(prompt, asked=plain, result_of=partial(intrinsic.io.result, plain))

    def _said(self, messages: Sequence[Message], setting: Setting, mark: str, add_generation_prompt: bool) -> Prompt:
        """The prompt of messages that are protected already."""
        text = self.render(messages, add_generation_prompt=add_generation_prompt, setting=setting, mark=mark)
        tokens = text_tokens(text, partial(self.vocab.tokenize_prompt, mark=mark), self.history.fitting(text, setting.cache_salt))
        if add_generation_prompt and not tokens:
            raise PromptError("prompt: expected one or more tokens, got none; check the chat template")
        return Prompt(tokens, text, is_chat=True, thinks=add_generation_prompt and self.template.features.thinks_in(text))

    def _rewritten(
        self, messages: Sequence[Message], io: IntrinsicIO, setting: Setting, arguments: Mapping[str, Any]
    ) -> tuple[str, IntrinsicRequest, IntrinsicRequest, Setting]:
        """The mark, the request that the io.yaml makes of protected messages, that of the messages as they are, and the setting of the first."""
        mark = self.control.mark(messages, arguments, setting.documents, setting.variables)
        said, of = self.control.messages(messages, mark), self._protected(setting, mark)
        rewritten = io.rewrite(said, of.documents, **self.control.protected(arguments, mark))
        is_marked = mark and any(mark in text for text in texts_of([rewritten.messages, of.documents]))
        plain = io.rewrite(messages, documents_of(setting.documents), **arguments) if is_marked else rewritten
        more = dict(rewritten.template_arguments)
        return mark, rewritten, plain, of._replace(documents=more.pop("documents", None) or (), variables={**of.variables, **more})

    def _invoked(
        self,
        given: Sequence[Message],
        said: Sequence[Message],
        n_conversation: int,
        own_words: Sequence[tuple[int, int]],
        intrinsic: Intrinsic,
        setting: Setting,
        mark: str,
        known: Known | None,
    ) -> tuple[Prompt, bool]:
        """The prompt of messages that are protected already, and whether the invocation was in none of them and has been appended."""
        render = partial(self.render, setting=setting, mark=mark)
        fitting = lambda text: [*self.history.fitting(text, setting.cache_salt), *([known] if known else [])]
        tokenize = partial(self.vocab.tokenize_prompt, mark=mark)
        make = lambda messages: intrinsic_prompt(
            messages,
            n_conversation,
            intrinsic.invocation,
            render,
            tokenize,
            fitting,
            intrinsic.where,
            place_of(messages, self.vocab.detokenize(intrinsic.invocation), own_words),
        )
        made = make(said)
        if made.is_appended and (named := self._with_invocation(given, said, intrinsic.invocation, mark)) is not None:
            found = make(named)
            made = made if found.is_appended else found
        return Prompt(made.tokens, made.text, start=made.start, n_shared=made.n_conversation), made.is_appended

    def _names(self, invocation: Sequence[int], messages: Sequence[Message]) -> bool:
        """Whether the text of the invocation stands in the last message."""
        name = self.vocab.detokenize(invocation)
        return bool(name and messages) and name in text_of(messages[-1])

    def _with_invocation(self, given: Sequence[Message], said: Sequence[Message], invocation: Sequence[int], mark: str) -> list[Message] | None:
        """The messages with the invocation in the last one as tokens, where it spells it: whoever asks by it says so there."""
        text, name = text_of(given[-1]) if given else "", self.vocab.detokenize(invocation)
        protected = partial(self.control.protected, mark=mark)
        if not name or name not in text or protected(name) == name or text_of(said[-1]) != protected(text):
            return None
        head, _, tail = text.rpartition(name)
        return [*said[:-1], {**said[-1], "content": protected(head) + name + protected(tail)}]

    def protected(self, messages: Sequence[Message], setting: Setting) -> tuple[list[Message], Setting, str]:
        """The messages and the setting with what people say in them marked, and the mark."""
        mark = self.control.mark(messages, setting.documents, setting.variables)
        return self.control.messages(messages, mark), self._protected(setting, mark), mark

    def _protected(self, setting: Setting, mark: str) -> Setting:
        """The setting with what people say in it marked."""
        documents, variables = (self.control.protected(value, mark) for value in (documents_of(setting.documents), setting.variables))
        return setting._replace(documents=documents, variables=variables)
