"""io.yaml in the form in which intrinsics are published in 2026, and the cases of shared/conformance/mellea that they make."""

import json
from types import SimpleNamespace

import pytest
import yaml

from alora_gguf.prompt.io_yaml import IntrinsicIO

ANSWERABILITY = """
name: answerability
model: ~
response_format: |
  {"type": "string", "enum": ["answerable", "unanswerable"]}
transformations:
  - type: nest
    input_path: []
    field_name: "answerability"
instruction: ~
parameters:
  temperature: 0.0
  max_completion_tokens: 6
sentence_boundaries: ~
"""
FOR_GPT_OSS = """
name: answerability
model: ~
response_format: |
  {"type": "string", "enum": ["answerable", "unanswerable"]}
transformations:
  - type: nest
    input_path: []
    field_name: "answerability"
parameters:
  max_completion_tokens: 25
docs_as_message: string
logprobs_workaround: true
"""
CITATIONS = """
name: citations
model: ~
response_format: |
  {
    "$defs": {
      "_MODEL_OUTPUT_ENTRY": {
        "properties": {
          "r": {"minimum": 0, "title": "R", "type": "integer"},
          "c": {"items": {"minimum": 0, "type": "integer"}, "title": "C", "type": "array"}
        },
        "required": ["r", "c"],
        "title": "_MODEL_OUTPUT_ENTRY",
        "type": "object"
      }
    },
    "items": {"$ref": "#/$defs/_MODEL_OUTPUT_ENTRY"},
    "title": "_MODEL_OUTPUT",
    "type": "array"
  }
transformations:
  - {type: explode, input_path: [], target_field: "c"}
  - {type: drop_duplicates, input_path: [], target_fields: ["r", "c"]}
  - type: decode_sentences
    source: "last_message"
    input_path: [~, "r"]
    output_names: {begin: "response_begin", end: "response_end", text: "response_text"}
  - type: decode_sentences
    source: "documents"
    input_path: [~, "c"]
    output_names: {document_id: "citation_doc_id", begin: "citation_begin", end: "citation_end", text: "citation_text"}
  - type: project
    input_path: []
    retained_fields:
      ["response_begin", "response_end", "response_text", "citation_doc_id", "citation_begin", "citation_end", "citation_text"]
  - type: merge_spans
    input_path: []
    group_fields: ["response_begin", "response_end", "response_text", "citation_doc_id"]
    begin_field: "citation_begin"
    end_field: "citation_end"
    text_field: "citation_text"
instruction: "Split the last assistant response into individual sentences.  For each sentence in the response, \\
  identify the statement IDs from the below  documents that it references. Ensure that your output \\
  includes all response  sentence IDs, and for each response sentence ID, provide the list of corresponding \\
  \\ referring document sentence IDs. The output must be a json structure.\\n"
parameters:
  temperature: 0.0
  max_completion_tokens: 4096
sentence_boundaries:
  last_message: "r"
  documents: "c"
"""
RELEVANCE = """
name: context_relevance
model: ~
response_format: |
  {
    "title": "ContextRelevanceOutput",
    "type": "object",
    "properties": {
      "context_relevance": {
        "type": "string",
        "description": "Context relevancy judgment.",
        "enum": ["relevant", "irrelevant", "partially relevant"]
      }
    },
    "required": ["context_relevance"]
  }
transformations: ~
instruction: "DOCUMENT: {document_content}\\n"
parameters:
  temperature: 0.0
"""
CLARIFICATION = """
name: query_clarification
model: ~
response_format: |
  {
    "properties": {"clarification": {"title": "clarification", "type": "string"}},
    "required": ["clarification"],
    "title": "QueryClarificationOutput",
    "type": "object"
  }
transformations: ~
parameters:
  temperature: 0.0
  max_completion_tokens: 1024
"""
REWRITE = """
name: query_rewrite
model: ~
response_format: |
  {
    "properties": {"rewritten_question": {"title": "Rewritten Question", "type": "string"}},
    "required": ["rewritten_question"],
    "title": "QueryRewriteOutput",
    "type": "object"
  }
transformations: ~
parameters:
  temperature: 0.0
  max_completion_tokens: 1024
"""
REQUIREMENT = """
name: requirement-check
model: ~
response_format: |
  {
    "type": "object",
    "properties": {"score": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["score"],
    "additionalProperties": false
  }
transformations:
  - type: likelihood
    categories_to_values: {"yes": 1.0, "no": 0.0}
    input_path: ["score"]
  - type: nest
    input_path: []
    field_name: "requirement_check"
instruction: "<requirements>: {requirement}\\nPlease verify if the assistant's generation satisfies the user's requirements or not \\
  and reply with a binary label accordingly. Respond with a json {{\\"score\\": \\"yes\\"}} if the constraints are satisfied or \\
  respond with {{\\"score\\": \\"no\\"}} if the constraints are not satisfied."
parameters:
  max_completion_tokens: 15
  temperature: 0.0
"""
UNCERTAINTY = """
name: uncertainty
model: ~
response_format: |
  {
    "type": "object",
    "properties": {"score": {"type": "string", "enum": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]}},
    "required": ["score"],
    "additionalProperties": false
  }
transformations:
  - type: likelihood
    categories_to_values: {"0": 0.05, "1": 0.15, "2": 0.25, "3": 0.35, "4": 0.45, "5": 0.55, "6": 0.65, "7": 0.75, "8": 0.85, "9": 0.95}
    input_path: ["score"]
  - {type: project, input_path: [], retained_fields: {score: "certainty"}}
instruction: "<certainty>"
parameters:
  max_completion_tokens: 15
  temperature: 0.0
sentence_boundaries: ~
"""
ATTRIBUTION = """
name: context-attribution
model: ~
response_format: |
  {
    "type": "array",
    "items": {
      "type": "object",
      "properties": {"r": {"type": "integer", "minimum": 0}, "c": {"type": "array", "items": {"type": "integer", "minimum": 0}}},
      "required": ["r", "c"]
    }
  }
transformations:
  - {type: explode, input_path: [], target_field: "c"}
  - {type: drop_duplicates, input_path: [], target_fields: ["r", "c"]}
  - type: decode_sentences
    source: "last_message"
    input_path: [~, "r"]
    output_names: {begin: "response_begin", end: "response_end", text: "response_text"}
  - type: decode_sentences
    source: ["documents", "all_but_last_message"]
    input_path: [~, "c"]
    output_names:
      document_id: "attribution_doc_id"
      message_index: "attribution_msg_index"
      begin: "attribution_begin"
      end: "attribution_end"
      text: "attribution_text"
  - type: project
    input_path: []
    retained_fields:
      [
        "response_begin", "response_end", "response_text", "attribution_doc_id",
        "attribution_msg_index", "attribution_begin", "attribution_end", "attribution_text"
      ]
instruction: "Find the sentences that each sentence of the response rests on.\\n"
parameters:
  temperature: 0.0
  max_completion_tokens: 4096
sentence_boundaries:
  last_message: "r"
  documents: "c"
  all_but_last_message: "c"
"""
STUB = "name: guardian-core\n"

