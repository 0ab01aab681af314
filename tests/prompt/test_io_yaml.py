"""Intrinsics with an io.yaml on the embedded model: embedded by the converter, asked on the cache, read as a result."""

import dataclasses
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from reference import PRECISE

from alora_gguf import ContextFullError, IoYamlError, Model, PromptError, ResultError, Verdict, find_invocation
from alora_gguf.cli import main
from alora_gguf.convert import ConversionError, convert, describe, export, read_adapter_metadata, render
from alora_gguf.prompt.io_yaml import IntrinsicRequest, _is_filled_in, sampling_of
from alora_gguf.terminal.chat import Chat
from alora_gguf.terminal.screen import Screen
from alora_gguf.terminal.summary import summary as finding

QUESTION = [{"role": "user", "content": "The ferry leaves at nine. How long does it take?"}]
ANSWER = {"role": "assistant", "content": "Two hours."}
HEAD = "model: ~\nresponse_format: ~\ntransformations: ~\n"
LIKELIHOOD = """
model: ~
response_format: '{"type": "string", "enum": ["answerable", "unanswerable"]}'
transformations:
  - {type: likelihood, input_path: [], categories_to_values: {answerable: 1.0, unanswerable: 0.0}}
  - {type: nest, input_path: [], field_name: answerability_likelihood}
parameters: {max_completion_tokens: 6}
"""
INVOCATION = "<|im_start|>answerability\n"
INSTRUCTION = HEAD + 'instruction: "<|im_start|>answerability\\n{last_message}"\nparameters: {max_completion_tokens: 4}\n'


@pytest.fixture(scope="module")
def folder(repo, tmp_path_factory):
    """The repository's adapter with an io.yaml that has all of it, as PEFT's folder."""
    folder = tmp_path_factory.mktemp("io") / "judge"
    shutil.copytree(repo / "tests" / "adapters" / "answerability", folder)
    (folder / "io.yaml").write_text(LIKELIHOOD)
    (folder / "README.md").write_text("---\ninvoked_after: user\nlicense: mit\n---\n")
    return folder


@pytest.fixture(scope="module")
def judge(folder, base_q4):
    path = folder.parent / "judge.gguf"
    convert(folder, path, base=base_q4)
    return path


@pytest.fixture(scope="module")
def loaded(judge, base_f32):
    """In float32, so that probabilities can be compared."""
    with Model(base_f32, n_ctx=1024, n_batch=64, n_seq_max=8, **PRECISE) as model:
        model.load_adapter(judge)
        yield model


@pytest.fixture
def model(loaded, answerability, tmp_path):
    """The model with `judge`, and nothing in its cache."""
    yield loaded
    for name in [name for name in loaded.adapters if name != "judge"]:
        loaded.unload_adapter(name)
    loaded.clear_cache()


@pytest.fixture
def made(model, answerability, tmp_path):
    """made(text of an io.yaml, name): loads the repository's adapter with it; returns the name."""

    def load(text, name="made"):
        (tmp_path / f"{name}.yaml").write_text(text)
        model.load_adapter(answerability, name, io_yaml=tmp_path / f"{name}.yaml")
        return name

    return load


def n_tokens(model, messages, **options):
    return len(model.tokenize(model.render(messages, **options)))


# files


def test_the_converter_embeds_it_and_export_writes_it_back(folder, judge, base_q4, tmp_path):
    metadata = read_adapter_metadata(judge)
    assert (metadata.io_yaml, metadata.invoked_after) == (LIKELIHOOD, "user")
    page = [line.split() for line in render(describe(judge)).splitlines()]
    assert ["alora.io_yaml", f"{len(LIKELIHOOD)}", "B"] in page and ["alora.invoked_after", "user"] in page
    export(judge, tmp_path / "back", base_q4)
    assert (tmp_path / "back" / "io.yaml").read_text() == LIKELIHOOD
    convert(tmp_path / "back", tmp_path / "again.gguf", base=base_q4)
    assert read_adapter_metadata(tmp_path / "again.gguf").invoked_after == "user"


