"""Whose messages published intrinsics judge, where their cards do not say it."""

import yaml

QUESTIONS = ("answerability", "query_rewrite", "query_clarification", "context_relevance")  # IBM's granitelib


def judged_by_name(io_yaml: str | None) -> str | None:
    """`user` for an io.yaml, a mapping, that has the name of an intrinsic about the last question; None for any other.

    A conversation goes on with an answer, which such an intrinsic was not trained to see.
    """
    return "user" if io_yaml is not None and yaml.safe_load(io_yaml).get("name") in QUESTIONS else None
