"""The fields of requests: what is done with each. docs/fields.py writes the table in docs/serve.md from this.

ABOUT       what those do that are read
HARMLESS    those that change no answer, by why
ONLY        those that are accepted with the value at which they change nothing, by whose they are

The tables of other doors are beside: what is not in them is read, and means what it means in chats.
"""

from collections.abc import Mapping
from typing import Any

LIST = "docs/serve.md lists the fields"

ABOUT = {
    "messages": "the conversation",
    "prompt_token_ids": "the prompt as tokens, in place of the messages and of what the template writes beside them; an adapter begins at the last invocation among them",
    "input_ids": "the same, as SGLang has it",
    "return_token_ids": "a chat's `prompt_token_ids`, and `token_ids` in each choice (a completion has both there), the token that ended it included; in streams with the first and with the last chunk",
    "prompt": "a text, tokens, or several of them",
    "echo": "the prompt before the answer; not beside `logprobs`",
    "add_special_tokens": "false: no BOS before a text",
    "model": "the base or an adapter, or both as `base:adapter`",
    "adapter": "an adapter by its name",
    "lora": "llama-server's `[{id, scale}]`: `id` is an adapter's place in `/v1/models`, from 0, or its name; at most one has a scale that is not 0",
    "documents": "texts for the chat template",
    "tools": "functions that the model may call, in OpenAI's form",
    "tool_choice": '`auto`, `none`, `required`, or `{"type": "function", "function": {"name": ...}}`; with `none` the prompt still has the tools',
    "parallel_tool_calls": "false: one call at most",
    "arguments": "of the instruction of an io.yaml",
    "result": "an intrinsic's `result` in each choice",
    "on_full": "where the chat is longer than the context: `error`, or `drop-oldest`, which leaves the oldest turns out and says so in `warnings`; without it as `--on-full` says",
    "chat_template_kwargs": "variables of the chat template; one that it does not read is a warning; `adapter_name` is an adapter",
    "enable_thinking": "the template's variable, or its `thinking`; 400 where the template has no such switch, unless it is false and the model does not think",
    "reasoning_effort": "the template's variable, or its `thinking_effort` or `reasoning_strength`; `none` is `enable_thinking: false` where there is that switch; 400 where the template reads neither, unless it is `none` and the model does not think",
    "thinking_budget": "tokens that the model may think before it answers; 0: none, -1: as many as it likes; 400 where it does not think",
    "thinking_budget_tokens": "the same, as llama-server has it",
    "reasoning_budget_tokens": "the same",
    "thinking_token_budget": "the same, as vLLM has it",
    "cache_salt": "shares what was computed with requests of the same salt only",
    "n": "choices",
    "stream": "server-sent events",
    "stream_options": "`include_usage`, `continuous_usage_stats`",
    "return_progress": "in streams, while the prompt is computed: chunks with llama-server's `prompt_progress` (`total`, `cache` and `processed` in tokens, `time_ms`), four a second at most",
    "stop": "texts that end the answer; an empty one is none",
    "stop_token_ids": "tokens that end the answer",
    "min_tokens": "the answer does not end before, neither of itself nor by `stop_token_ids`",
    "ignore_eos": "it does not end of itself",
    "seed": "-1 is another each time; choices have seeds that follow",
    "temperature": "0 is greedy",
    "top_p": "as in llama.cpp",
    "top_k": "as in llama.cpp; 0 and -1 are all",
    "min_p": "as in llama.cpp",
    "frequency_penalty": "as in llama.cpp",
    "presence_penalty": "as in llama.cpp",
    "repetition_penalty": "as in llama.cpp",
    "repeat_penalty": "another name of `repetition_penalty`",
    "repeat_last_n": "tokens that the penalties look back at (default 64), -1: all",
    "logit_bias": "`{token: bias}` or `[[token, bias]]`, -100 to 100; `false` is -100",
    "max_tokens": "-1 is as many as fit, and `--max-tokens` the most; completions have 16 without it",
    "max_completion_tokens": "the same, and goes before it",
    "n_predict": "the same, if neither is there",
    "logprobs": "log probabilities; in completions, how many of the likeliest",
    "top_logprobs": "how many of the likeliest, beside `logprobs`",
    "response_format": "`text`, `json_object` or `json_schema`, with OpenAI's `json_schema` or llama-server's `schema` beside `type`",
    "structured_outputs": "`json`, `json_object`, `choice`, `regex` or `grammar`",
    "guided_json": "a JSON schema",
    "guided_choice": "one of several texts",
    "guided_regex": "a regular expression",
    "guided_grammar": "GBNF or Lark",
    "json_schema": "a JSON schema",
    "grammar": "GBNF or Lark",
}

