"""Typed questions about a conversation.

question      predicates, choices and scores: how each is written, its labels, and what their log probabilities mean
prompts       the tokens of each question on one conversation
enum_output   intrinsics as decisions: where the output that an io.yaml asks for says one of several values
"""
