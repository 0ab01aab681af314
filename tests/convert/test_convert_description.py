"""What an adapter is for: a sentence of its card, and nothing of what templates leave behind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_gguf.convert import convert, describe, export, read_adapter_metadata, render
from alora_gguf.convert.peft.card import read_card
from alora_gguf.convert.peft.description import MOST, card_sentence, shortened

HUGGING_FACE = """---
base_model: unsloth/Tiny-1B-bnb-4bit
library_name: peft
---

# Model Card for Model ID

<!-- Provide a quick summary of what the model is/does. -->

## Model Details

### Model Description

<!-- Provide a longer summary of what this model is. -->

- **Developed by:** [More Information Needed]
- **Model type:** [More Information Needed]

## Uses

<!-- Address questions around how the model is intended to be used. -->

### Direct Use

[More Information Needed]

## How to Get Started with the Model

Use the code below to get started with the model.

[More Information Needed]
### Framework versions

- PEFT 0.21.0"""
PUSHED = HUGGING_FACE.replace(
    "<!-- Provide a longer summary of what this model is. -->",
    "This is the model card of a transformers model that has been pushed on the Hub. This model card has been automatically generated.",
)
TRAINER = """---
tags:
- generated_from_trainer
---

<!-- This model card has been generated automatically according to the information the Trainer had access to. You
should probably proofread and complete it, then remove this comment. -->

# out

