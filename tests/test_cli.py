"""The command `alora`: what it prints, and that every error is one line and exit code 2."""

import json
import os
import re
import subprocess
import sys

import pytest

PASSAGE = "The ferry to Saint Maren leaves at nine and takes two hours. How long does the ferry take?"


def process(*argv, **options):
    code = "from alora_gguf.cli import main; raise SystemExit(main())"
    return subprocess.run([sys.executable, "-c", code, *map(str, argv)], capture_output=True, check=False, **options)


def test_prompt_invoke_json(alora, answerability):
    code, out, err = alora("chat", "--adapter", answerability, "--prompt", PASSAGE, "--invoke", "answerability", "--json",
                           "--temperature", "0", "--max-tokens", "4", "--system", "Be brief.")  # fmt: skip
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["reply"]["finish_reason"] == "length" and result["reply"]["usage"]["completion_tokens"] == 4
    verdict = result["invocations"]["answerability"]
    assert verdict["text"] in ("answerable", "unanswerable")
    assert verdict["usage"]["cached_tokens"] == result["reply"]["usage"]["prompt_tokens"] + 3
    assert set(verdict["usage"]) == {"prompt_tokens", "cached_tokens", "completion_tokens", "ttft_ms", "tokens_per_second", "reasoning_tokens"}


def test_without_an_answer_the_question_itself_is_judged(alora, answerability):
    code, out, _ = alora("chat", "--adapter", answerability, "--prompt", PASSAGE, "--no-answer", "--invoke", "answerability")
    assert code == 0 and out in ("answerability: answerable\n", "answerability: unanswerable\n")
    code, out, _ = alora("chat", "--prompt", PASSAGE, "--no-answer", "--json")
    assert (code, json.loads(out)) == (0, {"reply": None, "invocations": {}})


@pytest.mark.parametrize("given, value", [
    ("enable_thinking=false", ("enable_thinking", False)), ("effort=high", ("effort", "high")), ("n=3", ("n", 3)), ("equation=a=b", ("equation", "a=b")),
    ('tags=["x"]', ("tags", ["x"])), ("empty=", ("empty", "")),
])  # fmt: skip
def test_template_variables_are_json_or_text(given, value):
    from alora_gguf.cli.chat import variable

    assert variable(given) == value


def test_a_failed_intrinsic_is_told_and_ends_otherwise(alora, answerability, tmp_path):
    """The others' results are there."""
    whole, cut = (tmp_path / f"{name}.gguf" for name in ("whole", "cut"))
    for path in (whole, cut):
        path.symlink_to(answerability)
    (tmp_path / "cut.io.yaml").write_text(
        'model: ~\nresponse_format: \'{"enum": ["answerable", "unanswerable"]}\'\ntransformations: ~\nparameters: {max_completion_tokens: 1}\n'
    )
    code, out, err = alora("chat", "--adapter", whole, cut, "--prompt", PASSAGE, "--no-answer", "--invoke", "whole", "--invoke", "cut", "--json")
    results = json.loads(out)["invocations"]
    assert (code, err) == (2, "") and "error" not in results["whole"] and "response_format" in results["cut"]["error"]


def test_a_document_and_a_saved_chat(alora, answerability, tmp_path):
    (tmp_path / "ferry.txt").write_text("The ferry takes two hours.")
    saved = tmp_path / "chat"
    done = process("chat", "--doc", tmp_path / "ferry.txt", "--max-tokens", "3", input=f"Hello\n/save {saved}\n".encode())
    assert done.stdout.startswith(b"document 1: ferry.txt, 26 characters\n> Hello\n")
    code, out, _ = alora("chat", "--adapter", answerability, "--resume", saved, "--prompt", "How long does it take?", "--no-answer",
                         "--invoke", "answerability", "--json")  # fmt: skip
    usage = json.loads(out)["invocations"]["answerability"]["usage"]
    assert code == 0 and usage["cached_tokens"] > 30


def test_an_intrinsic_that_sees_less_of_a_long_chat_says_so(alora, answerability, tmp_path):
    saved = tmp_path / "chat"
    process("chat", "--ctx", "256", "--max-tokens", "1", input=f"{'so ' * 100}\n{'so ' * 100}\n/save {saved}\n".encode())
    code, _, err = alora("chat", "--ctx", "256", "--adapter", answerability, "--resume", saved, "--prompt", "How long does it take?", "--no-answer",
                         "--invoke", "answerability")  # fmt: skip
    assert (code, err.count("\n")) == (0, 1) and re.search(r"warning: context: the oldest \d messages are left out for this", err)


