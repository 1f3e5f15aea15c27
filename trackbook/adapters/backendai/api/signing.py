"""The signature that a Backend.AI manager asks of every request.

Version v7.20230615 is the newest that the managers 23.09 and 26.8 both take; it signs the method, the path with
its query exactly as sent, the date, the host and the content type, not the body.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

VERSION = "v7.20230615"
_NO_BODY = hashlib.sha256(b"").hexdigest()


def sign(
    method: str,
    path: str,
    host: str,
    date: datetime,
    access_key: str,
    secret_key: str,
    content_type: str = "application/json",
) -> dict[str, str]:
    """Return the headers of a request. `path` is as it is sent, with its query; `host` as in Host, with its port.

    `date` is in UTC and knows it; a manager takes what is within 15 minutes of its own clock.
    """
    stamp = date.isoformat()
    text = (
        f"{method.upper()}\n{path}\n{stamp}\nhost:{host}\ncontent-type:{content_type.lower()}\n"
        f"x-backendai-version:{VERSION}\n{_NO_BODY}"
    )
    key = _digest(secret_key.encode(), date.strftime("%Y%m%d"))
    signature = _digest(_digest(key, host), text).hex()
    return {
        "Date": stamp,
        "Content-Type": content_type,
        "X-BackendAI-Version": VERSION,
        "Authorization": f"BackendAI signMethod=HMAC-SHA256, credential={access_key}:{signature}",
    }


def _digest(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
