"""Many conversations that share beginnings, run once through a frozen causal language model.

Conversations about one passage are merged into a token trie, so a system prompt or a passage costs its tokens once. A
row of a batch is one trie; a token attends to its ancestors only, and its position is its depth. The keys and values
are therefore those of each conversation alone, up to rounding.
"""

import numpy as np
import torch
from transformers import DynamicCache

PADDING = -2  # the parent of a padding node; it attends to itself only
ROOT = -1


def trie(sequences: list[list[int]]) -> tuple[list[int], list[int], list[int]]:
    """Tokens and parents of the nodes, parents first (ROOT for a first token), and the last node of each sequence."""
    tokens, parents, leaves, children = [], [], [], {}
    for sequence in sequences:
        node = ROOT
        for token in sequence:
            if (node, token) not in children:
                children[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
            node = children[node, token]
        leaves.append(node)
    return tokens, parents, leaves


class Forest:
    """One trie a row, with the model's keys and values of every node.

    `parents` I64 [rows, nodes], `visible` bool [rows, nodes, nodes] (a node's ancestors and itself), `depth`
    I64 [rows, nodes], `leaves` I64 [rows, sequences] (the node that each conversation ends in). Every row holds the
    same number of sequences.
    """

    def __init__(self, model, rows: list[list[list[int]]]):
        self.model, self.cache = model, DynamicCache()
        size = len(rows)
        self.tokens = np.zeros((size, 0), np.int64)
        self.parents = np.zeros((size, 0), np.int64)
        self.visible = np.zeros((size, 0, 0), bool)
        self.depth = np.zeros((size, 0), np.int64)
        tries = [trie(row) for row in rows]
        longest = max(len(tokens) for tokens, _, _ in tries)
        tokens = np.array([t + [0] * (longest - len(t)) for t, _, _ in tries])
        parents = np.array([p + [PADDING] * (longest - len(p)) for _, p, _ in tries])
        self.leaves = np.array([leaves for _, _, leaves in tries])
        self.hidden_at_leaves = self.extend(tokens, parents)[torch.arange(size)[:, None], torch.from_numpy(self.leaves)]

    def placed(self, parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where new nodes stand: visible bool [rows, new, nodes + new] and depth I64 [rows, new].

        `parents` I64 [rows, new] may name nodes that are there and new ones that come before.
        """
        size, new = parents.shape
        nodes = self.parents.shape[1]
        visible = np.zeros((size, nodes + new, nodes + new), bool)
        visible[:, :nodes, :nodes] = self.visible
        depth = np.concatenate([self.depth, np.zeros((size, new), np.int64)], axis=1)
        for row in range(size):
            for i, parent in enumerate(parents[row], start=nodes):
                if parent >= 0:
                    visible[row, i] = visible[row, parent]
                    depth[row, i] = depth[row, parent] + 1
                visible[row, i, i] = True
        return visible[:, nodes:], depth[:, nodes:]

    @torch.no_grad()
    def extend(self, tokens: np.ndarray, parents: np.ndarray) -> torch.Tensor:
        """Adds nodes, I64 [rows, new] each; returns their hidden states, F32 [rows, new, hidden]."""
        visible, depth = self.placed(parents)
        hidden = self.model.model(
            input_ids=torch.from_numpy(tokens),
            attention_mask=torch.from_numpy(visible)[:, None],
            position_ids=torch.from_numpy(depth),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        new = parents.shape[1]
        self.visible = np.concatenate([np.pad(self.visible, ((0, 0), (0, 0), (0, new))), visible], axis=1)
        self.tokens = np.concatenate([self.tokens, tokens], axis=1)
        self.parents = np.concatenate([self.parents, parents], axis=1)
        self.depth = np.concatenate([self.depth, depth], axis=1)
        return hidden

    @torch.no_grad()
    def answer(self, wanted: np.ndarray, end: list[int], cap: int) -> list[list[list[int]]]:
        """Continues the wanted leaves (bool [rows, sequences]) greedily; the leaves move to the ends of the answers.

        An answer ends with the tokens `end`, which follow its first `end[0]`, or its `cap`-th token. Returns the
        answers' tokens without `end`, empty for leaves that were not wanted.
        """
        size, count = wanted.shape
        answers = [[[] for _ in range(count)] for _ in range(size)]
        pending = [[list(end) if wanted[r, s] else [] for s in range(count)] for r in range(size)]
        following = self.model.lm_head(self.hidden_at_leaves).argmax(-1).numpy()
        while any(p for row in pending for p in row):
            tokens = np.zeros((size, count), np.int64)
            parents = np.full((size, count), PADDING)
            nodes = self.parents.shape[1]
            for r in range(size):
                for s in range(count):
                    if not pending[r][s]:
                        continue
                    parents[r, s] = self.leaves[r, s]
                    self.leaves[r, s] = nodes + s
                    whole = len(pending[r][s]) == len(end)
                    if whole and following[r, s] != end[0] and len(answers[r][s]) < cap:
                        tokens[r, s] = following[r, s]
                        answers[r][s].append(int(following[r, s]))
                    else:
                        tokens[r, s] = pending[r][s].pop(0)
            following = self.model.lm_head(self.extend(tokens, parents)).argmax(-1).numpy()
        return answers

    def path(self, row: int, node: int) -> list[int]:
        """The tokens from the root to a node."""
        tokens = []
        while node >= 0:
            tokens.append(int(self.tokens[row, node]))
            node = self.parents[row, node]
        return tokens[::-1]