def test_no_name_of_an_adapter_commands_the_terminal(answerability, tmp_path):
    hostile = tmp_path / "a\x1b[2J\x9b31m.gguf"
    hostile.write_bytes(answerability.read_bytes())
    done = process("chat", "--adapter", hostile, input=b"/help\n/all\nHello\n/all\n")
    out = done.stdout.decode()
    assert done.returncode == 0 and out.count("a[2J31m") >= 2 and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", out)


def test_a_seed_makes_it_repeatable(alora):
    said = [alora("chat", "--prompt", "Tell me a story.", "--seed", seed, "--temperature", "2", "--max-tokens", "8")[1] for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_lines_through_a_pipe(answerability):
    done = process("chat", "--adapter", answerability, "--temperature", "0", "--max-tokens", "3", "--ctx", "512",
                   input=b"caf\xe9?\n/answerability\n/nobody\n")  # fmt: skip
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (2, b"/nobody: no such command; /help lists them\n")  # and what came before was done
    assert lines[0] == "> caf\ufffd?" and lines[4] == "> /answerability" and lines[-1] == "> /nobody"
    assert "\x1b" not in done.stdout.decode()


def test_a_mark_of_utf_8_is_no_part_of_a_message():
    done = process("chat", input=b"\xef\xbb\xbf/docs\n", env={**os.environ, "PYTHONUTF8": "1"})
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout == b"> /docs\nno documents; /doc FILE attaches one\n"


@pytest.mark.skipif(os.name != "posix", reason="by a shell")
def test_closed_streams_are_empty():
    command = 'exec "$0" -c "from alora_gguf.cli import main; raise SystemExit(main())" chat <&- >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_prompt_from_standard_input():
    given, piped = (process("chat", "--prompt", text, "--no-answer", "--json", input=PASSAGE.encode()) for text in (PASSAGE, "-"))
    assert given.returncode == 0 and given.stdout == piped.stdout


@pytest.mark.parametrize("given", [["--prompt", "x"], []], ids=["once", "chat"])
@pytest.mark.parametrize("option", [("--top-p", "2"), ("--min-p", "-1"), ("--repeat-penalty", "-1"), ("--ctx", "-5")])
def test_options_are_checked_and_named_as_they_are_written(alora, option, given):
    code, out, err = alora("chat", *given, *option)
    assert (code, out) == (2, "") and err.startswith(f"alora: error: {option[0]}: expected") and err.count("\n") == 1


@pytest.mark.parametrize("given", [("--prompt", " "), ("--prompt", "-")])
def test_no_question_is_an_error(given):
    done = process("chat", *given, input=b" \n")
    assert (done.returncode, done.stdout) == (2, b"") and done.stderr.startswith(b"alora: error: --prompt")


def test_an_answer_that_was_cut_says_so(alora):
    code, out, err = alora("chat", "--prompt", "Tell me a story.", "--max-tokens", "3", "--template-kwarg", "nobody_reads=1")
    assert code == 0 and len(out.split()) < 6
    assert [line.split(":")[2].strip() for line in err.splitlines()] == ["--template-kwarg", "the answer was cut; --max-tokens N gives it more room"]


PYTHONS = re.compile(r"n_ctx|load_adapter|force|\w+\(|\w=")


@pytest.mark.parametrize("text, written", [
    ("n_ctx: expected a whole number, got -5", "--ctx: expected a whole number, got -5"),
    ("context: expected at most 512 tokens, got 930; shorten the prompt, or give a larger n_ctx (--ctx)",
     "context: expected at most 512 tokens, got 930; shorten the prompt, or give a larger --ctx"),
    ("a.pdf: expected less, got more; attach a part of it; or give a larger context (--ctx, n_ctx), as 2048",
     "a.pdf: expected less, got more; attach a part of it; or give a larger context (--ctx), as 2048"),
    ("adapter 'x': expected one that is loaded (none); load it first", "adapter 'x': expected one that is loaded (none); load it with --adapter"),
    ("x.gguf: expected an adapter for this base, got one for y; use that base, or load it by force",
     "x.gguf: expected an adapter for this base, got one for y; use that base"),
    ("adapter 'x': expected an intrinsic, got another; use decide(adapter='x')",
     "adapter 'x': expected an intrinsic, got another; ask it with /decide in a chat, or with `alora decide`"),
    ("x.gguf: expected a chat template, got none; give one with chat_template=", "x.gguf: expected a chat template, got none; take a model with one"),
    ("top_p: expected a number, got 'top_p: 2'", "--top-p: expected a number, got 'top_p: 2'"),
    ("error: top_p: expected a number, got 2", "error: --top-p: expected a number, got 2"),
    ("thinking_budget: expected a whole number from 0 on or None, got -1", "--thinking-budget: expected a whole number from 0 on, got -1"),
    ("x (io.yaml): output: expected JSON, got ''; give it more max_tokens if it was cut, else train the adapter with this io.yaml",
     "x (io.yaml): output: expected JSON, got ''; give it more max_completion_tokens if it was cut, else train the adapter with this io.yaml"),
], ids=range(11))  # fmt: skip
def test_errors_are_in_the_words_of_the_command_line(text, written):
    from alora_gguf.cli.words import in_options

    options = ["ctx", "adapter", "model", "top_p", "thinking_budget"]
    assert in_options(text, options) == written and not PYTHONS.search(written)
    assert in_options(written, options) == written
    assert in_options(text, []) == text


def test_show(alora, answerability):
    code, out, _ = alora("show", answerability)
    assert code == 0 and "(alora, llama)" in out.splitlines()[0]
    code, out, _ = alora("show", answerability, "--json")
    assert json.loads(out)["invocation_text"] == "<|im_start|>answerability\n"


def test_a_reader_that_leaves_early_is_no_error(answerability):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", "from alora_gguf.cli import main; raise SystemExit(main())", "show", str(answerability)],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("argv, said", [
    (["chat", "--model", "nothing.gguf"], "nothing.gguf: expected a GGUF file, got nothing"),
    (["chat", "--adapter", "nothing.gguf"], "nothing.gguf"),
    (["chat", "--adapter", "ADAPTER", "--adapter", "ADAPTER"], "expected a name of its own, got 'answerability'"),
    (["chat", "--adapter", "all.gguf"], "expected a name of its own, got 'all'"),
    (["chat", "--adapter", "bye.gguf"], "expected a name of its own, got 'bye'"),
    (["chat", "--prompt", "x", "--invoke", "nobody"], "adapter 'nobody': expected one that is loaded (none)"),
    (["chat", "--invoke", "answerability"], "expected --prompt TEXT"),
    (["chat", "--json"], "expected --prompt TEXT"),
    (["chat", "--prompt", "x", "--temperature", "-1"], "temperature: expected a number from 0 on, got -1.0"),
    (["chat", "--prompt", "x", "--max-tokens", "0"], "--max-tokens: expected a whole number from 1 on, got 0"),
    (["chat", "--prompt", "x", "--template-kwarg", "thinking"], "--template-kwarg thinking: expected NAME=VALUE"),
    (["chat", "--prompt", "x", "--template-kwarg", "a b=1"], "--template-kwarg a b=1: expected NAME=VALUE"),
    (["chat", "--prompt", "x", "--template-kwarg", "messages=[]"], "expected names of the template's variables other than messages"),
    (["chat", "--prompt", "x\udce9"], "text: expected Unicode text"),
    (["chat", "--prompt", "so " * 300, "--ctx", "256"], "expected at most 256 tokens"),
    (["chat", "--ctx", "-1"], "--ctx: expected"),
    (["serve", "--port", "99999"], "--port: expected a number from 0 to 65535, got 99999"),
    (["chat", "--resume", "nothing"], "nothing: expected a saved conversation, got: No such file or directory"),
    (["chat", "--prompt", "x", "--resume", "ADAPTER"], "expected a saved conversation, got another kind of file"),
    (["chat", "--doc", "nothing"], "nothing: expected a document, got nothing"),
    (["show", "nothing\x1b[2J\n.gguf"], "nothing\\x1b[2J\\n.gguf"),
    (["show", "ADAPTER.txt"], "text.gguf"),
], ids=range(22))  # fmt: skip
def test_errors_are_one_line_and_exit_2(alora, answerability, tmp_path, argv, said):
    (tmp_path / "text.gguf").write_text("no adapter")
    files = {"ADAPTER": answerability, "ADAPTER.txt": tmp_path / "text.gguf"}
    code, out, err = alora(*(files.get(a, a) for a in argv))
    assert (code, out) == (2, "")
    assert err.startswith("alora: error: ") and err.endswith("\n") and err.count("\n") == 1
    assert said in err and "\x1b" not in err


@pytest.mark.parametrize("argv", [[], ["nothing"], ["chat", "--ctx", "x"], ["show"]])
def test_usage_is_exit_2(alora, argv):
    code, out, err = alora(*argv)
    assert (code, out) == (2, "") and "usage: alora" in err


def test_version(alora):
    from alora_gguf import __version__

    code, out, err = alora("--version")
    assert (code, err) == (0, "") and re.fullmatch(
        rf"alora_gguf {re.escape(__version__)}, llama\.cpp [\d.]+ \([0-9a-f]{{12}}, of llama-cpp-python [\d.]+\)\n", out
    )


def test_starting_loads_no_library_and_nothing_large():
    done = subprocess.run([sys.executable, "-c", "import sys, alora_gguf.cli; print(*sys.modules)"], capture_output=True, text=True, check=True)
    assert not {"llama_cpp", "torch", "starlette", "rich", "prompt_toolkit", "matplotlib", "granite_common"} & set(done.stdout.split())
