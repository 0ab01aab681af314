"""The chat, with the real model: whole transcripts, and Ctrl-C."""

import io
import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest

from alora_gguf.terminal.chat import COMMANDS, NO_ADAPTERS, NOT_KEPT, Chat
from alora_gguf.terminal.screen import Screen

sys.path.insert(0, str(Path(__file__).parent.parent / "documents"))
import made

COST = re.compile(r"(\d+) ms, (\d+)% of the context")
CUT = "<the answer was cut; --max-tokens N gives it more room>"
PASSAGE = "The ferry to Saint Maren leaves at nine and takes two hours. How long does the ferry take?"


class Shown(Screen):
    """A screen that marks what is dim or an error by <>."""

    def __init__(self, on_write):
        self.out = io.StringIO()
        self.on_write = on_write
        super().__init__(self.out)

    def write(self, text, style=""):
        super().write(f"<{text.rstrip()}>\n" if style in ("dim", "error") else text)
        self.on_write(text)


@pytest.fixture
def talk(shared):
    """Runs a chat over messages; returns what was written, the lines about costs and errors in <>."""
    conversations = []

    def kept(conversation):
        conversations.append(conversation)
        return conversation

    def talk(*messages, adapters=("answerability", "other"), on_write=lambda text: None, max_tokens=6, on_full="error"):
        screen = Shown(on_write)
        chat = Chat(
            lambda: kept(shared.conversation(system="Be brief.", on_full=on_full)),
            lambda path: kept(shared.restore(path, on_full=on_full)),
            dict.fromkeys(adapters) if not isinstance(adapters, dict) else adapters,
            screen,
            temperature=0,
            max_tokens=max_tokens,
        )
        chat.run(messages)
        return COST.sub("MS", screen.out.getvalue()).replace(f"{CUT}\n", "")

    yield talk
    for conversation in conversations:
        conversation.close()


def test_a_transcript(shared, talk):
    with shared.conversation(system="Be brief.") as chat:
        answer = chat.ask(PASSAGE, temperature=0, max_tokens=6)
        verdict, verdicts = chat.invoke("answerability"), chat.invoke_all(["answerability", "other"])
    n = answer.usage
    shared.clear_cache()
    reused = {name: reply.usage.cached_tokens for name, reply in verdicts.items()}
    decoded = {name: n_new + len(verdicts[name].tokens) for name, n_new in (("answerability", 0), ("other", 3))}
    assert (
        talk("", f"  {PASSAGE}  ", "/answerability", "/all", "/reset", "/quit", "never reached")
        == f"""{answer.text}
<0 tokens reused, {n.prompt_tokens + n.completion_tokens} decoded, MS>
{verdict.text}
<{verdict.usage.cached_tokens} tokens reused, {3 + 4 + len(verdict.tokens)} decoded, MS>
intrinsic      reused  decoded  result
answerability  {reused["answerability"]:<6}  {decoded["answerability"]:<7}  {verdicts["answerability"].text}
other          {reused["other"]:<6}  {decoded["other"]:<7}  {verdicts["other"].text}
<{sum(reused.values())} tokens reused, {sum(decoded.values())} decoded, MS>
<a new conversation>
"""
    )


@pytest.mark.slow
def test_it_says_how_full_the_context_is_and_that_an_answer_was_cut(shared, talk):
    raw = []
    talk("Hello", "Tell me of all the ships that ever sailed.", "so " * 1700, on_write=raw.append, max_tokens=1)
    shares = [int(share) for _, share in COST.findall("".join(raw))]
    with shared.conversation(system="Be brief.") as chat:
        usage = chat.ask("Hello", temperature=0, max_tokens=1).usage
    assert shares[0] == round(100 * (usage.prompt_tokens + usage.completion_tokens) / 2048) < shares[1] < 80 < shares[2]
    lines = [line for line in raw if line.startswith("the ")]
    assert {*lines[:-1]} == {CUT[1:-1] + "\n"} and lines[-1:] == [
        f"the context is {shares[2]}% full: /undo makes room; /reset begins anew, and --ctx N gives more\n"
    ]


def test_a_context_that_a_model_was_not_trained_on_is_no_room(shared, talk, monkeypatch):
    monkeypatch.setattr(shared.vocab, "n_trained", 100)
    raw = []
    talk("so " * 90, on_write=raw.append, max_tokens=1)
    lines = [line for line in raw if line.startswith("the ")]
    assert re.fullmatch(r"the context is 1\d\d% full: /undo makes room; /reset begins anew\n", lines[-1])
    assert lines[:-1] == [CUT[1:-1] + "\n"]  # by --max-tokens, not where the context ends


