"""enable_thinking and reasoning_effort on real templates, by the names that they have there for them."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from alora_gguf.prompt.chat_template import ChatTemplate
from alora_gguf.serve.body import Chat
from alora_gguf.serve.chat import _read
from alora_gguf.serve.problem import Problem

sys.path.insert(0, str(Path(__file__).parents[1] / "prompt"))
from real_templates import NAMES, QUESTION, TOKENS, source_of

THINKING = {  # the template's own words for a thought, and for none; None: it has no such switch
    "Qwen-Qwen3-0.6B": "enable_thinking", "Qwen3.5-4B": "enable_thinking", "HuggingFaceTB-SmolLM3-3B": "enable_thinking", "GLM-4.6": "enable_thinking",
    "google-gemma-4-31B-it": "enable_thinking", "deepseek-ai-DeepSeek-V3.1": "enable_thinking", "ibm-granite-granite-3.3-2B-Instruct": "thinking",
    "Kimi-K3": "thinking", "openai-gpt-oss-120b": None, "llama-cpp-deepseek-r1": None, "MiniMax-M2": None,
}  # fmt: skip
EFFORT = {
    "openai-gpt-oss-120b": "reasoning_effort",
    "tencent-Hy3": "reasoning_effort",
    "Kimi-K3": "thinking_effort",
    "muse-glimmer": "reasoning_strength",
}

pytestmark = pytest.mark.skipif(not NAMES, reason="no templates; run `make test`")


@pytest.fixture
def written():
    """written(template, field=...): the prompt that a request with this field gets, and one of the template's own variables."""

    def written(name, own=None, **fields):
        template = ChatTemplate(source_of(name), TOKENS)
        body = Chat.model_validate({"messages": [QUESTION], **fields})
        variables = _read(SimpleNamespace(model=SimpleNamespace(template=template)), body, body.variables)
        assert template.unread(variables) == []
        render = lambda given: template.render([QUESTION], add_generation_prompt=True, **template.features.absent, **given)
        return render(variables), render(own or {})

    return written


@pytest.mark.parametrize("name, switch", THINKING.items(), ids=list(THINKING))
def test_the_switch_by_its_name_in_the_template(written, name, switch):
    if switch is None:
        for fields in ({"enable_thinking": False}, {"enable_thinking": True}):
            with pytest.raises(Problem, match=r"^enable_thinking: expected a chat template that reads it, got one that does not[^\n]*$"):
                written(name, **fields)
        return
    told = {}
    for value in (True, False):
        told[value], own = written(name, {switch: value}, enable_thinking=value)
        assert told[value] == own
    assert told[True] != told[False]
    assert written(name, reasoning_effort="none")[0] == told[False]
    with pytest.raises(Problem, match="give one"):
        written(name, enable_thinking=False, chat_template_kwargs={switch: True})


@pytest.mark.parametrize("name, variable", EFFORT.items(), ids=list(EFFORT))
def test_the_effort_by_its_name_in_the_template(written, name, variable):
    for value in ("low", "high"):
        told, own = written(name, {variable: value}, reasoning_effort=value)
        assert told == own
    assert written(name, reasoning_effort="low")[0] != written(name)[0]


@pytest.mark.parametrize("name", ["Qwen-Qwen3-0.6B", "llama-cpp-deepseek-r1", "ibm-granite-granite-3.3-2B-Instruct"])
def test_an_effort_that_the_template_does_not_know(written, name):
    with pytest.raises(Problem, match=r"^reasoning_effort: expected a chat template that reads it"):
        written(name, reasoning_effort="high")


def test_a_model_that_does_not_think_is_asked_for_none(written):
    [name] = [name for name in NAMES if name == "meta-llama-Llama-3.1-8B-Instruct"] or [pytest.skip("no such template")]
    for fields in ({"reasoning_effort": "none"}, {"enable_thinking": False}):
        told, own = written(name, **fields)
        assert told == own
    for fields in ({"reasoning_effort": "low"}, {"enable_thinking": True}):
        with pytest.raises(Problem, match="leave it out"):
            written(name, **fields)


@pytest.mark.parametrize("name", sorted({*THINKING, *EFFORT}))
def test_what_the_list_of_models_says_of_a_template(name):
    """What a page offers is what a request may ask for."""
    from alora_gguf.serve.models import _template

    says = _template(ChatTemplate(source_of(name), TOKENS))
    assert says["thinking"] or name not in THINKING
    assert says["enable_thinking"] == bool(THINKING.get(name, says["enable_thinking"]))
    assert says["reasoning_effort"] == (name in EFFORT)
