"""What an io.yaml says about an intrinsic: the request that is made of a conversation, and the result of what is said.

granite-common does both, and formatters what has come since; here are their errors in one line, and their request in this
package's terms. No model is needed.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import IoYamlError, PromptError, ResultError
from ..runtime.constraint import FLEXIBLE
from ..runtime.schema import closed
from ..text import complaint
from .messages import Message, text_of

if TYPE_CHECKING:  # a quarter of a second to import
    from .formatters import Asked

_SAMPLING = {  # parameters of a request, and SamplingParams' names for them
    "max_completion_tokens": "max_tokens",
    "repetition_penalty": "repeat_penalty",
    **{name: name for name in ("max_tokens", "temperature", "top_k", "top_p", "min_p", "frequency_penalty", "presence_penalty", "seed", "stop")},
}
_KNOWN = {*_SAMPLING, "model", "logprobs", "top_logprobs", "response_format"}  # a likelihood gets its logprobs without being asked
_KNOWN_EXTRA = {*_SAMPLING, "chat_template_kwargs", "structured_outputs"}
_OWN = ("name", "description")  # beside what granite-common knows
_REQUIRED = ("model", "response_format", "transformations")
_LAST = "last_message"
_TOP = 10  # alternatives that granite-common asks for
_MOST = 100_000  # characters of a file, and values in it
_FIELDS = "text", "title", "doc_id"  # of granite-common's documents


@dataclass(frozen=True)
class IntrinsicRequest:
    """A conversation as an intrinsic is asked about it.

    n_conversation        how many of the messages stand before the instruction; all if there is none
    own_words             where the words of the io.yaml itself stand in the instruction: the first character, and the one behind the last
    template_arguments    what the chat template gets beside the messages, as `documents`
    schema                JSON schema of the output, or None
    sampling              SamplingParams' arguments
    top_logprobs          alternatives that the result is computed from, 0: none
    completion            granite-common's request, with its sentences
    """

    messages: list[dict[str, Any]]
    n_conversation: int
    template_arguments: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    top_logprobs: int = 0
    own_words: tuple[tuple[int, int], ...] = ()
    completion: Asked | None = field(repr=False, default=None)


class IntrinsicIO:
    """One io.yaml. `where` names it in errors, `arguments` are the fields of its instruction that a caller fills in.

    name: of the intrinsic, and description: what it is for; None where the file does not say it.
    """

    def __init__(self, config: dict[str, Any], where: str):
        """config: the parsed io.yaml. Raises IoYamlError."""
        from .formatters import FormError, ResultProcessor, Rewriter

        self.where = where
        self.name: str | None = config.get("name")
        self.description: str | None = config.get("description")
        for key, value in (("name", self.name), ("description", self.description)):
            if not isinstance(value, str | None):
                raise self._refuse(key, "text", value)
        form = {name: value for name, value in config.items() if name not in _OWN} or dict.fromkeys(_REQUIRED)
        try:
            self._rewriter = Rewriter(form)
            self._processor = ResultProcessor(form, self._rewriter.tags)
            known = [*self._rewriter.parameters.items(), *self._rewriter.extra_body_parameters.items()]
        except FormError as e:
            raise self._refuse(*e.args) from e
        except Exception as e:  # whatever it stumbles over
            raise self._refuse("file", "an io.yaml that granite-common takes", _line(e)) from e
        self.schema = self._schema()
        for given, allowed in ((self._rewriter.parameters, _KNOWN), (self._rewriter.extra_body_parameters, _KNOWN_EXTRA)):
            for name in given:
                if name not in allowed:
                    raise self._refuse("parameters", f"some of {', '.join(sorted(allowed))}", name)
        self.sampling = {_SAMPLING[name]: value for name, value in known if name in _SAMPLING}
        self.top_logprobs = _TOP if any(rule.YAML_NAME == "likelihood" for rule in self._processor.rules) else 0
        self._fields = self._instruction_fields()
        self.arguments = sorted(self._fields - {_LAST})

    @classmethod
    def read(cls, text: str, where: str) -> IntrinsicIO:
        """From the text of an io.yaml. Raises IoYamlError."""
        import yaml

        if len(text) > _MOST:
            raise _refused(where, "file", f"at most {_MOST} characters", len(text))
        try:
            config = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as e:
            raise _refused(where, "file", "YAML", _line(e)) from e
        if not isinstance(config, dict):
            raise _refused(where, "file", "a mapping", type(config).__name__)
        if _is_more(config, _MOST):
            raise _refused(where, "file", f"at most {_MOST} values", "more, by aliases")
        return cls(config, where)

    @classmethod
    def open(cls, path: Path) -> IntrinsicIO:
        """From a file. Raises IoYamlError."""
        try:
            with open(path, "rb") as f:
                text = f.read(_MOST + 1).decode("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            got = e.reason if isinstance(e, UnicodeDecodeError) else e.strerror
            raise _refused(path, "file", "UTF-8 text", got) from e
        return cls.read(text, str(path))

    def rewrite(
        self, messages: Sequence[Mapping[str, str]], documents: Sequence[Mapping[str, str] | str] | None = None, /, **arguments: Any
    ) -> IntrinsicRequest:
        """The request about `messages`, the last of which is judged; they stay as they are.

        documents: texts, or mappings with `text` and perhaps `doc_id` (else numbers from 1 on) and `title`.
        arguments: of the instruction. Raises PromptError.
        """
        from pydantic import ValidationError

        from .formatters import Asked

        for name in (*arguments, *self.arguments):
            if name not in self.arguments or name not in arguments:
                unknown = f"an unknown one, {name}" if name in arguments else f"no {name}"
                raise PromptError(complaint(self.where, "arguments", ", ".join(self.arguments) or "none", unknown, "give just these"))
        if self._needs_last_message and not (messages and text_of(messages[-1]).strip()):
            raise PromptError(
                complaint(self.where, "messages", "a last message with text in it", "an empty one" if messages else "none", "say something first")
            )
        extra = {"documents": documents_of(documents)} if documents else {}
        try:
            request = Asked.model_validate({"messages": [_bare(m) for m in messages], "extra_body": extra})
            made: Any = self._rewriter.transform(request, **arguments)  # an Asked again
        except ValidationError as e:
            wrong = e.errors()[0]
            at = f"{wrong['loc'][0]}[{wrong['loc'][1]}]" if len(wrong["loc"]) > 1 else "messages"
            expected = "content as text, and a role of user, assistant, system, developer, tool or `document <id>`"
            raise PromptError(complaint(self.where, at, expected, wrong["input"], "correct it")) from e
        except Exception as e:  # whatever it stumbles over
            raise PromptError(complaint(self.where, "messages", "some that granite-common can rewrite", _line(e), "correct them")) from e
        rewritten = [m.model_dump() for m in made.messages]
        n_before = len(rewritten) - len(messages) - (self._rewriter.instruction is not None)  # documents, as a message
        for i, message in enumerate(messages, start=max(0, n_before)):
            content = rewritten[i]["content"]
            rewritten[i] = dict(message) if content == text_of(message) else {**message, "content": content}
        more: dict[str, Any] = made.extra_body.model_dump() if made.extra_body else {}
        return IntrinsicRequest(
            messages=rewritten,
            n_conversation=len(rewritten) - (self._rewriter.instruction is not None),
            template_arguments={
                k: v for k, v in {"documents": more.get("documents"), **(more.get("chat_template_kwargs") or {})}.items() if v is not None
            },
            schema=self.schema,
            sampling=dict(self.sampling),
            top_logprobs=self.top_logprobs,
            own_words=self._own_words(arguments, rewritten),
            completion=made,
        )

    def result(self, request: IntrinsicRequest, text: str, logprobs: Sequence[Any] = ()) -> Any:
        """What the output `text` means: a value of JSON's types; without response_format and transformations the text itself.

        logprobs: TokenLogprobs, or what has their `text`, `logprob` and `top`; their texts concatenate to `text`.
        Raises ResultError.
        """
        if self.schema is None and not self._processor.rules:
            return text
        expected, what = "JSON as its response_format says", "output"
        try:
            value = json.loads(text)
            if not self._processor.rules:
                return value
            expected, what = "what its transformations can be applied to", f"output {text!r:.80}"
            choice = {"index": 0, "message": {"role": "assistant", "content": text}}
            if logprobs:
                choice["logprobs"] = {"content": [_as_content(t) for t in logprobs]}
            done = self._processor.transform({"choices": [choice]}, request.completion)
            return json.loads(done.choices[0].message.content)
        except Exception as e:  # whatever it stumbles over
            got = repr(text[:80]) if what == "output" else _line(e)
            raise ResultError(
                complaint(self.where, what, expected, got, "give it more max_tokens if it was cut, else train the adapter with this io.yaml")
            ) from e

    def is_asked(self, messages: Sequence[Mapping[str, Any]], documents: Sequence[Mapping[str, str]] = ()) -> bool:
        """Whether this is a request that rewrite() made already, as granite-common's clients send it: by its last message's words.

        This is for an ordinary LoRA, and where the invocation is the generation prompt, which every request has; elsewhere the
        invocation tells it. An instruction of fields alone could be anything.
        """
        last = text_of(messages[-1]) if messages else ""
        if self.instruction is not None:
            return _is_filled_in(last, self.instruction)
        numbered = {_LAST: [last], "documents": [d["text"] for d in documents], "all_but_last_message": [text_of(m) for m in messages[:1]]}
        first = [(tag, numbered[source][0]) for source, tag in self.tags.items() if numbered.get(source)]
        return any(text.startswith(f"<{tag}0>") for tag, text in first)

    @property
    def instruction(self) -> str | None:
        """The file's own, with fields in braces."""
        return self._rewriter.instruction

    @property
    def tags(self) -> dict[str, str]:
        """For each source whose sentences get numbers (last_message, all_but_last_message, documents) what stands before a number."""
        return self._rewriter.tags

    @property
    def likelihoods(self) -> list[tuple[list[Any], dict[Any, float]]]:
        """Where in the output labels become likelihoods, and what each label counts."""
        return [
            (rule.input_path_expr, getattr(rule, "categories_to_values", None) or {})
            for rule in self._processor.rules
            if rule.YAML_NAME == "likelihood"
        ]

    @property
    def _needs_last_message(self) -> bool:
        return _LAST in self._fields or _LAST in self._rewriter.tags

    def _schema(self) -> dict[str, Any] | None:
        """The JSON schema of the output, wherever the file has it: for vLLM in response_format, for others in the parameters."""
        form = self._rewriter.parameters.get("response_format")
        kind = form.get("type") if isinstance(form, dict) else form
        inner = form.get("json_schema") if isinstance(form, dict) and kind == "json_schema" else None
        if form is not None and kind != "text" and not (isinstance(inner, dict) and isinstance(inner.get("schema"), dict)):
            raise self._refuse("parameters.response_format", "type text, or type json_schema with a schema in its json_schema", form)
        vllm = self._rewriter.extra_body_parameters.get("structured_outputs")
        if vllm is not None and not (isinstance(vllm, dict) and list(vllm) == ["json"]):
            raise self._refuse("parameters.extra_body.structured_outputs", "a JSON schema under json, and no more", vllm)
        schemas = [schema for schema in (vllm and vllm["json"], inner and inner["schema"]) if schema]
        for schema in schemas:
            if not isinstance(schema, dict):
                raise self._refuse("response_format", "a JSON schema, which is a mapping", schema)
            if schema != schemas[0]:
                raise self._refuse("parameters.response_format", "the schema that is in response_format, or none", schema)
        return schemas[0] if schemas else None

    def _instruction_fields(self) -> set[str]:
        """The names in braces. Anything but a name could reach into objects, or ask for a billion spaces."""
        instruction = self._rewriter.instruction
        if not isinstance(instruction, str | None):
            raise self._refuse("instruction", "text", instruction)
        try:
            parsed = list(string.Formatter().parse(instruction or ""))
        except ValueError as e:
            raise self._refuse("instruction", "text with fields in braces", e) from e
        for _, name, spec, _ in parsed:
            if name is not None and (spec or not name.isidentifier()):
                raise self._refuse("instruction", "fields that are {name}, and {{ }} for braces", f"{{{name}{spec and ':' + spec}}}")
        return {name for _, name, _, _ in parsed if name is not None}

    def _own_words(self, arguments: Mapping[str, Any], rewritten: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, int], ...]:
        """As in IntrinsicRequest; rewritten: its messages."""
        if self._rewriter.instruction is None:
            return ()
        spans, n, formatter = [], 0, string.Formatter()
        values = {**arguments, _LAST: text_of(rewritten[-2]) if len(rewritten) > 1 else ""}
        for words, name, _, conversion in formatter.parse(self._rewriter.instruction):
            if words:
                spans.append((n, n + len(words)))
            value = "" if name is None else format(formatter.convert_field(values[name], conversion))
            n += len(words) + len(value)
        return tuple(spans)

    def _refuse(self, what: str, expected: str, got: Any) -> IoYamlError:
        return _refused(self.where, what, expected, got)


