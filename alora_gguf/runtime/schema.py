"""JSON schemas, in the keywords that llguidance enforces."""

from __future__ import annotations

from typing import Any

from ..errors import PromptError


def enforceable(schema: Any) -> dict[str, Any]:
    """The same schema. Raises PromptError by the name of what cannot be enforced."""
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise PromptError(f"json_schema: expected a JSON schema, which is an object, got {schema!r:.80}")
    return schema
