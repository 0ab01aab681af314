"""POST /v1/systemone and /v1/decisions: typed questions, answered with probabilities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import PromptError
from ..prompt.decision import Question
from ..reply import Decision, Decisions
from .decision_body import Ask, Decide, Decides, SystemOne
from .problem import Problem, as_json, problem_of
from .service import Service


async def systemone(service: Service, request: Request) -> Response:
    """In TypeSafe's form, errors too: what is wrong with a request is a 422 that says where."""
    try:
        body = SystemOne.model_validate_json(await request.body())
        asked = body.asked
        name, decided = await _decide(service, request, body, [{"role": "user", "content": body.text}], asked)
    except (ValidationError, Problem, PromptError) as e:
        return _unprocessable(e)
    answers = {}
    for id, one in decided.items():
        if one.error is not None:
            raise one.error
        answers[id] = _systemone_answer(one, body.questions[id])
    usage = decided.usage
    counts = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
    return JSONResponse({"model": name, "answers": answers, "usage": counts})


async def decisions(service: Service, request: Request) -> Response:
    """In OpenAI's form."""
    body = Decide.model_validate_json(await request.body())
    messages = body.messages(writes_calls=service.model.template.features.several_calls and service.model.template.features.tool_results)
    ids = [f"questions[{i}]" for i in range(len(body.questions))]
    name, decided = await _decide(service, request, body, messages, dict(zip(ids, (ask.asked for ask in body.questions))))
    if all(one.error is not None for one in decided.values()):
        raise next(iter(decided.values())).error or PromptError("questions: expected one that can be asked, got none")
    usage = decided.usage
    return JSONResponse(
        {
            "model": name,
            "answers": [_answer(decided[id], ask) for id, ask in zip(ids, body.questions)],
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.prompt_tokens - usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }
    )


async def _decide(
    service: Service, request: Request, body: Decides, messages: Sequence[Mapping[str, Any]], asked: Mapping[str, Question]
) -> tuple[str, Decisions]:
    """Who answered, and what."""
    adapter = service.adapter(body)
    chat = service.model.conversation(messages=[dict(m) for m in messages], cache_salt=_salt(body, request))
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


def _unprocessable(error: ValidationError | Problem | PromptError) -> Response:
    """FastAPI's form, with OpenAI's beside it."""
    problem = problem_of(error)
    if problem.status != 400 or problem.code is not None:
        return JSONResponse(as_json(problem), status_code=problem.status, headers=problem.headers)
    if isinstance(error, ValidationError):
        detail = [
            {"loc": ["body", *one["loc"]], "msg": one["msg"].removeprefix("Value error, "), "type": one["type"]}
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    else:
        where, _, _ = str(error).partition(":")
        detail = [{"loc": ["body", *where.split(".")], "msg": str(error), "type": "value_error"}]
    return JSONResponse({"detail": detail, **as_json(problem)}, status_code=422)
