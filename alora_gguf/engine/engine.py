"""One open model: what every conversation with it shares."""

from __future__ import annotations

from functools import cache, partial

from ..convert import base_fingerprint
from ..prompt.builder import PromptBuilder
from ..prompt.chat_template import ChatTemplate, template_of
from ..prompt.token_history import TokenHistory
from ..runtime.context import Context
from ..runtime.loading import Loaded
from ..runtime.vocab import Vocab
from .adapters import Registry
from .cache import Cache
from .loop import Loop
from .scoring import Scores


class Engine:
    """Owns what was loaded, until close().

    context      only the loop's thread uses it, but for its sizes and check_room()
    cache        of computed cells, the loop's too
    adapters     by name
    loop         in which all calls advance
    prompts      messages to tokens; history: which tokens the texts in the cache have
    scores       of labels, as they were found
    """

    def __init__(self, loaded: Loaded, *, chat_template: str | None, parse_special: bool, adapter_memory: int | None):
        self.path, self.vocab, self.context, self.cell_types = loaded
        self.cache = Cache(self.context)
        self.adapters = Registry(self.context, adapter_memory)
        self.loop = Loop(self.context, self.cache, self.adapters, partial(_free, self.adapters, self.context, self.vocab))
        self.fingerprint = cache(partial(base_fingerprint, self.path))  # adapters have it, and not the engine
        self.history = TokenHistory()
        self.scores = Scores()
        self.prompts = PromptBuilder(
            self.vocab, partial(template_of, self.vocab, chat_template, self.path.name), self.history, parse_special=parse_special
        )

    @property
    def n_ctx(self) -> int:
        """Tokens of one conversation: those that there is room for, and at most those that the model was trained on."""
        return min(self.context.n_ctx, self.vocab.n_trained or self.context.n_ctx)

    @property
    def template(self) -> ChatTemplate:
        """The model's chat template. Raises PromptError if it has none."""
        self.check_open()
        return self.prompts.template

    def check_open(self) -> None:
        """Raises ClosedError after close()."""
        self.context.check_open()

    def close(self) -> None:
        """Frees the model; calls under way in any thread end, or raise ClosedError, and so do all that come."""
        self.loop.close(wait=not self.vocab.lifetime.is_inside)  # where a destructor is called, the loop would wait for its own thread


def _free(adapters: Registry, context: Context, vocab: Vocab) -> None:
    """When nothing is computed any more. The vocabulary is other threads' too, and waits for them; the model goes with it."""
    adapters.close()
    context.close()
    vocab.close()
