"""granite-common's two formatters, with what has come into the published io.yaml since granite-common 0.4.1.

Earlier messages can have numbered sentences, too; numbers of several sources can be decoded; duplicates are dropped.
This module imports granite-common, which takes a quarter of a second: io_yaml does so when there is an io.yaml.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

from granite_common import ChatCompletion, IntrinsicsResultProcessor, IntrinsicsRewriter
from granite_common.intrinsics import output as rules
from granite_common.intrinsics.input import sentence_delimiter
from pydantic import PrivateAttr

LAST, EARLIER, DOCUMENTS = SOURCES = "last_message", "all_but_last_message", "documents"
_ONLY_OF = {"document_id": DOCUMENTS, "message_index": EARLIER}  # what else can be said of a sentence than where it is


class FormError(Exception):
    """A field of an io.yaml: its name, what was expected, what came."""


class Sentence(NamedTuple):
    """begin, end: where it stands in its text, whose sentences are joined by single spaces; but for the last, such a space belongs to it."""

    begin: int
    end: int
    text: str
    document_id: str | None = None
    message_index: int | None = None


class Asked(ChatCompletion):
    """A request that knows its sentences: for each source the number of the first, and all of them in order."""

    _sentences: dict[str, tuple[int, list[Sentence]]] = PrivateAttr(default_factory=dict)

    def numbered(self, sources: Sequence[str]) -> dict[int, Sentence]:
        """Sentences by the numbers that an answer gives them.

        Documents and earlier messages have one numbering, so theirs are the numbers that the model saw. The last message has
        its own: where it is listed beside others, numbers run in the order of the list.
        """
        found = [self._sentences[source] for source in sources if source in self._sentences]
        if LAST in sources and len(sources) > 1:
            return dict(enumerate(chain.from_iterable(sentences for _, sentences in found)))
        return {first + i: sentence for first, sentences in found for i, sentence in enumerate(sentences)}


class Rewriter(IntrinsicsRewriter):
    """Makes the request. `tags`: for each source the prefix of its sentences' numbers."""

    def __init__(self, config: dict[str, Any]):
        given = config.get("sentence_boundaries")
        self.tags: dict[str, str] = {}
        if isinstance(given, dict):
            if not isinstance(given.get(EARLIER, ""), str):
                raise FormError(f"sentence_boundaries.{EARLIER}", "a prefix, which is text", given[EARLIER])
            self.tags = {source: prefix for source, prefix in given.items() if source in SOURCES and prefix != ""}
            given = {source: prefix for source, prefix in given.items() if source != EARLIER and prefix != ""} or None
        super().__init__(config_dict={**config, "sentence_boundaries": given})
        if self.tags:
            from nltk.tokenize.punkt import PunktSentenceTokenizer

            self._split = PunktSentenceTokenizer().tokenize

    def _transform(self, asked: Asked, /, **arguments: Any) -> Asked:
        made: Any = super()._transform(self._with_numbers(asked) if self.tags else asked, **arguments)
        return made

    def _with_numbers(self, asked: Asked) -> Asked:
        documents = (asked.extra_body and asked.extra_body.documents) or []
        earlier = [self._split(m.content) for m in asked.messages[:-1]]
        found = {
            DOCUMENTS: (0, _sentences((self._split(d.text), d.doc_id, None) for d in documents)),
            LAST: (0, _sentences((self._split(m.content), None, None) for m in asked.messages[-1:])),
        }
        first = len(found[DOCUMENTS][1]) if DOCUMENTS in self.tags else 0
        found[EARLIER] = (first, _sentences((sentences, None, i) for i, sentences in enumerate(earlier)))
        messages = list(asked.messages)
        if EARLIER in self.tags:
            for i, sentences in enumerate(earlier):
                content = " ".join(sentence_delimiter(self.tags[EARLIER], first + n) + sentence for n, sentence in enumerate(sentences))
                messages[i], first = messages[i].model_copy(update={"content": content}), first + len(sentences)
        made = asked.model_copy(update={"messages": messages})
        made._sentences = {source: found[source] for source in self.tags}
        return made


