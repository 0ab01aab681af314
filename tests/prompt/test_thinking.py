"""Where a model's thought begins and ends: each real template, and what is no thought."""

import pytest
from real_templates import NAMES, QUESTION, TOKENS, each_template, source_of

from alora_gguf.engine.detokenizer import TextUntilStop
from alora_gguf.prompt.chat_template import ChatTemplate
from alora_gguf.prompt.thinking import Thinking, thinking_said

THINK = Thinking("<think>", "</think>")
STEPS = "Here are my reasoning steps:"
CHANNEL = Thinking("<|channel>thought", "<channel|>")
# what is around a thought, and whether the prompt opens one: as it is, with enable_thinking, and with enable_thinking false
EXPECTED = {
    "Apertus-8B-Instruct": (Thinking("<|inner_prefix|>", "<|inner_suffix|>"), "no no no"),
    "Apriel-1.6-15b-Thinker-fixed": (Thinking(STEPS, "[BEGIN FINAL RESPONSE]"), "yes yes yes"),
    "Bielik-11B-v3.0-Instruct": (THINK, "no yes no"),
    "ByteDance-Seed-OSS": (Thinking("<seed:think>", "</seed:think>"), "no no no"),
    "Cohere2MoE": (Thinking("<|START_THINKING|>", "<|END_THINKING|>", "", "<|START_TEXT|>", "<|END_TEXT|>"), "yes yes yes"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": (
        Thinking("<|START_THINKING|>", "<|END_THINKING|>", "", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        "no no no",
    ),
    "GLM-4.6": (THINK, "no no no"),
    "GLM-4.7-Flash": (THINK, "yes yes no"),
    "HuggingFaceTB-SmolLM3-3B": (THINK, "no no no"),
    "Kimi-K2-Thinking": (THINK, "no no no"),
    "Kimi-K3": (Thinking("<|open|>think<|sep|>", "<|close|>think<|sep|>", "", "<|open|>response<|sep|>", "<|close|>response<|sep|>"), "yes yes yes"),
    "LFM2.5-8B-A1B": (THINK, "no no no"),
    "LFM2.5-Instruct": (THINK, "no no no"),
    "MiniMax-M2": (THINK, "yes yes yes"),
    "MiniMax-M3": (Thinking("<mm:think>", "</mm:think>"), "no no no"),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (THINK, "yes yes no"),
    "NVIDIA-Nemotron-Nano-v2": (THINK, "yes yes yes"),
    "Qwen-QwQ-32B": (THINK, "no yes no"),
    "Qwen-Qwen3-0.6B": (THINK, "no no no"),
    "Qwen3.5-4B": (THINK, "yes yes no"),
    "Reka-Edge": (THINK, "no yes no"),
    "Spark2.5": (THINK, "yes yes no"),
    "StepFun3.5-Flash": (THINK, "yes yes yes"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": (THINK, "yes yes yes"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": (THINK, "no yes no"),
    "deepseek-ai-DeepSeek-V3.1": (THINK, "no yes no"),
    "deepseek-ai-DeepSeek-V3.2": (THINK, "no yes no"),
    "deepseek-ai-DeepSeek-V4": (THINK, "no yes no"),
    "deepseek-ai-DeepSeek-V4-Flash-0731": (THINK, "no yes no"),
    "google-gemma-4-31B-it": (CHANNEL, "no no no"),
    "google-gemma-4-31B-it-interleaved": (CHANNEL, "no no no"),
    "ibm-granite-granite-3.3-2B-Instruct": (Thinking("<think>", "</think>", "", "<response>", "</response>"), "no no no"),
    "inclusionai-ling-3.0-flash": (THINK, "yes yes no"),
    "llama-cpp-deepseek-r1": (THINK, "yes yes yes"),
    "llama-cpp-rwkv-world": (THINK, "no yes no"),
    "mistralai-Ministral-3-14B-Reasoning-2512": (Thinking("[THINK]", "[/THINK]"), "no no no"),
    "muse-glimmer": (Thinking(" to=self<|message|>", "<|eom|>", "<|start|>assistant", " to=user<|message|>"), "no no no"),
    "openai-gpt-oss-120b": (Thinking("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant", "<|channel|>final<|message|>"), "no no no"),
    "openbmb-MiniCPM5-1B": (THINK, "no yes no"),
    "poolside-Laguna-S-2.1": (THINK, "yes yes no"),
    "poolside-Laguna-XS-2.1": (THINK, "no yes no"),
    "poolside-Laguna-XS.2": (THINK, "no yes no"),
    "tencent-Hy3": (Thinking("<think:opensource>", "</think:opensource>"), "no no no"),
    "unsloth-Apriel-1.5": (Thinking(STEPS, "[BEGIN FINAL RESPONSE]", answer_end="[END FINAL RESPONSE]"), "no no no"),
    "upstage-Solar-Open-100B": (Thinking("<|think|>", "<|end|>", "<|begin|>assistant", "<|content|>"), "no no no"),
}


@each_template
def test_a_real_template(name):
    template = ChatTemplate(source_of(name), TOKENS)
    features = template.features
    thinking, opens = EXPECTED.get(name, (None, "no no no"))
    assert features.thinking == thinking
    if features.question:
        for variables, expected in zip(({}, {"enable_thinking": True}, {"enable_thinking": False}), opens.split()):
            prompt = template.render([QUESTION], add_generation_prompt=True, **features.absent, **variables)
            assert features.thinks_in(prompt) == (expected == "yes")
            assert not features.thinks_in(template.render([QUESTION], add_generation_prompt=False, **features.absent, **variables))


@each_template
def test_what_ends_a_thought_begins_the_answer(name):
    """Written by a budget, piece by piece, after a thought and in place of one."""
    thinking = ChatTemplate(source_of(name), TOKENS).features.thinking
    if thinking is None:
        return
    for said, begun, thought in (
        (f"The boat. It is{thinking.closing}", True, "The boat. It is"),
        (thinking.closing, True, ""),
        (thinking.without, False, ""),
        (f"{thinking.before or thinking.start}Tom's.{thinking.closing}", False, "Tom's."),
    ):
        text, chunks = TextUntilStop((), thinking, in_thought=begun), []
        for i in range(0, len(said), 3):
            chunks += text.push(said[i : i + 3].encode())
        assert not text.is_thinking
        for piece in ("It ", "is."):
            chunks += text.push(piece.encode())
        chunks += text.flush()
        assert (text.reasoning, text.text) == (thought, "It is.")
        for kind, whole in (("reasoning", thought), ("text", "It is.")):
            assert "".join(chunk for chunk in chunks if chunk.kind == kind) == whole


AS_ASKED_NOT_TO_THINK = "Qwen-Qwen3-0.6B", "Qwen3.5-4B", "openbmb-MiniCPM5-1B"  # others write it without white space


@pytest.mark.parametrize("name", sorted(set(NAMES) & set(AS_ASKED_NOT_TO_THINK)))
def test_a_thought_of_no_tokens_is_the_template_s_own(name):
    """What is written with a budget of 0 is what the template writes where it is asked for no thought."""
    template = ChatTemplate(source_of(name), TOKENS)
    prompt = lambda **how: template.render([QUESTION], add_generation_prompt=True, **template.features.absent, **how)
    asked, thinking = prompt(), template.features.thinking
    assert asked + (thinking.closing if thinking.thinks_in(asked) else thinking.without) == prompt(enable_thinking=False)


@pytest.mark.skipif(not NAMES, reason="no templates; run `make test`")
def test_the_table_is_of_templates_that_there_are():
    assert set(EXPECTED) <= set(NAMES)


def thinking_in(source):
    return ChatTemplate(source, TOKENS).features.thinking


WRITES = "{%% for m in messages %%}<%s>{%% if m.reasoning_content %%}%s{{ m.reasoning_content }}%s{%% endif %%}{{ m.content }}\n{%% endfor %%}"


@pytest.mark.parametrize("start, end", [
    ("<think>", "</think>"), ("<think>\n", "\n</think>\n\n"), ("<thinking>\n", "</thinking>"), ("◁think▷", "◁/think▷"), ("[THINK]", "[/THINK]"),
    ("<my:thoughts>", "</my:thoughts>"), ("<|begin_of_thought|>", "</|begin_of_thought|>"), ("<Reasoning>", "</Reasoning>"),
])  # fmt: skip
def test_tags_that_are_written_around_a_thought(start, end):
    assert thinking_in(WRITES % ("{{ m.role }}", start, end)) == Thinking(start.strip(), end.strip())
    assert thinking_in(WRITES % ("x", f"{{{{ {start[:3]!r} ~ {start[3:]!r} }}}}", f"{{{{ {end[:3]!r} ~ {end[3:]!r} }}}}")) == Thinking(
        start.strip(), end.strip()
    )


@pytest.mark.parametrize("source", [
    "{{ messages }}", "{% for m in messages %}{{ m.reasoning_content }}{{ m.content }}{% endfor %}", WRITES % ("x", "<note>", "</note>"), WRITES % ("x", "", "</think-tank>"),
    WRITES % ("x", "</my:thought>", "<my:thought>"), WRITES % ("x", "<my:thought>", "<my:thought>"), WRITES % ("x", "<my:thought>", ": "),
    "{# <think></think> #}{{ messages[0].content }}", "{{ messages[0].content }}<|think|><|content|>", "{{ messages[0].content }}<response></response>", "<|end|>{{ messages[0].content }}<|eom|>",
])  # fmt: skip
def test_what_is_no_thought(source):
    assert thinking_in(source) is None


def test_a_response_is_an_answer_only_where_the_template_says_so():
    assert thinking_said("Think in <think></think>, answer in <response></response>.").answer == "<response>"
    assert thinking_said("<think></think>{% if m.role == 'tool' %}<response>{{ m.content }}{% endif %}{{ '</response>' }}") == THINK


def test_a_prompt_that_ends_in_a_thought():
    for prompt, opens in (
        ("<think>", True),
        ("x<think>\n\n", True),
        ("<think>\n\n</think>", False),
        ("</think>", False),
        ("<think>well", False),
        ("", False),
    ):
        assert THINK.thinks_in(prompt) == opens
    assert Thinking(" to=self<|message|>", "<|eom|>").thinks_in("<|start|>assistant to=self<|message|>")
