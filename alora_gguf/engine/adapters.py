"""The adapters by name: files that are loaded by the first call that needs them, within a budget of bytes."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..errors import AdapterMemoryError, NoInvocationError, UnknownAdapterError
from ..runtime.context import Context
from .adapter import Adapter


class Registry(Mapping[str, Adapter]):
    """Names to Adapters. Looking up, adding and removing is for any thread; hold and release for the context's.

    `budget` is the most bytes of adapters in memory at once, None: no limit; beyond it, the one that was not
    used for the longest time goes.
    """

    def __init__(self, context: Context, budget: int | None):
        self._context = context
        self._budget = budget
        self._by_name: dict[str, Adapter] = {}
        self._lock = threading.Lock()
        self._resident: dict[Adapter, int] = {}  # and when it was used last
        self._held: Counter[Adapter] = Counter()
        self._clock = itertools.count()

    def __getitem__(self, name: str) -> Adapter:
        try:
            return self._by_name[name]
        except (KeyError, TypeError):  # nothing that could be a name is one either
            names = sorted(self._by_name)
            some = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"
            raise UnknownAdapterError(f"adapter {name!r:.80}: expected one that is loaded ({some}); load it first") from None

    def intrinsic(self, name: str) -> Adapter:
        """The adapter of this name, if a conversation can invoke it. Raises UnknownAdapterError or NoInvocationError."""
        adapter = self[name]
        if not adapter.is_intrinsic and adapter.decides:
            raise NoInvocationError(f"adapter {name!r}: expected an intrinsic, got one that answers typed questions; use decide(adapter={name!r})")
        if not adapter.is_intrinsic:
            raise NoInvocationError(
                f"adapter {name!r}: expected invocation tokens or an io.yaml, got an ordinary LoRA; "
                "use an aLoRA, whose adapter_config.json has alora_invocation_tokens, or give the io.yaml that says how it is asked"
            )
        return adapter

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._by_name))

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def n_bytes(self) -> int:
        """Of the adapters that are in memory now."""
        return sum(adapter.n_bytes for adapter in list(self._resident))

    def add(self, adapter: Adapter) -> None:
        """Gives it its name. Only calls that begin from now on mean it; those under way go on with what had the name."""
        with self._lock:
            self._by_name[adapter.name] = adapter

    def remove(self, name: str) -> None:
        with self._lock:
            self[name]  # raises UnknownAdapterError
            del self._by_name[name]

    # on the context's thread

    def hold(self, adapters: Sequence[Adapter]) -> bool:
        """Loads what is not in memory, and keeps it there until release(). False: others that are held leave no room yet.

        Raises AdapterFileError, AdapterMismatchError, or AdapterMemoryError if there never is room;
        then nothing is held.
        """
        for n, adapter in enumerate(adapters):
            self._held[adapter] += 1
            self._resident.update({adapter: next(self._clock)} if adapter in self._resident else {})
            try:
                fits = adapter in self._resident or self.load(adapter)
            except BaseException:
                self.release(adapters[: n + 1])
                raise
            if not fits:
                self.release(adapters[: n + 1])
                return False
        return True

    def load(self, adapter: Adapter) -> bool:
        """Brings it into memory. False: others that are held leave no room. Raises as hold()."""
        if self._budget is not None:
            n = adapter.n_bytes_file
            while self.n_bytes + n > self._budget:
                idle = [a for a in self._resident if not self._held[a]]
                if not idle:
                    if not self._resident:
                        raise AdapterMemoryError(f"{adapter.path}: expected {self._budget} bytes at most (adapter_memory), got {n}; give it more")
                    return False
                self._free(min(idle, key=self._resident.__getitem__))
        adapter.load(self._context.ptr)
        self._resident[adapter] = next(self._clock)
        return True

    def release(self, adapters: Sequence[Adapter]) -> None:
        for adapter in adapters:
            self._held[adapter] -= 1
            if not self._held[adapter]:
                del self._held[adapter]
        self.sweep()

    def sweep(self) -> None:
        """Frees those that nobody holds and that have lost their name."""
        for adapter in [a for a in self._resident if not self._held[a] and self._by_name.get(a.name) is not a]:
            self._free(adapter)

    def close(self) -> None:
        for adapter in list(self._resident):
            self._free(adapter)

    def _free(self, adapter: Adapter) -> None:
        del self._resident[adapter]
        adapter.free()
