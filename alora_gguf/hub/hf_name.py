"""Names on the Hugging Face hub: `hf:owner/repo[:QUANT]` is a base model, `hf:owner/repo/name` an adapter; `@revision` may follow either."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from os import PathLike

from ..errors import HubError
from ..text import printable

PREFIX = "hf:"
FORMS = "hf:owner/repo[:QUANT][@revision] or hf:owner/repo/name[@revision]"
_PART = r"(?![^/:@]*(?:\.\.|--))[A-Za-z0-9_](?:[\w.-]{0,94}[\w])?"  # the hub's own rule
_NAME = re.compile(
    rf"(?P<owner>{_PART})/(?P<repo>{_PART})(?::(?P<quant>[\w.-]{{1,64}})|/(?P<name>{_PART}))?(?:@(?P<revision>(?!.*\.\.)\w[\w./-]{{0,200}}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class HubName:
    """repo: `owner/repo`. name: of an adapter in it. quant: of a base model, as Q4_K_M."""

    repo: str
    name: str | None = None
    quant: str | None = None
    revision: str = "main"

    def __str__(self) -> str:
        part = f"/{self.name}" if self.name else f":{self.quant}" if self.quant else ""
        return f"{PREFIX}{self.repo}{part}{f'@{self.revision}' if self.revision != 'main' else ''}"


def is_hub_name(given: str | PathLike[str]) -> bool:
    return os.fspath(given).startswith(PREFIX)


def parse_hub_name(given: str | PathLike[str]) -> HubName:
    """Raises HubError for what is no such name."""
    text = os.fspath(given)
    found = _NAME.fullmatch(text.removeprefix(PREFIX)) if is_hub_name(text) else None
    if found is None:
        raise HubError(f"{printable(text)}: expected {FORMS}, got something else; correct the name")
    return HubName(f"{found['owner']}/{found['repo']}", found["name"], found["quant"], found["revision"] or "main")