def _bare(message: Mapping[str, Any]) -> dict[str, Any]:
    """What granite-common reads of a message: it knows tool calls in another form than OpenAI's."""
    bare = {"role": message["role"], "content": text_of(message)}
    return {**bare, "tool_call_id": message.get("tool_call_id") or ""} if message["role"] == "tool" else bare


def sampling_of(asked: IntrinsicRequest | IntrinsicIO | None) -> dict[str, Any]:
    """SamplingParams' arguments of an intrinsic, as far as its caller says nothing: greedy, of few tokens, or of many that follow a schema.

    JSON that is cut short is worth nothing.
    """
    if asked is None:
        return {"temperature": 0.0, "max_tokens": 64}
    schema = {} if asked.schema is None else {"json_schema": {"x-guidance": FLEXIBLE, **closed(asked.schema)}}  # they are trained on JSON of any form
    likely = {"logprobs": True, "top_logprobs": asked.top_logprobs} if asked.top_logprobs else {}
    return {"temperature": 0.0, "max_tokens": 512 if schema else 64, **schema, **likely, **asked.sampling}


def documents_of(documents: Sequence[Mapping[str, str] | str] | None) -> list[dict[str, str]]:
    """Documents as granite-common and chat templates take them. Raises PromptError.

    Their fields are in granite-common's order: some templates write them as JSON, and the base is to see what an intrinsic sees.
    """
    if not isinstance(documents, Sequence | None) or isinstance(documents, str):
        raise PromptError(f"documents: expected a list of texts, got {documents!r:.80}")
    given = list(documents or ())
    made = [{"text": d} if isinstance(d, str) else dict(d) if isinstance(d, Mapping) else {} for d in given]
    for i, document in enumerate(made):
        if not isinstance(document.get("text"), str):
            raise PromptError(f"documents[{i}]: expected a text, or a mapping with `text`, got {given[i]!r:.80}")
    numbered = [{**document, "doc_id": document.get("doc_id", str(i))} for i, document in enumerate(made, 1)]
    return [{name: document[name] for name in (*(n for n in _FIELDS if n in document), *document)} for document in numbered]