# name of the request and the result: io.yaml, input
CASES = {
    "answerability_simple": (ANSWERABILITY, "simple"),
    "answerability_extra_params": ("answerability", "extra_params"),
    "answerability_answerable": (ANSWERABILITY, "answerable"),
    "answerability_unanswerable": (ANSWERABILITY, "unanswerable"),
    "instruction": ("instruction", "instruction"),
    "citations": (CITATIONS, "citations"),
    "context_relevance": (RELEVANCE, "context_relevance"),
    "query_clarification": (CLARIFICATION, "query_clarification"),
    "query_rewrite": (REWRITE, "query_rewrite"),
    "requirement_check": (REQUIREMENT, "requirement_check"),
    "uncertainty": (UNCERTAINTY, "uncertainty"),
    "gpt_oss_answerability": (FOR_GPT_OSS, "answerable"),
    "gpt_oss_citations": (CITATIONS + "docs_as_message: json\nlogprobs_workaround: true\n", "citations"),
}
WITH_RESULTS = [name for name in CASES if name not in ("answerability_extra_params", "instruction")]


def folder_of(repo):
    """shared/conformance/mellea; skips where it is missing."""
    folder = repo.parent / "shared" / "conformance" / "mellea"
    if not folder.is_dir():
        pytest.skip(f"no conformance data in {folder}")
    return folder


def case(folder, name):
    """The text of the io.yaml, the request before it, and the arguments of its instruction."""
    text, given = CASES[name]
    if "\n" not in text:
        text = (folder / "io" / f"{text}.yaml").read_text()
    arguments = folder / "args" / f"{name}.json"
    return text, read(folder, "inputs", given), json.loads(arguments.read_text()) if arguments.is_file() else {}


def read(folder, what, name):
    return json.loads((folder / what / f"{name}.json").read_text())


def io_of(config):
    return IntrinsicIO.read(config if isinstance(config, str) else yaml.safe_dump(config), "x.io.yaml")


def as_token(entry):
    """A token of a stored completion, as a TokenLogprob."""
    return SimpleNamespace(text=entry["token"], logprob=entry["logprob"], top=tuple(as_token(t) for t in entry.get("top_logprobs", ())))