@pytest.mark.parametrize(
    ("name", "role"), [("answerability", "user"), ("context_relevance", "user"), ("uncertainty", None), ("[answerability]", None)]
)
def test_published_intrinsics_about_a_question_judge_questions(folder, base_q4, tmp_path, name, role):
    """Their cards do not say it; what a card says comes first."""
    shutil.copytree(folder, tmp_path / "published")
    (tmp_path / "published" / "io.yaml").write_text(f"name: {name}\n{LIKELIHOOD}")
    for card, wanted in (("", role), ("---\ninvoked_after: assistant\n---\n", "assistant")):
        (tmp_path / "published" / "README.md").write_text(card)
        convert(tmp_path / "published", tmp_path / "published.gguf", base=base_q4)
        assert read_adapter_metadata(tmp_path / "published.gguf").invoked_after == wanted


def test_another_file_in_its_place(folder, base_q4, tmp_path):
    (tmp_path / "other.yaml").write_text(HEAD)
    convert(folder, tmp_path / "out.gguf", base=base_q4, io_yaml=tmp_path / "other.yaml")
    assert read_adapter_metadata(tmp_path / "out.gguf").io_yaml == HEAD


@pytest.mark.parametrize(("name", "text", "said"), [
    ("io.yaml", "- no mapping\n", "io.yaml: file: expected YAML of a mapping, got list"),
    ("io.yaml", "x: [\n", "io.yaml: file: expected YAML of a mapping, got while parsing"),
    ("io.yaml", "x: " + "y" * 100_000, "io.yaml: file: expected UTF-8 text of at most 100000 bytes, got more"),
    ("README.md", "---\ninvoked_after: pirate\n---\n", "README.md: invoked_after: expected user or assistant or system or tool, got pirate"),
    (None, None, "nothing.yaml: file: expected YAML of a mapping, got no file"),
], ids=range(5))  # fmt: skip
def test_what_the_converter_refuses(name, text, said, folder, base_q4, tmp_path):
    shutil.copytree(folder, tmp_path / "a")
    if name:
        (tmp_path / "a" / name).write_text(text)
    with pytest.raises(ConversionError) as e:
        convert(tmp_path / "a", tmp_path / "out.gguf", base=base_q4, io_yaml=None if name else tmp_path / "nothing.yaml")
    assert said in str(e.value) and "\n" not in str(e.value)
    assert not (tmp_path / "out.gguf").exists()


def test_a_file_beside_the_adapter_goes_before_the_one_in_it(model, judge, tmp_path):
    shutil.copy(judge, tmp_path / "j.gguf")
    (tmp_path / "j.io.yaml").write_text(HEAD + "instruction: '{city}'")
    (tmp_path / "given.yaml").write_text(HEAD + "instruction: '{country}'")
    assert model.adapter("judge").io.schema is not None
    assert model.load_adapter(tmp_path / "j.gguf", "beside").io.arguments == ["city"]
    assert model.register_adapter(tmp_path / "j.gguf", "given", io_yaml=tmp_path / "given.yaml").io.arguments == ["country"]


def test_a_bad_file_is_refused_when_the_adapter_is_loaded(model, made):
    with pytest.raises(IoYamlError, match="made.yaml: file: expected an io.yaml that granite-common takes, got Configuration is missing"):
        made("model: ~\n")
    assert "made" not in model.adapters


# requests


def test_an_instruction_is_asked_behind_the_cached_conversation(model, made):
    with model.conversation(system="Be brief.") as chat:
        chat.ask(QUESTION[0]["content"], max_tokens=5, temperature=0)
        n_said = len(chat.cells()[1])
        reply = chat.invoke(made(INSTRUCTION))
        asked = [*chat.messages, {"role": "user", "content": INVOCATION + chat.messages[-1]["content"]}]
        tokens = chat.cells()[1] + model.tokenize(model.render(asked, add_generation_prompt=True)[len(chat.cells()[0]) :])
        assert reply.usage.prompt_tokens == len(tokens)
        n_in_cache = n_said - 3  # the last token of the answer was not decoded, nor what the template writes behind it
        assert reply.usage.cached_tokens == n_in_cache
        assert chat.invoke("made").usage.cached_tokens == len(tokens)
        assert chat.ask("And back?", max_tokens=2).usage.cached_tokens == n_said + 3  # and the beginning of a user's message
        # as PEFT computes it: active from the last occurrence of the invocation on
        rows = model.logits([(tokens + reply.tokens, "made"), (tokens + reply.tokens, None)])
        adapted, base = (row[len(tokens) - 1 : len(tokens) - 1 + len(reply.tokens)] for row in rows)
        assert all(row[token] > row.max() - 1e-3 for row, token in zip(adapted, reply.tokens))
        assert np.abs(adapted - base).max() > 1
        assert reply.result == reply.text


