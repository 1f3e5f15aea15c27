"""Where a broker is, and the credentials to be let in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from trackbook.adapters.nats import allow_web_sockets


class Access(Struct, frozen=True):
    """Where a broker is and how to be let in; `creds` and `nkey` name files, several URLs are split by commas.

    `inbox_prefix` begins the subjects that replies are sent to, where the usual `_INBOX` may not be listened to.
    """

    url: str
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    nkey: str = ""
    inbox_prefix: str = ""

    def __post_init__(self) -> None:
        if any(url.strip().startswith(("ws://", "wss://")) for url in self.url.split(",")):
            allow_web_sockets()

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Access | None:
        """Return the foreign broker that TRACKBOOK_NATS_URL names, or None."""
        if not (url := env.get("TRACKBOOK_NATS_URL", "")):
            return None
        fields = ("user", "password", "token", "creds", "nkey", "inbox_prefix")
        return cls(url=url, **{name: env.get(f"TRACKBOOK_NATS_{name.upper()}", "") for name in fields})

    def options(self) -> dict[str, Any]:
        """Return the client's options for these credentials."""
        named = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "user_credentials": self.creds,
            "nkeys_seed": self.nkey,
            "inbox_prefix": self.inbox_prefix,
        }
        return {name: value for name, value in named.items() if value}
