"""POST /v1/systemone and /v1/decisions: typed questions, answered with probabilities.

body   the requests, and the questions and messages that they are
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from anyio import to_thread
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...errors import ContextFullError, PromptError
from ...prompt.builder import Setting
from ...prompt.decisions.question import Question
from ...prompt.io_yaml import documents_of
from ...prompt.window import dropped_line, without_oldest
from ...reply import Decision, Decisions
from ..chat import n_to_drop
from ..problem import Problem, as_json, problem_of
from ..service import Service
from .body import Ask, Decide, Decides, SystemOne, where


async def systemone(service: Service, request: Request) -> Response:
    """In TypeSafe's form, errors too: what is wrong with a request is a 422 that says where."""
    body = None
    try:
        if request.headers.get("content-type", "").startswith("multipart/"):  # as clients send images
            raise Problem(400, "assets: expected none, got some; this server reads text only", param="assets")
        body = SystemOne.model_validate_json(await request.body())
        asked = body.asked
        name, decided = await _decide(service, request, body, body.messages, asked)
        for id, one in decided.items():
            if one.error is not None:
                raise _of(where(id), one.error)
    except (ValidationError, Problem, PromptError) as e:
        return _unprocessable(e, () if body is None else tuple(body.questions))
    answers = {id: _systemone_answer(one, body.questions[id]) for id, one in decided.items()}
    usage = decided.usage
    counts = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
    return JSONResponse({"model": name, "answers": answers, "usage": counts, **_warnings(decided)})


async def decisions(service: Service, request: Request) -> Response:
    """In OpenAI's form."""
    body = Decide.model_validate_json(await request.body())
    messages = body.messages(service.model.template.features)
    asked = body.asked
    documents = [document.model_dump(exclude_none=True) for document in body.documents or ()]
    n_dropped = await to_thread.run_sync(lambda: _n_to_drop(service, request, body, messages, documents))
    name, decided = await _decide(service, request, body, without_oldest(messages, n_dropped), asked, documents)
    errors = [_of(f"questions[{id}]", one.error) for id, one in decided.items() if one.error is not None]
    if len(errors) == len(asked):
        raise errors[0]
    usage = decided.usage
    return JSONResponse(
        {
            "model": name,
            "answers": [_answer(decided[id], ask) for id, ask in zip(asked, body.questions)],
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.prompt_tokens - usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
            **_warnings(decided, [dropped_line(n_dropped)] if n_dropped else ()),
        }
    )


def _n_to_drop(service: Service, request: Request, body: Decide, messages: list[dict[str, Any]], documents: Sequence[Mapping[str, Any]]) -> int:
    """How many of the messages to leave out, so that there is room for the questions. Raises PromptError."""
    if (body.on_full or service.on_full) == "error":
        return 0
    return n_to_drop(service, messages, Setting(documents, cache_salt=_salt(body, request)), None)


async def _decide(
    service: Service,
    request: Request,
    body: Decides,
    messages: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Question],
    documents: Sequence[Mapping[str, Any]] = (),
) -> tuple[str, Decisions]:
    """Who answered, and what."""
    adapter, lora = service.adapter(body), body.active_lora
    if lora is not None and lora.scale != 1:
        raise Problem(400, f"lora: expected the scale 1, got {lora.scale:g}; an adapter decides as it is", param="lora")
    chat = service.model.conversation(messages=[dict(m) for m in messages], cache_salt=_salt(body, request))
    chat.documents = documents_of(documents)
    name = None if adapter is None else adapter.name
    decided = await service.decide(lambda: chat.decide(asked, adapter=name, n_orders=body.n_orders, seed=body.seed, stream=True))
    return name or service.names[0], decided


def _salt(body: Decides, request: Request) -> Hashable:
    key: Hashable = request.state.cache_salt
    return key if body.cache_salt is None else (key, sha256(body.cache_salt.encode("utf-8", "surrogatepass")).digest())


def _systemone_answer(one: Decision, question: Mapping[str, Any]) -> dict[str, Any]:
    if one.kind == "predicate":
        return {"type": "noul", "noul": one.probability}
    if one.kind == "choice":
        return {"type": "choice", "choice": one.choice, "confidence": one.confidence, "probabilities": one.probabilities}
    return {
        "type": "score",
        "score": one.score,
        "confidence": one.confidence,
        "legend": {str(level): meaning for level, meaning in enumerate(question["criteria"])},
        "probabilities": {str(level): p for level, p in one.probabilities.items()},
    }


def _answer(one: Decision, ask: Ask) -> dict[str, Any]:
    """One that could not be asked is a refusal, and the others have their answers."""
    if one.error is not None:
        return {"type": "refusal", "name": ask.name}
    if one.kind == "predicate":
        return {"type": "predicate", "name": ask.name, "probability": one.probability}
    if one.kind == "choice":
        shares = [{"value": value, "probability": p} for value, p in one.probabilities.items()]
        return {"type": "choice", "name": ask.name, "choice": one.choice, "confidence": one.confidence, "probabilities": shares}
    labels = [level.label for level in ask.levels or ()]
    shares = [{"value": level, "label": labels[level], "probability": p} for level, p in one.probabilities.items()]
    return {"type": "score", "name": ask.name, "score": one.score, "confidence": one.confidence, "probabilities": shares}


def _warnings(decided: Decisions, more: Sequence[str] = ()) -> dict[str, list[str]]:
    warnings = list(dict.fromkeys([*(warning for one in decided.values() for warning in one.warnings), *more]))
    return {"warnings": warnings} if warnings else {}


def _of(where: str, error: Exception) -> Exception:
    """An error with the question that it is of."""
    return type(error)(f"{where}: {error}") if isinstance(error, PromptError | ContextFullError) else error


def _unprocessable(error: ValidationError | Problem | PromptError, names: Sequence[str]) -> Response:
    """FastAPI's form, with OpenAI's beside it. names: of the questions, which may have anything in them."""
    problem = problem_of(error)
    if problem.status != 400 or problem.code is not None:
        return JSONResponse(as_json(problem), status_code=problem.status, headers=problem.headers)
    if isinstance(error, ValidationError):
        detail = [
            {"loc": ["body", *one["loc"]], "msg": one["msg"].removeprefix("Value error, "), "type": one["type"]}
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    else:
        said = str(error)
        name = max((name for name in names if said.startswith((f"{where(name)}.", f"{where(name)}:"))), key=len, default=None)
        loc = [] if name is None else ["questions", name]
        rest = said if name is None else said.removeprefix(where(name)).removeprefix(".")
        detail = [{"loc": ["body", *loc, *(part for part in rest.partition(":")[0].split(".") if part)], "msg": said, "type": "value_error"}]
    return JSONResponse({"detail": detail, **as_json(problem)}, status_code=422)
