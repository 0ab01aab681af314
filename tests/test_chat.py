"""The chat, with the real model: whole transcripts, and Ctrl-C."""

import re
import signal

import pytest

from alora_gguf.chat import Chat

PASSAGE = "The ferry to Saint Maren leaves at nine and takes two hours. How long does the ferry take?"


@pytest.fixture
def talk(shared):
    """Runs a chat over lines; returns what was written, the dim lines in <>."""
    conversations = []

    def talk(*lines, adapters=("answerability", "other"), on_write=lambda text: None, max_tokens=6):
        written = []

        def begin():
            conversations.append(shared.conversation(system="Be brief."))
            return conversations[-1]

        def write(text):
            written.append(text)
            on_write(text)

        chat = Chat(begin, adapters, write, lambda text: written.append(f"<{text.rstrip()}>\n"), temperature=0, max_tokens=max_tokens)
        chat.run(lines)
        return "".join(written)

    yield talk
    for conversation in conversations:
        conversation.close()


def test_a_transcript(shared, talk):
    with shared.conversation(system="Be brief.") as chat:
        answer = chat.ask(PASSAGE, temperature=0, max_tokens=6)
        verdict, verdicts = chat.invoke("answerability"), chat.invoke_all(["answerability", "other"])
    n = answer.usage
    shared.clear_cache()
    transcript = talk("", f"  {PASSAGE}  ", "/answerability", "/all", "/reset", "/quit", "never reached")
    assert re.sub(r"\d+ ms", "MS", transcript) == f"""{answer.text}
<0 tokens reused, {n.prompt_tokens + n.completion_tokens} decoded, MS>
{verdict.text}
<{verdict.usage.cached_tokens} tokens reused, {3 + 4 + len(verdict.tokens)} decoded, MS>
answerability  {verdicts["answerability"].text}
other          {verdicts["other"].text}
<{sum(r.usage.cached_tokens for r in verdicts.values())} tokens reused, {1 + 3 + sum(len(r.tokens) for r in verdicts.values())} decoded, MS>
<a new conversation>
"""


def test_help_lists_every_command(talk):
    text = talk("/help")
    chat_commands = re.findall(r"^(/\S+)", text, re.MULTILINE)
    assert chat_commands == ["/answerability", "/other", "/all", "/reset", "/help", "/quit"]


def test_errors_are_a_line_and_the_chat_goes_on(talk):
    assert talk("/nobody") == "</nobody: no such command; /help lists them>\n"
    assert talk("/all", adapters=()) == "<no adapters are loaded; begin with --adapter FILE>\n"
    text = talk("/plain", "so " * 3000, "/help", adapters=["plain"])
    assert re.fullmatch(r"<error: adapter 'plain': expected invocation tokens.*>\n<error: context: expected at most.*>\n/plain .*", text, re.DOTALL)


def test_ctrl_c_stops_the_answer_and_not_the_chat(talk):
    begun = []

    def interrupt(text):
        if not begun:
            begun.append(text)
            signal.raise_signal(signal.SIGINT)

    text = talk("Count to one hundred.", "/answerability", on_write=interrupt, max_tokens=1000)
    answer, cost, verdict, _ = text.rsplit("\n", 4)[:4]
    assert answer.startswith(begun[0]) and cost.endswith("stopped>") and verdict in ("answerable", "unanswerable")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_the_first_token_is_no_error(shared, talk, monkeypatch):
    """While a prompt is rendered there is no stream yet that could be cancelled."""
    render, calls = shared.render, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return render(*args, **options)

    monkeypatch.setattr(shared, "render", interrupted)
    text = talk("Hello", "/answerability")
    assert re.fullmatch(r"<stopped>\n(un)?answerable\n<0 tokens reused, \d+ decoded, \d+ ms>\n", text)
