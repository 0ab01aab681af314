"""Chat templates: programs by strangers, in a sandbox, whose text is transformers' to the character."""

import ast
import enum
import gc
import json
import weakref
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_templates import CASES, CONVERSATIONS, NAMES, TOKENS, TOOLS, each_template, source_of

from alora_gguf import Model, PromptError
from alora_gguf.prompt.chat_template import ChatTemplate, template_of

HELLO = [{"role": "user", "content": "Hello"}]
NOW = datetime(2025, 3, 4, 5, 6, 7)
MARK = "\ue000"
FEW = settings(max_examples=60, deadline=None)


def render(source, messages=HELLO, *, add_generation_prompt=False, tokens=TOKENS, **options):
    return ChatTemplate(source, tokens).render(messages, add_generation_prompt=add_generation_prompt, **options)


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


@pytest.fixture(scope="module")
def theirs():
    """Renders as transformers does, at NOW; None is an error."""
    import tokenizers
    import transformers
    from transformers.utils import chat_template_utils

    vocabulary = tokenizers.models.WordLevel({token: i for i, token in enumerate(TOKENS.values())}, unk_token=TOKENS["unk_token"])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(vocabulary), **TOKENS)

    def theirs(source, messages=HELLO, **options):
        try:
            return tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, **options)
        except Exception:
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_template_utils, "datetime", Frozen)
        yield theirs


def ours(template, messages=HELLO, **options):
    """The same of ours."""
    try:
        return template.render(messages, now=NOW, **{"add_generation_prompt": False, **options})
    except PromptError as e:
        assert "\n" not in str(e) and str(e).startswith("chat template: expected ")
        return None


# real templates


@pytest.fixture(scope="module")
def counts():
    counts = Counter()
    yield counts
    print(f"\n{counts['templates']} templates: {counts['renderings']} renderings as transformers', {counts['refusals']} refused by both")


@each_template
def test_a_real_template_writes_what_transformers_writes(name, theirs, counts):
    source = source_of(name)
    template = ChatTemplate(source, TOKENS)
    written = {}
    for what, options in CASES:
        text = ours(template, CONVERSATIONS[what], **options)
        assert text == theirs(source, CONVERSATIONS[what], **options), (what, options)
        written[what, str(options)] = text
    n = sum(text is not None for text in written.values())
    counts.update(templates=1, renderings=n, refusals=len(CASES) - n)
    if "firefunction" not in name:  # which wants variables that nobody else has
        assert n > len(CASES) / 4 and len(set(written.values())) > 15


@pytest.mark.skipif(not NAMES, reason="no templates; run `make test`")
def test_how_many_are_compared():
    assert len(NAMES) >= 65 and len(NAMES) * len(CASES) > 20_000


@each_template
def test_a_mark_in_a_text_stays_where_it_is(name):
    """Nothing is written otherwise for its sake, be it in JSON or not."""
    template = ChatTemplate(source_of(name), TOKENS)
    marked = lambda value: json.loads(json.dumps(value, ensure_ascii=False).replace("Zürich", f"Zü{MARK}rich"))
    for what in ("question", "call and result", "two calls"):
        for options in ({}, {"tools": TOOLS}):
            text = ours(template, CONVERSATIONS[what], add_generation_prompt=True, **options)
            if text is not None:
                with_marks = ours(template, marked(CONVERSATIONS[what]), add_generation_prompt=True, mark=MARK, **marked(options))
                assert with_marks.replace(MARK, "") == text and with_marks.count(MARK) == text.count("Zürich") + text.count("Z\\u00fcrich")


# what transformers gives to templates


