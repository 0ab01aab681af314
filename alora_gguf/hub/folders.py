"""Where this package keeps files of its own for a user."""

from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """For what can be made again, as the system has it: $XDG_CACHE_HOME/alora_gguf on Linux."""
    return platformdirs.user_cache_path("alora_gguf", appauthor=False)


def state_folder() -> Path:
    """For what is kept from one time to the next: $XDG_STATE_HOME/alora_gguf on Linux."""
    return platformdirs.user_state_path("alora_gguf", appauthor=False)
