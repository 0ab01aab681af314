"""The OpenAPI document: of what is there, and true."""

import json
import re

import jsonschema
import pytest
from test_serve_fuzz import VALID


@pytest.fixture(scope="module")
def document(server):
    status, _, document = server.call("GET", "/openapi.json")
    assert status == 200
    return document


def test_it_names_what_there_is(server, document, repo):
    line = next(line for line in (repo / "docs" / "serve.md").read_text(encoding="utf-8").splitlines() if "**Endpoints**" in line)
    assert {path for path in document["paths"] if "{" not in path} == set(re.findall(r"`(/[^`]+)`", line)) - {"/openapi.json"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            path = path.replace("{name}", "tiny")
            status, headers, answer = server.call(method.upper(), path, {} if method == "post" else None)
            refused = 422 if path == "/v1/systemone" else 400  # TypeSafe's
            assert status == (200 if method == "get" else refused), (path, answer)
            assert headers["content-type"].partition(";")[0] in operation["responses"]["4XX" if status == 400 else "200"]["content"]


def test_a_body_that_is_valid_is_valid_by_it(document):
    whole = json.dumps(document)
    for path, (model, body) in VALID.items():
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        check = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
        check.check_schema(check.schema)
        assert check.is_valid({**body, "unknown": None}) and not check.is_valid([]) and not check.is_valid({})
        assert not check.is_valid({**body, "unknown": 1})
        assert all(check.is_valid({**body, name: value}) == (value != "x") for name, values in model.only.items() for value in [*values, "x"])
        assert set(document["components"]["schemas"][model.__name__]["properties"]) == {*model.model_fields, *model.harmless, *model.only}
    for name in re.findall(r"#/components/schemas/(\w+)", whole):
        assert name in document["components"]["schemas"]