@pytest.mark.parametrize("source", [
    "{{ messages[0].content | tojson }}", "{{ messages | tojson(indent=2) }}", "{{ messages | tojson(separators=(',', ':'), sort_keys=true) }}",
    "{{ messages | tojson(ensure_ascii=true) }}", "{{ messages | tojson(true, 1) }}", "{{ nothing | tojson }}", "{{ messages | tojson(default=1) }}",
    "{{ '<script>' | tojson ~ \"'&\" }}", "{{ [1.0, none, true, 1e100] | tojson }}",
    "{% generation %}a{% endgeneration %}b", "{%- set x = 1 -%}{%- generation -%}{%- set x = 2 -%}{{ x }}{%- endgeneration -%}{{ x }}",
    "{% for m in messages %}{% generation %}{{ loop.index }}{{ m.content }}{% endgeneration %}{% endfor %}", "{% generation %}", "{% endgeneration %}",
    "{% for m in messages %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %A') }}", "{{ strftime_now() }}", "{{ strftime_now(1) }}",
    "{{ raise_exception('no') }}", "{{ raise_exception() }}", "{{ missing }}|{{ missing is defined }}", "{{ missing.x }}", "{{ missing + 'x' }}",
    "{% for m in messages * 3 %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "{% for m in messages * 3 %}{% if loop.first %}{% continue %}{% endif %}{{ loop.index }}{% endfor %}",
    "  {% if true %}\n  x\n  {% endif %}\n y", "{{ tools }} {{ documents }} {{ tools is none }}", "{{ add_generation_prompt }}",
    "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}", "{{ sep_token }}", "{{ cls_token + 'x' }}", "{{ sep_token is defined }}",
    "{{ dict(a=1) }}{{ dict([(1, 2)]) }}{{ dict.fromkeys('ab', 0) }}", "{{ dict.update }}|{{ dict.__class__ }}", "{{ dict.__init__.__globals__ }}",
    "{% set n = namespace(self=1, a=2) %}{% set n.a = 3 %}{{ n.self }}{{ n.a }}", "{% set n = namespace({'b': 1}) %}{{ n.b }}", "{% set n = namespace(_a=1) %}{{ n }}",
    "{% set n = namespace() %}{% set n._a = 1 %}", "{% set n = namespace() %}{% set n.__class__ = 1 %}", "{% set n = namespace({'__x__': 1}) %}x",
    "{{ messages.append(1) }}", "{{ messages[0].pop('role') }}", "{{ messages[0].update({}) }}", "{{ [].append(1) }}", "{{ ''.__class__ }}",
    "{{ range(999999999) | list }}", "{{ messages[5].content.x }}", "{{ 1 / 0 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% include 'x' %}",
    "{{ 'é' | upper ~ '<' | e }}", "{{ messages[0] | items | list }}", "{{ messages[0].items() | list }}", "{{ lipsum is defined }}",
    "{% for %}", "{{", "{{ " + "(" * 500 + ")" * 500 + " }}", "{{ " + "9" * 5000 + " }}", "", "{{ x | no_such_filter }}",
], ids=lambda source: repr(source)[:50])  # fmt: skip
def test_a_template_gets_what_transformers_gives_it(source, theirs):
    expected = theirs(source)
    try:
        template = ChatTemplate(source, TOKENS)
    except PromptError as e:
        assert expected is None and "\n" not in str(e)
    else:
        assert ours(template) == expected


class Role(str, enum.Enum):
    USER = "user"


@dataclass
class Said:
    role: str
    content: str


class Dumps:
    def model_dump(self):
        return {"role": "user", "content": "dumped", "name": None}


@pytest.mark.parametrize("messages", [
    [{"role": Role.USER, "content": "x", "n": np.int64(3), "f": np.float32(0.5), "b": np.bool_(False), "t": (1, [2]), "o": b"bytes", "s": {1}}],
    [{"role": "user", "content": None, "a": None, "b": {"c": None}}], [Said("user", "said"), Dumps()], ["x"], [["x"]], [{"role": "user", "content": {"x": object}}],
    [{"role": "user", "thinking": "t", "content": "x", "reasoning": "r"}, {"role": "user", "reasoning_content": "", "reasoning": "r"}], [None],
], ids=range(8))  # fmt: skip
def test_objects_reach_a_template_as_plain_data(messages, theirs):
    source = "{{ messages }}{{ messages[0].b is none }}"
    assert ours(ChatTemplate(source, TOKENS), messages) == theirs(source, messages)


@pytest.mark.parametrize(
    "variables",
    [
        {"tools": ["x"]},
        {"tools": "x"},
        {"tools": {"type": "function"}},
        {"documents": ["x"]},
        {"documents": [{"text": "x"}, 1]},
        {"tools": 1},
        {"documents": True},
        {"tools": [], "documents": []},
        {"tools": {}},
        {"documents": {}},
        {"x": Role.USER, "y": np.int32(1), "z": {2: (None, object())}},
    ],
    ids=lambda variables: str(variables).partition(" object at")[0],
)
def test_variables_are_taken_and_refused_as_by_transformers(variables, theirs):
    source = "{{ tools }}{{ documents }}{{ x }}{{ y }}{{ z }}"
    assert ours(ChatTemplate(source, TOKENS), **variables) == theirs(source, **variables)


@FEW
@given(st.lists(st.sampled_from(["\\", "\\ue000", "ue000", MARK, "'", '"', "é", "\u2028", "\U0001f600"]), max_size=8).map("".join))
def test_a_mark_is_all_that_is_not_escaped(text):
    messages = [{"role": "user", "content": text}]
    for read, source in ((json.loads, "{{ messages[0].content | tojson(ensure_ascii=true) }}"), (json.loads, "{{ messages[0].content | tojson(true, 1) }}"),
                         (json.loads, "{{ messages[0].content | tojson }}"), (ast.literal_eval, "{{ [messages[0].content] }}")):  # fmt: skip
        written = render(source, messages, mark=MARK)
        assert read(written) in (text, [text]) and written.count(MARK) == text.count(MARK)
        assert written.replace(MARK, "") == render(source, [{"role": "user", "content": text.replace(MARK, "")}])