def judged(messages: Sequence[Message], role: str | None, where: str) -> list[Message]:
    """The messages up to the last one of `role`, whose messages an intrinsic judges; all of them where it is None. Raises PromptError."""
    if role is None:
        return list(messages)
    last = max((i for i, m in enumerate(messages) if m["role"] == role), default=None)
    if last is None:
        expected = f"one of role {role}, which this intrinsic judges"
        raise PromptError(complaint(where, "messages", expected, "none", "add one first"))
    return list(messages[: last + 1])


def _refused(where: str | Path, what: str, expected: str, got: Any) -> IoYamlError:
    return IoYamlError(complaint(where, what, expected, got, "correct it"))


def _is_filled_in(text: str, instruction: str) -> bool:
    """Whether something in the place of each field makes the text: each of its words stands behind those before it."""
    words = [""]
    for literal, name, _, _ in string.Formatter().parse(instruction):
        words[-1] += literal
        words += [""] if name is not None else []
    if len(words) == 1:
        return text == words[0]
    first, *middle, last = words
    at, end = len(first), len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for word in middle:
        if (found := text.find(word, at, end)) < 0:
            return False
        at = found + len(word)
    return True


def _is_more(value: Any, n_most: int) -> bool:
    """Whether it has more values than that in it, counted as often as aliases repeat them."""
    left, n = [value], 0
    while left and n + len(left) <= n_most:
        value, n = left.pop(), n + 1
        left += [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return bool(left)


def _as_content(token: Any) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "top_logprobs": [{"token": t.text, "logprob": t.logprob} for t in token.top[:_TOP]]}


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text.split()) > 1 else f"{type(error).__name__} {text}".strip()
