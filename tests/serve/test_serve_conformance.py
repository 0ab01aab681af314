"""What granite-common sends to a server, as its own test suite has it."""

import json
from pathlib import Path

import jsonschema
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "granite-common" / "requests"
BODIES = sorted(FOLDER.glob("*.json"))


@pytest.mark.skipif(not BODIES, reason=f"{FOLDER} is not there")
@pytest.mark.parametrize(
    ("path", "adapter"),
    [*((path, None) for path in BODIES), *((path, "first") for path in BODIES if path.stem.startswith("answerability"))],
    ids=lambda value: getattr(value, "stem", value),
)
def test_each_body_is_accepted_as_it_is(server, path, adapter):
    body = json.loads(path.read_text())
    extra = {"adapter": adapter} if adapter else {}
    status, _, answer = server.call("POST", "/v1/chat/completions", {**body, **extra})
    assert status == 200, answer
    assert len(answer["choices"]) == body.get("n", 1)
    for choice in answer["choices"]:
        text = choice["message"]["content"]
        schema = body["extra_body"].get("structured_outputs", {}).get("json")
        if choice["finish_reason"] == "stop" and schema:
            jsonschema.validate(json.loads(text), schema)
        if body.get("logprobs"):
            tokens = choice["logprobs"]["content"]
            assert "".join(t["token"] for t in tokens) == text and all(len(t["top_logprobs"]) == 10 for t in tokens)