@pytest.mark.slow
def test_a_full_context_goes_on_and_can_be_saved_undone_and_resumed(talk, tmp_path):
    """What is left out is said by the answer, by what judges it on the side, and by what is resumed."""
    questions = [f"{i} {'so ' * 500}" for i in range(4)]
    saved = tmp_path / "chat"
    text = talk(
        *questions, f"/save {saved}", f"/resume {saved}", "/answerability", "/undo", "/undo", "/undo", "/docs", "/undo", on_full="drop-oldest"
    )
    lines = re.findall(
        r"^<context: the oldest (\d) messages are left out (.*?), to make room; documents and the system message stay>$", text, re.MULTILINE
    )
    assert lines == [("6", "from here on")] * 2 and "error" not in text and text.count("took back the last question") == 4
    assert re.search(r"\n(un)?answerable\n<\d+ tokens reused, \d{1,2} decoded, MS>\n", text)
    full = talk(*questions, on_full="error")
    assert re.search(
        r"<error: context: expected at most 2048 tokens, got 2\d{3}; shorten the prompt, or give .*, or make room with /undo or /reset>\n$", full
    )


@pytest.mark.parametrize("typed, meant", [("/answrability", "/answerability"), ("/rest", "/reset"), ("/exti", "/exit"), ("/HELP", "/help")])
def test_a_misspelt_command_is_recognised(talk, typed, meant):
    assert talk(typed) == f"<{typed}: no such command; {meant}? /help lists them>\n"


@pytest.mark.parametrize("word", ["/quit", "/exit", "/bye"])
def test_there_are_several_ways_out(talk, word):
    assert talk(word, "never reached") == ""


def test_an_intrinsic_that_is_stopped_leaves_no_half_text(shared, talk, monkeypatch):
    """Neither alone nor in the table."""
    submit = shared.engine.loop.submit

    def cancelled(*requests):
        for request in requests:
            request.cancel()
        submit(*requests)

    monkeypatch.setattr(shared.engine.loop, "submit", cancelled)
    alone, table = talk("/answerability"), talk("/all")
    assert re.fullmatch(r"<0 tokens reused, \d+ decoded, MS, stopped>\n", alone)
    assert re.search(r"answerability .* stopped\nother .* stopped\n", table)


def test_help_lists_every_command(talk):
    text = talk("/help")
    names = re.findall(r"^(/\S+)", text, re.MULTILINE)
    assert names == ["/answerability", "/other", *(f"/{name}" for name in COMMANDS)]


def test_help_says_what_each_is_for(talk):
    text = talk("/help", adapters={"answerability": "Says whether\x1b[2J a question can be answered.", "other": None})
    assert "/answerability  Says whether[2J a question can be answered.\n/other          run this intrinsic on the conversation so far\n" in text


def test_without_adapters_the_help_says_how_to_get_one(talk):
    text = talk("/help", adapters=())
    assert "/all" not in text and text.splitlines().count(NO_ADAPTERS) == 1 and NO_ADAPTERS not in talk("/help")


def test_help_says_which_adapter_decides(shared):
    out = io.StringIO()
    with shared.conversation() as conversation:
        Chat(lambda: conversation, lambda path: None, {}, Screen(out, None), "router").run(["/help"])
    assert re.search(r"^/decide TEXT .*, by router$", out.getvalue(), re.MULTILINE) and NO_ADAPTERS not in out.getvalue()


def test_what_failed_is_told_where_failures_are_and_counted(shared, talk):
    out, errors = io.StringIO(), io.StringIO()
    with shared.conversation() as conversation:
        chat = Chat(lambda: conversation, lambda path: None, dict.fromkeys(["plain", "other"]), Screen(out, errors), "nobody", words=str.upper)
        chat.run(["/plain", "/decide It is late.", "/nobody"])
    assert chat.n_failed == 3 and out.getvalue() == ""
    assert [line.partition(":")[0] for line in errors.getvalue().splitlines()] == ["ERROR", "ERROR", "/NOBODY"]