WHY: Mapping[str, tuple[str, ...]] = {
    "the client's own": ("user", "metadata", "store", "safety_identifier", "request_id", "rid", "extra_body"),
    "where and when it is computed": (
        "service_tier",
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "cache_prompt",
        "id_slot",
        "n_keep",
        "n_discard",
        "keep_alive",
        "prediction",
        "guided_decoding_backend",
        "data_parallel_rank",
    ),
    "beside the answer": ("timings_per_token", "stream_reasoning"),
    "of images, of which there are none": ("mm_processor_kwargs", "media_io_kwargs"),
    "of samplers that are off": (
        "mirostat_tau",
        "mirostat_eta",
        "dynatemp_exponent",
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "xtc_threshold",
        "spaces_between_special_tokens",
    ),
}


def harmless(why: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    return frozenset(name for names in why.values() for name in names)


HARMLESS = harmless(WHY)

ONLY: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "of both": {
        "best_of": (1,),
        "use_beam_search": (False,),
        "length_penalty": (1.0,),
        "include_stop_str_in_output": (False,),
        "no_stop_trim": (False,),
        "skip_special_tokens": (True,),
        "bad_words": ([],),
        "allowed_token_ids": ([],),
        "logits_processors": ([],),
        "detokenize": (True,),
        "prompt_logprobs": (0,),
        "return_tokens_as_token_ids": (False,),
        "return_tokens": (False,),
        "return_hidden_states": (False,),
        "post_sampling_probs": (False,),
        "n_probs": (0,),
        "min_keep": (0,),
        "n_indent": (0,),
        "t_max_predict_ms": (-1, 0),
        "typical_p": (1.0,),
        "typ_p": (1.0,),
        "top_n_sigma": (-1.0,),
        "mirostat": (0,),
        "dynatemp_range": (0.0,),
        "dry_multiplier": (0.0,),
        "xtc_probability": (0.0,),
        "samplers": ([],),
        "response_fields": ([],),
        "lora_name": (),
        "lora_path": (),
        "structural_tag": (),
        "guided_whitespace_pattern": (),
    },
    "of chats": {
        "parse_tool_calls": (True,),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"], []),
        "audio": ({},),
        "web_search_options": (),
        "verbosity": ("medium",),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
        "echo": (False,),
        "add_special_tokens": (False,),
        "chat_template": (),
        "include_reasoning": (True,),
        "separate_reasoning": (True,),
        "reasoning_format": ("auto", "deepseek"),
        "reasoning": (),
        "truncate_prompt_tokens": (),
    },
    "of completions": {"suffix": ("",), "prompt_embeds": (), "truncate_prompt_tokens": ()},
}
ONLY_CHAT = {**ONLY["of both"], **ONLY["of chats"]}
ONLY_COMPLETION = {**ONLY["of both"], **ONLY["of completions"]}

# Ollama's

OLLAMA_ABOUT = {
    "model": "the base (also `base:latest`) or an adapter (`base:adapter`, `adapter`)",
    "messages": "the conversation; without any the answer says that the model is loaded. Role `document`, or `document ID`, is a document, as Granite's templates have it",
    "tools": "OpenAI's functions",
    "prompt": 'a user\'s message, or with `raw` a text that is continued; "" is as no messages',
    "system": "a system message before it",
    "raw": "no chat template",
    "stream": "lines of JSON, unless it is false",
    "format": '`"json"` or a JSON schema',
    "think": "the template's variable, true or false, and without it what the template has; where it has none, false leaves the thought out; `low`, `medium` and `high` where the template has efforts, else true. 400 for true where the model does not think",
    "logprobs": "log probabilities",
    "top_logprobs": "how many of the likeliest, beside `logprobs`",
    "keep_alive": "the model stays loaded; where nothing is asked, 0 is answered with `unload`",
    "options": "of sampling, below",
}
OLLAMA_OPTIONS_ABOUT = {
    "num_predict": "-1 and -2 are as many as fit, and `--max-tokens` the most",
    "num_ctx": "room: nothing is cut to it. More than `--ctx` is a line in `warnings`, and a prompt that does not fit is a 400",
    "temperature": "0 is greedy; the default is this package's, not Ollama's",
    "top_k": "as in llama.cpp",
    "top_p": "as in llama.cpp",
    "min_p": "as in llama.cpp",
    "seed": "-1 is another each time",
    "stop": "texts that end the answer",
    "repeat_penalty": "as in llama.cpp",
    "repeat_last_n": "tokens that the penalties look back at (default 64), -1: all",
    "presence_penalty": "as in llama.cpp",
    "frequency_penalty": "as in llama.cpp",
}
OLLAMA_WHY: Mapping[str, tuple[str, ...]] = {
    "of a context that is full, which is an error or an end here, and no other prompt": ("truncate", "shift")
}
OLLAMA_OPTIONS_WHY: Mapping[str, tuple[str, ...]] = {
    "where and how it is computed": (
        "numa",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "low_vram",
        "use_mmap",
        "use_mlock",
        "num_thread",
        "num_keep",
        "draft_num_predict",
    ),
    "of samplers that are off": ("mirostat_tau", "mirostat_eta"),
}
OLLAMA_HARMLESS = frozenset(name for names in OLLAMA_WHY.values() for name in names)
OLLAMA_OPTIONS_HARMLESS = frozenset(name for names in OLLAMA_OPTIONS_WHY.values() for name in names)
OLLAMA_ONLY: Mapping[str, tuple[Any, ...]] = {"_debug_render_only": (False,)}
OLLAMA_ONLY_GENERATE: Mapping[str, tuple[Any, ...]] = {
    **OLLAMA_ONLY,
    "template": ("",),
    "suffix": ("",),
    "context": ([],),
    "images": ([],),
    "width": (0,),
    "height": (0,),
    "steps": (0,),
}
OLLAMA_OPTIONS_ONLY: Mapping[str, tuple[Any, ...]] = {
    "typical_p": (1.0,),
    "tfs_z": (1.0,),
    "mirostat": (0,),
    "penalize_newline": (True,),
    "f16_kv": (True,),
    "logits_all": (False,),
    "vocab_only": (False,),
    "embedding_only": (False,),
}