def test_an_invocation_that_its_instruction_joins_to_what_follows(model, made):
    """Line breaks are joined, so the invocation, which ends in one, is not in the text's tokens: it is put there."""
    instruction = INVOCATION + "\n\nIs it?"
    text = HEAD + f"instruction: {json.dumps(instruction)}\nparameters: {{max_completion_tokens: 4}}\n"
    invocation = model.tokenize(INVOCATION)
    with model.conversation(messages=QUESTION) as chat:
        reply = chat.invoke(made(text))
        assert model.adapter("made").invocation_tokens == invocation
        whole = model.render([*QUESTION, {"role": "user", "content": instruction}], add_generation_prompt=True)
        assert find_invocation(model.tokenize(whole), invocation) is None
        head, _, tail = whole.rpartition(INVOCATION)
        tokens = [*model.tokenize(head), *invocation, *model.tokenize(tail)]
        assert reply.usage.prompt_tokens == len(tokens)
        rows = model.logits([(tokens + reply.tokens, "made"), (tokens + reply.tokens, None)])
        adapted, base = (row[len(tokens) - 1 : len(tokens) - 1 + len(reply.tokens)] for row in rows)
        assert all(row[token] > row.max() - 1e-3 for row, token in zip(adapted, reply.tokens))
        assert np.abs(adapted - base).max() > 1
        assert chat.invoke("made").usage.cached_tokens == len(tokens)
    [line] = model.adapter("made").problems(model.vocab)
    assert f"instruction: expected the tokens {invocation} of its invocation" in line
    assert model.adapter("judge").problems(model.vocab) == []


def test_an_instruction_without_the_invocation_is_refused(model, made):
    with model.conversation(messages=QUESTION) as chat, pytest.raises(PromptError, match="intrinsic 'made': instruction: expected its invocation"):
        chat.invoke(made(HEAD + "instruction: 'Judge: {last_message}'"))


def test_arguments(model, made):
    text = HEAD + f"instruction: {json.dumps(INVOCATION + '{city} {seed}')}\nparameters: {{max_tokens: 2}}\n"
    made(text), made(INSTRUCTION, "other")
    with model.conversation(messages=QUESTION) as chat:
        asked = [*QUESTION, {"role": "user", "content": INVOCATION + "Rome 7"}]
        wanted = n_tokens(model, asked, add_generation_prompt=True)
        assert chat.invoke("made", city="Rome", arguments={"seed": "7"}, seed=3).usage.prompt_tokens == wanted
        replies = chat.invoke_all(["made", "other"], arguments={"seed": "7", "city": "Rome"})
        assert replies["made"].usage.prompt_tokens == wanted
        assert len(replies["other"].tokens) <= 4
        for options, said in (
            ({"city": "Rome"}, "arguments: expected city, seed, got no seed"),
            ({"town": "Rome"}, "town: expected one of choice, city, "),
        ):
            with pytest.raises(PromptError, match=said):
                chat.invoke("made", **options)
        with pytest.raises(PromptError, match="city: expected one of .*frequency_penalty.*got an unknown argument"):
            chat.invoke("other", city="Rome")
    with model.conversation() as chat, pytest.raises(PromptError, match="expected a last message with text in it, got none"):
        chat.invoke("other")