This model is a fine-tuned version of [x/y](https://huggingface.co/x/y) on the None dataset.
It achieves the following results on the evaluation set:
- Loss: 1.2

## Model description

More information needed

## Intended uses & limitations

More information needed
"""
TRL = """# Model Card for out

This model is a fine-tuned version of [x/y](https://huggingface.co/x/y).
It has been trained using [TRL](https://github.com/huggingface/trl).

## Quick start

```python
from transformers import pipeline
print("Says yes. Or no.")
```
"""
UNSLOTH = """# Uploaded finetuned  model

- **Developed by:** who
- **License:** apache-2.0

This llama model was trained 2x faster with [Unsloth](https://github.com/unslothai/unsloth) and Huggingface's TRL library.

[<img src="https://raw.githubusercontent.com/unslothai/unsloth/main/images/made%20with%20unsloth.png" width="200"/>](x)
"""
OURS = """---
model_name: mood
---

# mood, an activated LoRA for base

Active from the first of the invocation tokens `[1]` on; everything before has the base model's weights, and its cache.

| | |
|---|---|
| base while training | `x.gguf`, dequantised |

The held-out figures are those that the checkpoint was chosen by, so they flatter it a little.

    alora train x
"""
GRANITE = """---
license: apache-2.0
---
# Intrinsics for Answerability Classification

## Model Summary
This is a RAG-specific family of intrinsics fine-tuned for binary answerability classification task. The model takes
as input a multi-turn conversation.

We provide two intrinsics.

- **Developer:** IBM Research

## Intended use
This is an activated LoRA.
"""


@pytest.mark.parametrize("card", ["", "# Only a title", HUGGING_FACE, PUSHED, TRAINER, TRL, UNSLOTH], ids=range(7))
def test_templates_say_nothing(card):
    assert card_sentence(card) is None


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        (
            GRANITE.replace("fine-tuned for", "made for"),
            "This is a RAG-specific family of intrinsics made for binary answerability classification task.",
        ),
        (GRANITE, "This is a RAG-specific family of intrinsics fine-tuned for binary answerability classification task."),
        (
            HUGGING_FACE.replace("<!-- Provide a longer summary of what this model is. -->", "Says *whether* a [claim](x) is `true`. Or not."),
            "Says whether a claim is true.",
        ),
        ("Rates answers from 1 to 5, e.g. by e. g. Smith et al. in v1.5. Then ends.", "Rates answers from 1 to 5, e.g. by e. g. Smith et al."),
        ("**Model Summary:** Granite reads\nthe question. It does.", "Granite reads the question."),
        (
            "# A\n\n> Quoted text stands here.\n\n1. A list of things\n\n| a | b |\n\n![image of it](x.png)\n\nSays what <b>is</b> so",
            "Says what is so",
        ),
        ("# A\n\nIt is first here.\n\n## Description\n\n[More Information Needed]\n", "It is first here."),
        ("# A\n\nIt is first here.\n\n## Description\n\nIt is second here!\n", "It is second here!"),
        ("# A\n\n## Usage\n\nRun this command now.\n", None),
        ("```\nIt is code here.\n```\n\n    And this is too.\n", None),
        ("---\ndescription\n---\nIt is after three lines.", "It is after three lines."),
        (OURS, None),
    ],
    ids=range(12),
)
def test_the_first_plain_sentence(card, sentence):
    assert card_sentence(card) == sentence


def test_what_is_long_is_cut_where_a_clause_ends_or_behind_a_word():
    words = "word " * 60
    assert shortened(f"It does something that takes forty letters: {words}") == "It does something that takes forty letters"
    assert shortened(f"It does: {words}").startswith("It does: word") and shortened(words).endswith(" word…")
    assert len(shortened(words)) <= MOST and shortened("a\n b") == "a b"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("aB .!?:;#-*`[]()<>|\n~_=1\"'!&\u00e9\U0001f600"), max_size=400))
def test_any_text_gives_a_line_or_nothing(card):
    sentence = card_sentence(card)
    assert sentence is None or (0 < len(sentence) <= MOST and sentence == " ".join(sentence.split()) and len(sentence.split()) >= 3)


@pytest.mark.parametrize(
    "line",
    ["# " * 50_000, "[" * 100_000, "**" * 50_000, "<!--" * 25_000, "`" * 100_000, "a_" * 50_000, "*a " * 30_000, "<a" * 50_000, "\n" * 100_000],
)
def test_a_hostile_card_takes_no_time_worth_naming(line):
    """The most that is read of a card is 1 MB; what grew with the square of it would not end here."""
    card_sentence(line * 3)


def test_the_packages_own(repo):
    told = {card.parent.parent.name: read_card(card.parent).description for card in repo.glob("intrinsics/*/adapter/README.md")}
    assert told == {
        "answerability": "Says how likely the texts of a conversation hold the answer to its last question, and which fact it found for it.",
        "certainty": "Says how likely the assistant's last answer is right, from 0 to 1.",
        "decide": "Answers typed questions about a text or a conversation with probabilities.",
        "query-rewrite": "Makes the last question understandable without its conversation: what refers to something gets its name, an"
        " ellipsis is completed after the question before it, and everything else stays word for word.",
    }


def test_who_says_it_first(tiny, base, tmp_path):
    """io.yaml, the front matter, the card, and in a hub layout the intrinsic's card."""
    root = tmp_path / "library" / "check"
    folder = tiny.write_adapter(root / "tiny-1b" / "lora")
    out = tmp_path / "out.gguf"

    def described():
        convert(folder, out, base=base)
        return read_adapter_metadata(out).description

    assert described() is None
    (root / "README.md").write_text("# Check\n\nIt is the intrinsic's card.\n")
    assert described() == "It is the intrinsic's card."
    (folder / "README.md").write_text(HUGGING_FACE)
    assert described() == "It is the intrinsic's card."
    (folder / "README.md").write_text("It is the adapter's card.")
    assert described() == "It is the adapter's card."
    (folder / "README.md").write_text("---\ndescription: 'It is the front matter'\n---\nIt is the adapter's card.")
    assert described() == "It is the front matter"
    (folder / "io.yaml").write_text("model: ~\ndescription: It is\n  the io.yaml.\n")
    assert described() == "It is the io.yaml."
    page = render(describe(out)).splitlines()
    assert page[1:3] == ["It is the io.yaml.", ""]
    export(out, tmp_path / "back", base)
    (tmp_path / "back" / "io.yaml").unlink()
    convert(tmp_path / "back", tmp_path / "again.gguf", base=base)
    assert read_adapter_metadata(tmp_path / "again.gguf").description == "It is the io.yaml."


def test_an_intrinsics_card_that_is_no_text_is_none(tiny, tmp_path):
    folder = tiny.write_adapter(tmp_path / "check" / "tiny-1b" / "lora")
    (tmp_path / "check" / "README.md").write_bytes(b"\xff\xfe\0")
    assert read_card(folder).description is None