class ResultProcessor(IntrinsicsResultProcessor):
    """Makes the result of an answer to an Asked. tags: as the Rewriter has them."""

    def __init__(self, config: dict[str, Any], tags: Mapping[str, str]):
        given = config["transformations"] or []
        theirs = [rule for rule in given if rule["type"] not in _RULES]
        super().__init__(config_dict={**config, "transformations": theirs})
        for i, rule in enumerate(given):
            if rule["type"] in _RULES:
                options = {name: value for name, value in rule.items() if name not in ("type", "input_path")}
                try:
                    made = _RULES[rule["type"]](self.config, rule["input_path"], **options)
                except FormError as e:
                    field, *said = e.args
                    raise FormError(f"transformations[{i}].{field}", *said) from e
                self.rules.insert(i, made)
                if isinstance(made, DecodeSentences):
                    for source in made.sources:
                        if source not in tags:
                            expected = f"sentences that sentence_boundaries numbers ({', '.join(tags) or 'none'})"
                            raise FormError(f"transformations[{i}].source", expected, source)


class DecodeSentences(rules.DecodeSentences):
    """Numbers of sentences become where they stand. `sources`: whose sentences are meant."""

    def __init__(self, config: dict[str, Any], path: list[Any], /, source: Any, output_names: Any):
        self.sources = [source] if isinstance(source, str) else source
        if not isinstance(self.sources, list) or not self.sources or any(s not in SOURCES or self.sources.count(s) > 1 for s in self.sources):
            raise FormError("source", f"some of {', '.join(SOURCES)}, each once", source)
        if not isinstance(output_names, dict) or not all(isinstance(name, str) for name in output_names.values()):
            raise FormError("output_names", "a mapping to names", output_names)
        for field in output_names:
            if field not in Sentence._fields or _ONLY_OF.get(field, self.sources[0]) not in self.sources:
                raise FormError("output_names", "begin, end, text, document_id of documents or message_index of earlier messages", field)
        super().__init__(config, path, source=LAST, output_names={})
        self._names = {field: output_names[field] for field in Sentence._fields if field in output_names}

    def _prepare(self, value: Any, reparsed: Any, logprobs: Any, asked: Asked | None) -> dict[str, Any]:
        if asked is None:
            raise ValueError(f"the rule {self.rule_name()} requires the request")
        return {"sentences": asked.numbered(self.sources)}

    def _transform(self, value: Any, path: tuple[Any, ...], prepared: dict[str, Any]) -> dict[str, Any]:
        numbered = prepared["sentences"]
        if not isinstance(value, int) or isinstance(value, bool) or value not in numbered:
            known = f"{min(numbered)} to {max(numbered)}" if numbered else "there are none"
            raise ValueError(f"{value!r:.80}, which is no number of a sentence of {', '.join(self.sources)} ({known})")
        return {name: getattr(numbered[value], field) for field, name in self._names.items()}


class DropDuplicates(rules.DropDuplicates):
    """Of records that are equal in the target fields the last one stays, where the first was. granite-common checks them, and drops none."""

    def __init__(self, config: dict[str, Any], path: list[Any], /, target_fields: Any):
        if not isinstance(target_fields, list) or not all(isinstance(field, str) for field in target_fields):
            raise FormError("target_fields", "a list of names", target_fields)
        super().__init__(config, path, target_fields=target_fields)

    def _transform(self, value: Any, path: tuple[Any, ...], prepared: dict[str, Any]) -> list[Any]:
        records = super()._transform(value, path, prepared)
        return list({tuple(_hashable(record[field]) for field in self.target_fields): record for record in records}.values())


_RULES = {rule.YAML_NAME: rule for rule in (DecodeSentences, DropDuplicates)}


def _hashable(value: Any) -> Any:
    return (type(value), repr(value)) if isinstance(value, list | dict) else value


def _sentences(texts: Iterable[tuple[Sequence[str], str | None, int | None]]) -> list[Sentence]:
    """Of texts that are split already, each with its document's id and its message's index."""
    found = []
    for split, document_id, message_index in texts:
        pieces = [f"{sentence} " for sentence in split[:-1]] + list(split[-1:])
        ends = accumulate(len(piece) for piece in pieces)
        found += [Sentence(end - len(piece), end, piece, document_id, message_index) for piece, end in zip(pieces, ends)]
    return found