def test_what_it_judges_is_what_it_was_invoked_after(model):
    with model.conversation(messages=[*QUESTION, ANSWER]) as chat:
        assert chat.invoke("judge").usage.prompt_tokens == n_tokens(model, QUESTION) + 4
        assert chat.messages == [*QUESTION, ANSWER]
        chat.add("user", "Why?")
        again = chat.invoke("judge").usage
        assert (again.prompt_tokens, again.cached_tokens) == (n_tokens(model, chat.messages) + 4, n_tokens(model, QUESTION))
    with model.conversation(system="Be brief.") as chat:
        with pytest.raises(PromptError, match="^intrinsic 'judge': messages: expected one of role user, .* got none; add one first$"):
            chat.invoke("judge")


def test_documents(model, made, base_q4, answerability):
    documents = ["It takes two hours.", {"text": "It is red.", "doc_id": "x"}]
    with model.conversation(messages=QUESTION) as chat:
        made(HEAD + "docs_as_message: string\nparameters: {max_tokens: 1}")
        text = "You have access to the following documents:\n\n[Document 1]\nIt takes two hours.\n\n[Document x]\nIt is red."
        for name in ("made", "judge"):  # the template knows no documents: they are a message, whatever the io.yaml says
            reply = chat.invoke(name, documents=documents)
            assert reply.usage.prompt_tokens == n_tokens(model, [{"role": "user", "content": text}, *QUESTION]) + 4
    template = "{% for d in documents %}[{{ d.doc_id }}] {{ d.text }}\n{% endfor %}{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with Model(base_q4, n_ctx=256, chat_template=template) as writes_documents:
        writes_documents.load_adapter(answerability)
        with writes_documents.conversation(messages=QUESTION) as chat:
            reply = chat.invoke("answerability", documents=documents, max_tokens=1)
            text = f"[1] It takes two hours.\n[x] It is red.\n{QUESTION[0]['content']}\n"
            assert reply.usage.prompt_tokens == len(writes_documents.tokenize(text)) + 4


def test_numbers_in_earlier_messages_cost_what_is_cached(model, made):
    """The prompt is another from the first sentence on; usage says so, and the conversation itself is left as it is."""
    tags = "sentence_boundaries: {all_but_last_message: c, last_message: r}\n"
    text = HEAD + tags + 'instruction: "<|im_start|>answerability\\nWhich?"\nparameters: {max_completion_tokens: 4}\n'
    with model.conversation(messages=QUESTION) as chat:
        chat.ask("And back?", max_tokens=5, temperature=0)
        reply = chat.invoke(made(text))
        said = [m["content"] for m in chat.messages]
        tagged = [
            {**QUESTION[0], "content": "<c0> The ferry leaves at nine. <c1> How long does it take?"},
            {"role": "user", "content": "<c2> And back?"},
        ]
        assert said[0] == QUESTION[0]["content"]
        whole = model.tokenize(model.render([*QUESTION, {"role": "user", "content": "And back?"}]))
        theirs = model.tokenize(model.render(tagged))
        n_same = next(i for i, (a, b) in enumerate(zip(whole, theirs)) if a != b)
        assert reply.usage.cached_tokens <= n_same < len(whole) <= reply.usage.prompt_tokens
        again = chat.invoke("made").usage
        assert again.cached_tokens > n_same


def test_attached_documents(model, made, base_q4, answerability):
    text = {"role": "user", "content": "You have access to the following documents:\n\n[Document 1]\nIt takes two hours."}
    made(HEAD + "docs_as_message: string\nparameters: {max_tokens: 1}")
    with model.conversation(messages=QUESTION) as chat:
        chat.attach("It takes two hours.", "ferry.txt")
        assert chat.documents == [{"doc_id": "1", "text": "It takes two hours.", "title": "ferry.txt"}]
        n = n_tokens(model, [text, *QUESTION])
        first, second = chat.invoke("judge").usage, chat.invoke("made").usage  # the template writes no documents: both have them in a message
        assert (first.prompt_tokens, second.prompt_tokens, second.cached_tokens) == (n + 4, n + 4, n)
        assert chat.invoke("made", documents=[]).usage.prompt_tokens == n_tokens(model, QUESTION) + 4
        n = n_tokens(model, [text, *QUESTION, {"role": "user", "content": "So?"}], add_generation_prompt=True)
        assert chat.ask("So?", max_tokens=1, temperature=0).usage.prompt_tokens == n
        with pytest.raises(ContextFullError):
            chat.attach("so " * 2000)
        with pytest.raises(PromptError):
            chat.attach(b"bytes")
        assert len(chat.documents) == 1
    template = "{% for d in documents or [] %}[{{ d.title }}] {{ d.text }}\n{% endfor %}{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with Model(base_q4, n_ctx=256, chat_template=template) as writes_documents:
        writes_documents.load_adapter(answerability)
        with writes_documents.conversation(messages=QUESTION) as chat:
            chat.attach("It takes two hours.", "ferry.txt")
            n = len(writes_documents.tokenize(f"[ferry.txt] It takes two hours.\n{QUESTION[0]['content']}\n"))
            assert chat.invoke("answerability", max_tokens=1).usage.prompt_tokens == n + 4
            assert chat.ask("So?", max_tokens=1).usage.cached_tokens == n


