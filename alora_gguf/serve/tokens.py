"""POST /tokenize and /detokenize, as vLLM and llama-server have them, and llama-server's /apply-template."""

from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .body import Chat, Detokenize, Tokenize
from .chat import prepare, salt_of
from .service import Service


async def tokenize(service: Service, request: Request) -> Response:
    """What a request with this text or conversation would have as its prompt."""
    body = Tokenize.model_validate_json(await request.body())
    adapter = service.adapter(body)
    vocab = service.model.vocab

    def answer() -> dict[str, Any]:
        if body.messages:
            tokens = prepare(service, body, adapter, salt_of(body, request)).prompt.tokens
        elif body.begins and body.parses:
            tokens = vocab.tokenize_prompt(body.text)
        else:
            tokens = vocab.tokenize(body.text, special=body.parses, add_bos=body.begins and vocab.add_bos)
        pieces = [vocab.token_bytes(token, special=True) for token in tokens] if body.with_pieces or body.return_token_strs else []
        return {
            "tokens": [{"id": token, "piece": _piece(data)} for token, data in zip(tokens, pieces)] if body.with_pieces else tokens,
            "count": len(tokens),
            "max_model_len": service.model.engine.n_ctx,
            **({"token_strs": [data.decode("utf-8", errors="replace") for data in pieces]} if body.return_token_strs else {}),
        }

    return JSONResponse(await to_thread.run_sync(answer))


async def detokenize(service: Service, request: Request) -> Response:
    """The text of tokens; of control tokens their names."""
    body = Detokenize.model_validate_json(await request.body())
    service.adapter(body)
    vocab = service.model.vocab
    text = await to_thread.run_sync(lambda: vocab.detokenize(vocab.check(body.tokens)) if body.tokens else "")
    return JSONResponse({"prompt": text, "content": text})


async def apply_template(service: Service, request: Request) -> Response:
    """The prompt of a chat request, as text: with the names of its control tokens."""
    body = Chat.model_validate_json(await request.body())
    adapter = service.adapter(body)
    vocab = service.model.vocab
    text = await to_thread.run_sync(lambda: vocab.detokenize(prepare(service, body, adapter, salt_of(body, request)).prompt.tokens))
    return JSONResponse({"prompt": text})


def _piece(data: bytes) -> str | list[int]:
    """Text, or bytes that are none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return list(data)