def test_a_mark_may_be_any_character():
    for mark in ("\ue000", "\U000f0000", "é"):
        assert (
            render("{{ messages[0].content | tojson(true) }}", [{"role": "user", "content": f"{mark}ü\\{mark}"}], mark=mark)
            == f'"{mark}\\u{ord("ü"):04x}\\\\{mark}"'
        )
    assert render("{{ messages[0].content | tojson(true) }}", [{"role": "user", "content": MARK}]) == '"\\ue000"'


def test_the_present_is_what_it_is_given():
    source = "{{ strftime_now('%Y-%m-%d %H') }}"
    assert render(source, now=NOW) == "2025-03-04 05"
    assert render("{{ strftime_now('%Y') }}") == str(datetime.now().year)
    nested = ChatTemplate(source, TOKENS)
    assert nested.render(HELLO, add_generation_prompt=True, now=datetime(1999, 1, 2)) == "1999-01-02 00"
    assert nested.render(HELLO, add_generation_prompt=True, now=NOW) == "2025-03-04 05"


def test_no_messages_are_the_templates_matter():
    """An adapter may be invoked before anything is said."""
    assert ours(ChatTemplate("{{ bos_token }}{% for m in messages %}x{% endfor %}", TOKENS), []) == "<s>"
    assert ours(ChatTemplate("{{ messages[0].role.x }}", TOKENS), []) is None


# ours


def test_the_models_own_template(shared):
    said = [{"role": "system", "content": "Be brief."}, *HELLO]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    assert shared.render(said) == text
    assert shared.render(said, add_generation_prompt=True) == text + "<|im_start|>assistant\n"


def test_the_models_own_tokens(shared):
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>"}
    assert shared.vocab.special_tokens == tokens
    template = template_of(shared.vocab, "{{ bos_token }}{{ unk_token }}{{ mask_token is defined }}", "model")
    assert template.render(HELLO, add_generation_prompt=False) == "<|im_start|><|endoftext|>False"


def test_a_template_of_ones_own(base_q4):
    with Model(base_q4, n_ctx=256, chat_template="{% for m in messages %}[{{ m.content }}]{% endfor %}") as model:
        assert model.render(HELLO) == "[Hello]"
        chat = model.conversation()
        assert chat.ask("One", max_tokens=1).usage.prompt_tokens == len(model.tokenize("[One]"))
    with Model(base_q4, n_ctx=256, chat_template="{{ '' }}") as model:
        with pytest.raises(PromptError, match="^prompt: expected one or more tokens"):
            model.conversation().ask("One")


@pytest.mark.parametrize("source", [
    "{{ raise_exception('roles must\nalternate') }}", "{{ messages[5].content.x }}", "{{ 1 / 0 }}", "{{ messages + 1 }}", "{{ {}['a'].b.c }}",
    "{{ ''.__class__.__mro__[1].__subclasses__().x.y }}", "{{ messages.append(1) }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
], ids=range(8))  # fmt: skip
def test_what_a_template_does_wrong_is_one_line(source):
    with pytest.raises(PromptError, match="^chat template: expected messages that it accepts, got: .") as raised:
        render(source)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("source", ["{{ raise_exception('no') }}", "{{ messages[5].content.x }}", "{% for %}"])
def test_an_error_holds_nobody(source):
    """What is on the stack when a template fails is freed without the garbage collector."""

    class Caller:
        def call(self):
            try:
                render(source)
            except PromptError:
                return True

    caller = Caller()
    gone = weakref.ref(caller)
    gc.disable()
    try:
        assert caller.call()
        del caller
        assert gone() is None
    finally:
        gc.enable()


def test_a_template_that_is_none():
    with pytest.raises(PromptError, match="expected Jinja"):
        render("{% for %}")


def test_what_would_be_left_out_is_refused():
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", TOKENS)
    template.check({"documents": [], "tools": None, "other": 1})
    for name in ("messages", "add_generation_prompt", "now", "mark"):
        with pytest.raises(PromptError, match=f"^chat template: expected variables of other names, got {name}; "):
            template.check({name: None})
    for name in ("documents", "tools"):
        with pytest.raises(PromptError, match=f"^chat template: expected one that writes {name}, got one that does not; [^;]*$"):
            template.check({name: [{"text": "x"}]})