# results


def test_a_likelihood_is_of_the_adapters_own_probabilities(model):
    """Before the grammar, as a server's logprobs are; the grammar only sees to it that there is a label."""
    with model.conversation(messages=QUESTION) as chat:
        reply = chat.invoke("judge")
        prompt = chat.cells()[1] + model.adapter("judge").invocation_tokens
    assert json.loads(reply.text) in ("answerable", "unanswerable") and reply.finish_reason == "stop"
    assert "".join(t.text for t in reply.logprobs) == reply.text
    assert [len(t.top) for t in reply.logprobs] == [10] * len(reply.logprobs)
    [logits] = model.logits([(prompt + reply.tokens[:1], "judge")])
    row = logits[-1].astype(np.float64)
    p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    best = {model.vocab.token_text(int(i)): p[i] for i in np.argsort(-p)[:10]} | {reply.logprobs[1].text: p[reply.tokens[1]]}
    yes, no = (sum(x for text, x in best.items() if label.startswith(text)) for label in ("answerable", "unanswerable"))
    assert reply.result == {"answerability_likelihood": pytest.approx(yes / (yes + no), abs=1e-3)}
    assert finding(reply) == f"{json.loads(reply.text)}, answerability likelihood {reply.result['answerability_likelihood']:.2f}"


@pytest.mark.parametrize(
    "text, result, shown",
    (
        ('{"found": "9:15", "is": "yes"}', {"how_sure": 0.931, "found": "9:15"}, "how sure 0.93, found: 9:15"),
        ('{"found": "", "is": "no"}', {"how_sure": 0.07, "found": ""}, "how sure 0.07"),
        ('{"a": 1, "b": [2]}', {"a": 1, "b": [2]}, '{"a": 1, "b": [2]}'),
        ('"What is it?"', {"question": "What is it?"}, "What is it?"),
    ),
)
def test_a_result_is_shown_to_people_by_its_fields(text, result, shown):
    assert finding(SimpleNamespace(text=text, result=result, error=None, finish_reason="stop")) == shown


def test_an_error_is_shown_to_people_as_one():
    error = ResultError("ferry.io.yaml: output: expected JSON, got '{\x1b[2J'; give it more max_tokens")
    assert finding(SimpleNamespace(text="{", result=None, error=error)) == f"error: {error!s}".replace("\x1b", "\\x1b")


def test_json_that_was_cut_short_is_an_error_and_a_cancelled_call_is_none(model):
    with model.conversation(messages=QUESTION) as chat:
        with pytest.raises(ResultError, match="output: expected JSON as its response_format says, got '\""):
            chat.invoke("judge", max_tokens=1)
        stream = chat.invoke("judge", stream=True)
        stream.cancel()
        assert (stream.result.finish_reason, stream.result.result) == ("cancelled", None)


def test_watchers_give_results_or_errors(model, made):
    made(LIKELIHOOD.replace("max_completion_tokens: 6", "max_completion_tokens: 1"))
    with model.conversation() as chat:
        reply = chat.ask(QUESTION[0]["content"], watch=["judge", "made"], max_tokens=4, temperature=0)
    good, bad = ([v for v in reply.verdicts if v.name == name] for name in ("judge", "made"))
    assert good and all(isinstance(v, Verdict) and 0 <= v.reply.result["answerability_likelihood"] <= 1 for v in good)
    assert bad and all(v.reply is None and isinstance(v.error, ResultError) for v in bad)