def test_errors_are_a_line_and_the_chat_goes_on(talk):
    assert talk("/nobody", "/reset now") == "</nobody: no such command; /help lists them>\n</reset now: no such command; /reset? /help lists them>\n"
    assert talk("/all", adapters=()) == f"<{NO_ADAPTERS}>\n"
    text = talk("/plain", "so " * 3000, "/help", adapters=["plain"])
    assert re.fullmatch(r"<error: adapter 'plain': expected invocation tokens.*>\n<error: context: expected at most.*>\n/plain .*", text, re.DOTALL)
    assert re.fullmatch(r"<error: context: expected at most 2048 tokens, got .*>\n", talk(f"/decide {'so ' * 3000}"))
    assert talk("/decide Who? a |").startswith("<error: question: expected an option on each side of a |, got 'Who? a |'; ")


def test_a_document_is_seen_by_the_base_and_by_intrinsics(shared, talk, tmp_path):
    path = tmp_path / "the ferry.txt"
    path.write_text("The ferry takes two hours.")
    question = "How long does the ferry take?"
    with shared.conversation(system="Be brief.") as chat:
        chat.attach(path.read_text(), path.name)
        answer, verdict = chat.ask(question, temperature=0, max_tokens=6), chat.invoke("answerability")
    first = {"role": "user", "content": "You have access to the following documents:\n\n[Document 1]\nThe ferry takes two hours."}
    said = [first, {"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    assert answer.usage.prompt_tokens == len(shared.tokenize(shared.render(said, add_generation_prompt=True)))
    shared.clear_cache()
    assert (
        talk("/docs", f"/doc {path}", "/docs", question, "/answerability")
        == f"""<no documents; /doc FILE attaches one>
<document 1: the ferry.txt, 26 characters>
1: the ferry.txt, 26 characters
{answer.text}
<0 tokens reused, {answer.usage.prompt_tokens + answer.usage.completion_tokens} decoded, MS>
{verdict.text}
<{verdict.usage.cached_tokens} tokens reused, {verdict.usage.prompt_tokens - verdict.usage.cached_tokens + len(verdict.tokens)} decoded, MS>
"""
    )
    assert verdict.usage.cached_tokens >= answer.usage.prompt_tokens


def test_a_document_is_named_as_terminals_paste_it_and_some_of_its_pages_are_taken(talk, tmp_path):
    path = tmp_path / "the ferry's.pdf"
    path.write_bytes(made.pdf_of_pages(9, paragraphs=2))
    (tmp_path / "old.txt").write_bytes("café".encode("cp1252"))
    escaped = str(path).replace(" ", "\\ ").replace("'", "\\'")
    text = talk(
        f'/doc "{path}" 2-3',
        f"/doc {escaped} 3",
        f"/doc {path.as_uri()} 1,9",
        f"/doc {tmp_path}/old.txt",
        f"/doc {path} 12",
        "/reset",
        f"/doc {path}",
    )
    assert re.fullmatch(
        r"""<document 1: the ferry's.pdf, 2,\d+ characters, 2 of 9 pages>
<document 2: the ferry's.pdf, 1,\d+ characters, 1 of 9 pages>
<document 3: the ferry's.pdf, 2,\d+ characters, 2 of 9 pages>
<document 4: old.txt, 4 characters, read as Windows-1252, which is a guess>
<error: .*the ferry's.pdf: pages: expected some of 1-9, got 12; give others>
<a new conversation>
<error: the ferry's.pdf: expected at most 1957 tokens of documents, got [23]\d{3}; attach some of its pages, as 1-[3-6]; or give a larger context .*>
""",
        text,
    )


def test_documents_that_are_none_are_a_line(talk, tmp_path):
    (tmp_path / "long").write_text("so " * 3000)
    text = talk("/doc", "/doc ~nobody-here/x", "/doc file://[x", f"/doc {tmp_path}", f"/doc {tmp_path}/long", "/docs")
    assert re.fullmatch(
        r"""<error: /doc: expected the name of a file behind it, got none>
<error: ~nobody-here/x: expected a document, got nothing; check the path>
<error: file:/+\[x: expected a document, got nothing; check the path>
<error: .*: expected a document, got a folder; check the path>
<error: long: expected at most 1957 tokens of documents, got 300\d; attach a part of it; or give a larger context \(--ctx, n_ctx\), as 4096>
<no documents; /doc FILE attaches one>
""",
        text,
    )


def test_a_saved_chat_goes_on_as_before(talk, tmp_path):
    document = tmp_path / "ferry.txt"
    document.write_text("The ferry takes two hours.")
    saved = tmp_path / "a chat"
    first = talk(f"/doc {document}", "How long does it take?", "/all", "/save", f"/save {saved}", "/save", "And back?")
    answer, back = first.splitlines()[1], first.splitlines()[-2]
    assert "<error: /save: expected the name of a file behind it, got none>\n" in first and first.count(f"<saved {saved}, ") == 2
    verdicts = re.findall(r"^(answerability|other) .*  (\S+)$", first, re.MULTILINE)
    again = talk("/resume", f"/resume {saved}", "/docs", "And back?", "/undo", "/undo", "/undo", "/resume")
    shown = f"<document 1: ferry.txt, 26 characters>\n<Be brief.>\n> How long does it take?\n{answer}\n"
    shown += "".join(f"{name}: {text}\n" for name, text in verdicts)
    error = "<error: /resume: expected the name of a file behind it, got none>\n"
    listed = "1: ferry.txt, 26 characters\n"
    begin, end = (
        f"{error}{shown}{listed}{back}\n<",
        "<took back the last question>\n" * 2 + "<error: /undo: expected a question to take back, got none>\n" + shown,
    )
    assert len(verdicts) == 2 and again.startswith(begin) and again.endswith(end)
    cost = re.fullmatch(r"(\d+) tokens reused, (\d+) decoded, MS>\n", again[len(begin) : -len(end)])
    assert cost and int(cost[1]) > 40 > int(cost[2])


def test_only_saved_chats_are_replaced_and_resumed(shared, talk, tmp_path):
    text, damaged, foreign = tmp_path / "text", tmp_path / "damaged", tmp_path / "foreign"
    text.write_text("dear diary")
    with shared.conversation() as chat:
        chat.save(damaged)
        chat.notes = {"findings": [{"after": "x"}, 3]}  # another program's
        chat.save(foreign)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    said = talk(
        f"/save {text}", f"/save {tmp_path}", f"/save {tmp_path}/no/chat", f"/resume {text}", f"/resume {damaged}", f"/resume {foreign}", "/undo"
    )
    assert re.fullmatch(
        r"""<error: .*/text: expected a new file or a saved conversation, got another kind of file; choose another name>
<error: .*: expected a file that can be written, got: Is a directory; check the path>
<error: .*/no/chat: expected a file that can be written, got: No such file or directory; check the path and the room there>
<error: .*/text: expected a saved conversation, got another kind of file; check the path>
<error: .*/damaged: expected the SHA-256 at its end .*; the file is damaged>
<error: /undo: expected a question to take back, got none>
""",
        said,
    )
    assert text.read_text() == "dear diary"


def test_ctrl_c_stops_the_answer_and_not_the_chat(talk):
    begun = []

    def interrupt(text):
        if not begun:
            begun.append(text)
            signal.raise_signal(signal.SIGINT)

    text = talk("Write a long story about a fox.", "/answerability", on_write=interrupt, max_tokens=1000)
    answer, cost, verdict, _ = text.rsplit("\n", 4)[:4]
    assert answer.startswith(begun[0]) and cost.endswith("stopped>") and verdict in ("answerable", "unanswerable")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("command", ["", "/decide It is late. "])
def test_what_was_stopped_while_its_prompt_was_read_costs_what_was_read(shared, talk, monkeypatch, command):
    decode, sizes = shared.engine.context.decode, []

    def stopped(spans):
        sizes.append(sum(len(span.tokens) for span in spans))
        if len(sizes) == 2:
            signal.raise_signal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else os.kill(os.getpid(), signal.SIGINT)
        return decode(spans)

    monkeypatch.setattr(shared.engine.context, "decode", stopped)
    shared.clear_cache()
    text = talk(command + "so " * 1500, "/undo")
    monkeypatch.undo()
    kept = "" if command else "\n<nothing was said yet, so .*>"
    shown = re.fullmatch(rf"\n?<0 tokens reused, (\d+) decoded, MS, stopped>{kept}\n<error: /undo: .*>\n", text)
    assert shown and 0 < int(shown[1]) == sum(sizes) < 1500


def test_ctrl_c_before_the_first_token_is_no_error(shared, talk, monkeypatch):
    """While a prompt is rendered there is no stream yet that could be cancelled."""
    render, calls = shared.engine.prompts.render, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return render(*args, **options)

    monkeypatch.setattr(shared.engine.prompts, "render", interrupted)
    text = talk("Hello", "/answerability")
    assert re.fullmatch(rf"<stopped>\n<{NOT_KEPT}>\n(un)?answerable\n<0 tokens reused, \d+ decoded, MS>\n", text)
