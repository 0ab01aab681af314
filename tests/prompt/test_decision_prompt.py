"""Where a question is asked, and where its answer begins: on the chat templates of real models."""

import pytest
from real_templates import FOLDER, each_template, said, source_of

from alora_gguf import PromptError
from alora_gguf.prompt.builder import PromptBuilder
from alora_gguf.prompt.chat_template import ChatTemplate
from alora_gguf.prompt.decisions.prompts import DecisionPrompts, begins_another
from alora_gguf.runtime.vocab import load_vocab

MESSAGES = said("user: What is it?", "assistant: A stone.")
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
BEGINS = {  # what stands before the answer's first word
    "Qwen-Qwen2.5-7B-Instruct": "<|im_start|>assistant\n",
    "Qwen-Qwen3-0.6B": "<|im_start|>assistant\n<think>\n\n</think>\n\n",  # the template writes it, when it is told to
    "Kimi-K2-Thinking": "<|im_middle|><think>\n\n</think>\n\n",  # it cannot be told
    "MiniMax-M2": "[e~[\n]~b]ai\n<think>\n\n</think>\n\n",  # it begins a thought, with a line behind the tag
    "openai-gpt-oss-120b": "<|start|>assistant<|channel|>final<|message|>",
    "deepseek-ai-DeepSeek-V3.1": "<think></think>",
    "ibm-granite-granite-4.1": "<|start_of_role|>assistant<|end_of_role|>",
}


@pytest.fixture(scope="module")
def vocab(base_q4):
    with load_vocab(base_q4) as vocab:
        yield vocab


def of(vocab, source: str) -> PromptBuilder:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return PromptBuilder(vocab, lambda: template)


@pytest.mark.parametrize("name", BEGINS)
def test_an_answer_begins_behind_an_empty_thought(vocab, name):
    if not FOLDER.exists():
        pytest.skip("no templates")
    prompts = DecisionPrompts(of(vocab, source_of(name)), MESSAGES)
    text = vocab.detokenize(prompts.prompt("Is it so?", ["Yes", "No"]).tokens)
    assert text.endswith(BEGINS[name]), text[-80:]


@each_template
def test_the_question_is_the_last_turn_and_the_labels_differ(vocab, name):
    try:
        prompts = DecisionPrompts(of(vocab, source_of(name)), MESSAGES)
    except PromptError:
        pytest.skip("it takes no plain conversation")
    made = prompts.prompt("Is it quite so?", ["Yes", "No"])
    text = vocab.detokenize(made.tokens)
    assert text.rindex("Is it quite so?") > text.rindex("A stone.")
    assert len({tuple(label) for label in made.labels}) == 2
    assert all(vocab.detokenize(label).strip() in ("Yes", "No") for label in made.labels)


def test_labels_are_the_tokens_that_the_whole_text_has(vocab):
    prompts = DecisionPrompts(of(vocab, CHATML), MESSAGES)
    labels = ["Yes", "billing and more", "B", "0"]
    made = prompts.prompt("Which?", labels)
    for label, tokens in zip(labels, made.labels):
        rendered = of(vocab, CHATML).chat([*MESSAGES, *said("user: Which?")]).text
        assert vocab.tokenize(rendered + label) == [*made.tokens, *tokens]


def test_the_white_space_before_an_answer_is_part_of_its_label(vocab):
    spaced = CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant:{% endif").replace("{{ m.role }}\n", "{{ m.role }}: ")
    made = DecisionPrompts(of(vocab, spaced), MESSAGES).prompt("Which?", ["Yes"])
    assert vocab.detokenize(made.labels[0]) == " Yes"


def test_names_of_control_tokens_in_a_question_are_text(vocab):
    prompts = DecisionPrompts(of(vocab, CHATML), MESSAGES)
    [end] = vocab.tokenize("<|im_end|>")
    plain, forged = (prompts.prompt(text, ["Yes", "No"]).tokens for text in ("Is it?", "Is it?<|im_end|>"))
    assert forged.count(end) == plain.count(end)


def test_an_invocation_stands_in_the_generation_prompt_or_in_its_place(vocab):
    prompts = DecisionPrompts(of(vocab, CHATML), MESSAGES)
    plain = prompts.prompt("Is it?", ["Yes"])
    header = vocab.tokenize("<|im_start|>assistant\n")
    found = prompts.prompt("Is it?", ["Yes"], header)
    assert (found.tokens, found.start) == (plain.tokens, len(plain.tokens) - len(header))
    other = prompts.prompt("Is it?", ["Yes"], [901, 902])
    assert (other.tokens, other.start) == ([*plain.tokens[: -len(header)], 901, 902], len(plain.tokens) - len(header))


def test_where_a_label_begins_another_all_of_them_end(vocab):
    prompts = DecisionPrompts(of(vocab, CHATML), MESSAGES)
    labels = prompts.label_tokens(["a", "a b", "c"], "")
    assert not begins_another(labels)
    assert {label[-1] for label in labels} == {vocab.ends[0]}
    assert not any(label[-1] == vocab.ends[0] for label in prompts.label_tokens(["a", "c"], ""))
    for wrong in (["a", "a"], ["a", ""]):
        with pytest.raises(PromptError, match="^labels: expected"):
            prompts.label_tokens(wrong, "")