def test_every_stored_schema_can_be_enforced(model, repo):
    folder = repo.parent / "shared" / "conformance" / "granite-common" / "requests"
    if not folder.is_dir():
        pytest.skip(f"no conformance data in {folder}")
    schemas = [json.loads(path.read_text())["extra_body"]["structured_outputs"]["json"] for path in sorted(folder.iterdir())]
    for schema in schemas:
        assert not model.vocab.constraints.constraint("json_schema", schema).allows(model.tokenize("hello")[0])


def test_the_forms_of_published_outputs_can_be_said(model, repo):
    """JSON in one line, or with the line breaks that adapters were trained on."""
    folder = repo.parent / "shared" / "conformance" / "mellea"
    if not folder.is_dir():
        pytest.skip(f"no conformance data in {folder}")
    n = 0
    for path in sorted((folder / "model_output").iterdir()):
        request = json.loads((folder / "requests" / path.name).read_text())
        schema = (request.get("extra_body") or request)["structured_outputs"]["json"]
        text = json.loads(path.read_text())["choices"][0]["message"]["content"].strip()
        request = IntrinsicRequest([], 0, schema=json.loads(schema) if isinstance(schema, str) else schema)
        made = model.vocab.constraints.constraint("json_schema", sampling_of(request)["json_schema"])
        for token in model.vocab.tokenize_more(text, special=False):
            assert made.allows(token), (path.name, text)
            made.accept(token)
        n += made.is_over or made.allows(model.vocab.eos)
    assert n == 11


def test_what_a_person_sees_of_a_result(model):
    with model.conversation(messages=QUESTION) as chat:
        reply = chat.invoke("judge")
    shown = lambda text, result: finding(dataclasses.replace(reply, text=text, result=result))
    assert shown("9", {"certainty": 0.954}) == "certainty 0.95"
    assert shown("9", 0.954) == "0.95"
    assert shown('{"relevance": "relevant"}', {"relevance": 0.5}) == "relevant, relevance 0.50"
    assert shown('{"rewritten_question": "Why?"}', {"rewritten_question": "Why?"}) == "Why?"
    assert shown('[{"r": 1}]', [{"r": 1, "text": "\u00fc"}]) == '[{"r": 1, "text": "\u00fc"}]'
    assert shown("plain", None) == shown("plain", "plain") == "plain"


def test_in_the_chat_and_as_json(model, judge, capfd):
    out = io.StringIO()
    Chat(lambda: model.conversation(messages=QUESTION), model.restore, {"judge": None}, Screen(out)).run(["/judge", "/all"])
    first, _, _, second, _ = out.getvalue().splitlines()
    assert second.startswith("judge") and second.endswith(f"  {first}")
    assert first.startswith(("answerable, answerability likelihood 0.", "unanswerable, answerability likelihood 0."))
    assert main(["chat", "--adapter", str(judge), "--prompt", QUESTION[0]["content"], "--no-answer", "--invoke", "judge", "--json"]) == 0
    verdict = json.loads(capfd.readouterr().out)["invocations"]["judge"]
    assert json.loads(verdict["text"]) in ("answerable", "unanswerable")
    assert 0 <= verdict["result"]["answerability_likelihood"] <= 1


@pytest.mark.parametrize(
    ("instruction", "text", "is_it"),
    [
        ("<certainty>", "<certainty>", True),
        ("<certainty>", "<certainty> ", False),
        ("Is {a} so, or {b}?", "Is it so, or not, or so?", True),
        ("Is {a} so, or {b}?", "Is it so?", False),
        ("{{{a}}} and {b}", "{x} and ", True),
        ("{a} and {b}", "x and", False),
        ("ab{a}ba", "aba", False),
        ("x{a}" * 40 + "y", "x" * 50_000, False),  # in no time: a client of the server writes the text
    ],
)
def test_a_request_is_known_by_the_instructions_words(instruction, text, is_it):
    assert _is_filled_in(text, instruction) is is_it
