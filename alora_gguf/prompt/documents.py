"""Documents that a conversation is about: how they are written into a prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

from .messages import Message


def documents_message(documents: Sequence[Mapping[str, Any]]) -> Message:
    """Documents for a template that does not know them: as granite-common's `docs_as_message: string` puts them."""
    texts = (f"[Document {d['doc_id']}]\n{d['text']}" for d in documents)
    return {"role": "user", "content": "You have access to the following documents:\n\n" + "\n\n".join(texts)}
