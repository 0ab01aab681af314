"""Prompts of intrinsics, on a tokenizer of characters: what is cached keeps its tokens, and the adapter begins where PEFT says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_gguf import PromptError
from alora_gguf.prompt.intrinsic_prompt import intrinsic_prompt, place_of
from alora_gguf.prompt.invocation import find_invocation
from alora_gguf.prompt.token_history import text_tokens

FEW = settings(max_examples=60, deadline=None)
BOS = 0
INVOCATION = [ord(c) for c in "#!"]
TEXT = st.text("ab#! ", max_size=8)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from("UA"), "content": TEXT}), max_size=5)


def render(messages, *, add_generation_prompt):
    return "".join(f"<{m['role']}>{m['content']}\n" for m in messages) + ("<A>" if add_generation_prompt else "")


def tokenize(text, *, begins):
    return [BOS] * begins + [ord(c) for c in text]


def prompt_of(messages, instruction=None, **options):
    asked = [*messages, {"role": "U", "content": instruction}] if instruction is not None else messages
    return intrinsic_prompt(asked, len(messages), INVOCATION, options.pop("render", render), tokenize, **options)


@FEW
@given(MESSAGES, TEXT, TEXT)
def test_with_an_instruction(messages, before, after):
    prompt = prompt_of(messages, f"{before}#!{after}")
    asked = [*messages, {"role": "U", "content": f"{before}#!{after}"}]
    assert prompt.tokens == tokenize(render(asked, add_generation_prompt=True), begins=True)
    assert prompt.start == find_invocation(prompt.tokens, INVOCATION) >= prompt.n_conversation
    assert tokenize(prompt.text, begins=True)[: prompt.n_conversation] == prompt.tokens[: prompt.n_conversation]
    assert prompt.text == render(messages, add_generation_prompt=False)


@FEW
@given(MESSAGES.filter(len), st.integers(0, 60), st.booleans())
def test_what_is_known_keeps_its_tokens(messages, n, instructed):
    """Texts from the cache have tokens that no tokenizer would give them."""
    text = render(messages, add_generation_prompt=False)[:n]
    known = [(text, [-1] * 3), (text[: n // 2], [-2])]
    prompt = prompt_of(messages, "#!" if instructed else None, known=lambda text: known)
    assert prompt.tokens[:3] == [-1] * 3 or not text and prompt.tokens[:1] in ([-1], [-2])
    assert BOS not in prompt.tokens
    assert prompt.tokens[prompt.start : prompt.start + 2] == INVOCATION


@FEW
@given(MESSAGES.filter(lambda messages: "#!" not in "".join(m["content"] for m in messages)))
def test_without_an_instruction_it_is_appended(messages):
    prompt = prompt_of(messages)
    said = tokenize(render(messages, add_generation_prompt=False), begins=True)
    assert (prompt.tokens, prompt.start, prompt.n_conversation) == (said + INVOCATION, len(said), len(said))


@FEW
@given(MESSAGES)
def test_an_invocation_in_an_earlier_message_does_not_count(messages):
    said = [{"role": "U", "content": "a#!b"}, *messages, {"role": "U", "content": "ab"}]
    prompt = prompt_of(said)
    assert prompt.start == prompt.n_conversation == len(tokenize(render(said, add_generation_prompt=False), begins=True))


def test_an_invocation_in_the_last_message_or_in_the_generation_prompt_counts():
    said = [{"role": "U", "content": "a"}, {"role": "U", "content": "b #! c"}]
    prompt = prompt_of(said)
    assert prompt.tokens == tokenize("<U>a\n<U>b #! c\n<A>", begins=True) and prompt.tokens[prompt.start :][:2] == INVOCATION
    asking = lambda messages, add_generation_prompt: render(messages, add_generation_prompt=False) + "<#!>" * add_generation_prompt
    prompt = prompt_of(said[:1], render=asking)
    assert prompt.tokens == tokenize("<U>a\n<#!>", begins=True) and prompt.start == prompt.n_conversation + 1


def test_an_instruction_without_the_invocation_is_refused():
    said = [{"role": "U", "content": "a#!b"}]
    with pytest.raises(PromptError, match=r"^intrinsic 'x': instruction: expected its invocation, tokens \[35, 33\], behind the conversation"):
        prompt_of(said, "a # !", where="intrinsic 'x'")


def test_a_template_that_writes_the_conversation_otherwise_when_something_follows():
    def closing(messages, *, add_generation_prompt):
        return render(messages, add_generation_prompt=add_generation_prompt) + ("" if add_generation_prompt else ".")

    said = [{"role": "U", "content": "a"}]
    prompt = prompt_of(said, "#!", render=closing)
    assert (prompt.tokens, prompt.n_conversation) == (tokenize("<U>a\n<U>#!\n<A>", begins=True), 0)
    assert prompt.tokens[prompt.start :][:2] == INVOCATION
    prompt = prompt_of(said, render=closing)
    assert prompt.tokens == tokenize("<U>a\n.#!", begins=True) and prompt.start == prompt.n_conversation


@FEW
@given(TEXT, st.lists(st.tuples(TEXT, st.lists(st.integers(-9, -1)))))
def test_the_longest_known_text_counts(text, known):
    tokens = text_tokens(text, tokenize, known)
    fitting = [pair for pair in known if text.startswith(pair[0])]
    longest = max((len(begin) for begin, _ in fitting), default=None)
    if longest is None:
        assert tokens == tokenize(text, begins=True)
    else:
        assert any(tokens == kept + tokenize(text[longest:], begins=False) for begin, kept in fitting if len(begin) == longest)


# an invocation that cannot occur: its last character and the one behind it are one token

MERGED = 1000


def merging(text, *, begins):
    tokens = [BOS] * begins
    for c in text:
        if c == ":" and tokens and tokens[-1] == ord("!"):
            tokens[-1] = MERGED
        else:
            tokens.append(ord(c))
    return tokens


def split_prompt(messages, instruction, own_words=(), **options):
    asked = [*messages, {"role": "U", "content": instruction}] if instruction is not None else messages
    place = place_of(asked, "#!", own_words)
    return intrinsic_prompt(asked, len(messages), INVOCATION, options.pop("render", render), merging, place=place, **options)


@FEW
@given(MESSAGES, st.text("a #", max_size=5), st.text("ab! :", max_size=8))
def test_its_own_tokens_are_put_where_its_text_stands(messages, before, after):
    prompt = split_prompt(messages, f"{before}#!:{after}", own_words=[(0, len(before) + 3)])
    asked = [*messages, {"role": "U", "content": f"{before}#!:{after}"}]
    whole = render(asked, add_generation_prompt=True)
    at = len(render(messages, add_generation_prompt=False)) + len("<U>") + len(before)
    if "#!" not in "".join(m["content"] for m in messages):
        assert find_invocation(merging(whole, begins=True), INVOCATION) is None
    assert prompt.tokens == merging(whole[:at], begins=True) + INVOCATION + merging(whole[at + 2 :], begins=False)
    assert prompt.start == len(merging(whole[:at], begins=True)) >= prompt.n_conversation
    assert prompt.text == render(messages, add_generation_prompt=False)
    assert prompt.tokens[: prompt.n_conversation] == (merging(prompt.text, begins=True) if messages else [])
    assert not prompt.is_appended


@FEW
@given(MESSAGES, st.text("a :", max_size=5))
def test_it_stands_where_the_io_yaml_says_it_and_not_where_that_is_quoted(messages, quoted):
    for own, instruction, place in (((0, 3), f"#!:{quoted}#!:", 0), ((3, 6), f"#!:#!:{quoted}", 3)):
        prompt = split_prompt(messages, instruction, own_words=[own])
        assert prompt.start == len(merging(render(messages, add_generation_prompt=False) + "<U>" + instruction[:place], begins=True))


def test_in_a_message_too():
    """As clients send it that have made the instruction themselves."""
    said = [{"role": "U", "content": "a"}, {"role": "U", "content": " #!: b #!: c"}]
    prompt = split_prompt(said, None)
    assert prompt.tokens == merging("<U>a\n<U> ", begins=True) + INVOCATION + merging(": b #!: c\n<A>", begins=False)
    assert (prompt.start, prompt.n_conversation, prompt.text) == (prompt.tokens.index(ord("#")), prompt.start, "<U>a\n<U> ")
    assert not prompt.is_appended
    said[-1]["content"] = "b #!: c"
    prompt = split_prompt(said, None)
    assert prompt.tokens == merging("<U>a\n<U>b ", begins=True) + INVOCATION + merging(": c\n<A>", begins=False)


def test_what_is_cached_keeps_its_tokens_there_too():
    said = [{"role": "U", "content": "a"}]
    known = [(render(said, add_generation_prompt=False), [-1, -2])]
    prompt = split_prompt(said, "#!: b", known=lambda text: known)
    assert prompt.tokens == [-1, -2, *merging("<U>", begins=False), *INVOCATION, *merging(": b\n<A>", begins=False)]
    assert (prompt.start, prompt.n_conversation) == (5, 2)


def test_where_the_tokens_are_as_they_should_be_nothing_is_split():
    said = [{"role": "U", "content": "a"}]
    prompt = split_prompt(said, "#!: #! b")
    assert prompt.tokens == merging("<U>a\n<U>#!: #! b\n<A>", begins=True)
    assert prompt.start == prompt.tokens.index(MERGED) + 2


@pytest.mark.parametrize("write", [
    lambda content: content[::-1],
    lambda content: content + content,
    lambda content: content.upper().replace("#!", "?"),
    lambda content: content.encode("ascii", "ignore").decode(),
], ids=range(4))  # fmt: skip
def test_a_template_that_writes_it_otherwise(write):
    written = lambda messages, add_generation_prompt: render(
        [m | {"content": write(m["content"])} for m in messages], add_generation_prompt=add_generation_prompt
    )
    with pytest.raises(PromptError, match="instruction: expected its invocation"):
        split_prompt([{"role": "U", "content": "a"}], "#!: b", render=written)


def test_no_place():
    assert place_of([], "#!") is place_of([{"content": "#!"}], "") is place_of([{"content": "a"}], "#!") is None
    assert place_of([{"content": [{"type": "text", "text": "#!"}]}], "#!") is None
    assert place_of([{"content": "a#!b"}], "#!", [(0, 2), (2, 4)]) == (1, "#!")  # no words of the file's own hold it
