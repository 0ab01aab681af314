"""Chat templates: programs by strangers, in a sandbox."""

import pytest

from alora_gguf import Model, PromptError
from alora_gguf.prompt.chat_template import ChatTemplate

HELLO = [{"role": "user", "content": "Hello"}]


def render(source, messages=HELLO, **options):
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}).render(messages, add_generation_prompt=options.get("add_generation_prompt", False))


def test_the_models_own_template(shared):
    said = [{"role": "system", "content": "Be brief."}, *HELLO]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    assert shared.render(said) == text
    assert shared.render(said, add_generation_prompt=True) == text + "<|im_start|>assistant\n"


def test_a_template_of_ones_own(base_q4):
    with Model(base_q4, n_ctx=256, chat_template="{% for m in messages %}[{{ m.content }}]{% endfor %}") as model:
        assert model.render(HELLO) == "[Hello]"
        chat = model.conversation()
        assert chat.ask("One", max_tokens=1).usage.prompt_tokens == len(model.tokenize("[One]"))
    with Model(base_q4, n_ctx=256, chat_template="{{ '' }}") as model:
        with pytest.raises(PromptError, match="^prompt: expected one or more tokens"):
            model.conversation().ask("One")


def test_what_transformers_gives_to_templates():
    source = "{{ bos_token }}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}\n  {{ m['content'] }}{% endfor %}{{ eos_token }}"
    assert render(source, HELLO * 2) == "<s>  Hello</s>"
    assert len(render("{{ strftime_now('%Y') }}")) == 4


@pytest.mark.parametrize("source", [
    "{{ raise_exception('roles must\nalternate') }}", "{{ messages[5].content.x }}", "{{ 1 / 0 }}", "{{ messages + 1 }}", "{{ {}['a'].b.c }}",
    "{{ ''.__class__.__mro__[1].__subclasses__().x.y }}", "{{ messages.append(1) }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
], ids=range(8))  # fmt: skip
def test_what_a_template_does_wrong_is_one_line(source):
    with pytest.raises(PromptError, match="^chat template: expected messages that it accepts, got: .") as raised:
        render(source)
    assert "\n" not in str(raised.value)


def test_a_template_that_is_none():
    with pytest.raises(PromptError, match="expected Jinja"):
        render("{% for %}")