RESPONSES_ABOUT = {
    "input": "a text, or items: messages of text, `function_call`, `function_call_output`, `reasoning`",
    "instructions": "a system message before them",
    "max_output_tokens": "`--max-tokens` without it, and at most that",
    "tools": "functions; other types are a 400",
    "tool_choice": "`none`, `auto`, `required`, a function, or `allowed_tools`",
    "parallel_tool_calls": "as in chats",
    "text": "`format`: `text`, `json_object` or `json_schema`",
    "reasoning": "`effort` is the template's `reasoning_effort`; a thought comes whole, not as a summary",
    "include": "`message.output_text.logprobs` is done; others change nothing here",
    "top_logprobs": "how many of the likeliest; log probabilities then come without `include`, too",
    "metadata": "is in the response again",
    "truncation": "where it is longer than the context: `auto` is `on_full` `drop-oldest`, `disabled` is `error`",
}
INCLUDE = (
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
RESPONSES_WHY: Mapping[str, tuple[str, ...]] = {
    "the client's own, and what is kept of it elsewhere": ("user", "safety_identifier", "store", "extra_body"),
    "where and when it is computed": (
        "service_tier",
        "priority",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "stream_options",
    ),
    "of tools that others run, of which there are none": ("max_tool_calls",),
}
RESPONSES_ONLY: Mapping[str, tuple[Any, ...]] = {
    "previous_response_id": (),
    "conversation": (),
    "background": (False,),
    "context_management": ([],),
    "prompt": (),
    "moderation": (),
}

MESSAGES_ABOUT = {
    "messages": "text, `tool_use`, `tool_result` and `thinking`; the last one is an assistant's only where an intrinsic judges it",
    "system": "a text or text blocks, before them",
    "max_tokens": "`--max-tokens` without it, and at most that",
    "stop_sequences": "texts that end the answer",
    "tools": "those with an `input_schema`; other types are a 400",
    "tool_choice": "`auto`, `any`, `tool` or `none`, with `disable_parallel_tool_use`",
    "thinking": "`disabled`, `adaptive` or `enabled` with a budget; `display: omitted` leaves its text out",
    "output_config": "`format`: a `json_schema`; `effort` is the template's `reasoning_effort`",
    "output_format": "a `json_schema`, where `output_config` was not there yet",
}
MESSAGES_WHY: Mapping[str, tuple[str, ...]] = {
    "the client's own": ("metadata", "user_profile_id", "workspace_id", "extra_body"),
    "where and when it is computed": ("service_tier", "inference_geo", "speed", "priority", "cache_control"),
    "beside the answer": ("diagnostics",),
}
_ALL_KEPT = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
MESSAGES_ONLY: Mapping[str, tuple[Any, ...]] = {"container": (), "mcp_servers": ([],), "context_management": ({}, {"edits": []}, _ALL_KEPT)}

# Decisions

_ORDERS_ABOUT = {"n_orders": "ways to order the options, 1 to 64, whose probabilities are averaged", "seed": "which orders these are"}
SYSTEMONE_ABOUT = {
    "state": "text or JSON, which all questions are about; a list of messages with `role` and `content`, which are texts, is a conversation",
    "questions": '1 to 400 by names: `noul`, `choice` or `score` with `instructions`, `criteria`, and `adapter`, who answers this one; a choice also `labels`: `"letters"` or `"values"`',
    **_ORDERS_ABOUT,
}
DECISIONS_ABOUT = {
    "input": "text, or items: messages of text and JSON, `function_call`, `custom_tool_call` and their outputs",
    "questions": "a list of 1 to 400: `predicate`, `choice` with 2 to 255 `choices`, `score` with 1 to 255 `levels`; each has `instructions`, and may have a `name` and an `adapter`, who answers this one",
    **_ORDERS_ABOUT,
}
DECIDES_WHY: Mapping[str, tuple[str, ...]] = {
    "the client's own": WHY["the client's own"],
    "where and when it is computed": (*WHY["where and when it is computed"], "prompt_cache_options"),
}
DECISIONS_ONLY: Mapping[str, tuple[Any, ...]] = {"stream": (False,)}
SYSTEMONE_ONLY: Mapping[str, tuple[Any, ...]] = {**DECISIONS_ONLY, "assets": ({},), "images": ([],)}
