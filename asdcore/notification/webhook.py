"""Messages by webhook: JSON in an HTTP POST, signed as Standard Webhooks says.

References:
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from asdcore.errors import AsdError
from asdcore.notification.message import LOOPBACK, Message, NotDelivered

CONNECT_SECONDS, ANSWER_SECONDS = 3, 10
RETRIES = 2
"""at once, after 0.5 and 1 s: of a connection that fails, and of an answer that says to come back later"""
LATER = (429, 502, 503, 504)
KEY_PREFIX = "whsec_"
SHORTEST_KEY = 24
"""bytes"""


@dataclass(frozen=True)
class Webhook:
    """A channel to an HTTP server.

    Args:
        url: ``https://`` or ``http://``; may contain a secret, and is shown nowhere.
        key: of the signature, Base64 with or without ``whsec_``, at least 24 bytes; empty: messages are not signed.
        headers: of the request, such as ``Authorization``.
        ca: PEM file of the authority that signed the server's certificate; default: those of the system.

    Raises:
        AsdError: a key or an URL that is none, or headers or a login that would cross the network unencrypted.
    """

    url: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: Path | None = None

    def __post_init__(self) -> None:
        if self.key:
            decoded_key(self.key)
        try:
            url = urlsplit(self.url)
        except ValueError:  # Its text has a part of the URL in it.
            raise AsdError("the url of this webhook is not valid") from None
        if (self.headers or url.username) and url.scheme != "https" and url.hostname not in LOOPBACK:
            raise AsdError(f"webhook to {url.hostname}: headers or a login need https://, or everybody can read them")

    def send(self, message: Message) -> None:
        """Post the message; any answer 2xx is success. Redirects are not followed: they would lose the body."""
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        body = json.dumps(message.to_json(), ensure_ascii=False, allow_nan=False).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "asd", **self.headers}
        if self.key:
            headers |= signature(self.key, message.id, int(time.time()), body)
        retries = Retry(
            total=RETRIES,
            read=0,  # It may have arrived.
            backoff_factor=0.5,
            status_forcelist=LATER,
            allowed_methods=None,
            respect_retry_after_header=False,  # The outbox waits, not this process.
            raise_on_status=False,
        )
        host = urlsplit(self.url).hostname
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retries))
            try:
                answer = session.post(
                    self.url,
                    data=body,
                    headers=headers,
                    timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                    allow_redirects=False,
                    verify=str(self.ca) if self.ca else True,
                )
            # The text of these errors contains the URL, which may be a secret.
            except requests.exceptions.SSLError:
                raise NotDelivered(f"the certificate of {host} is not trusted") from None
            except requests.exceptions.Timeout:
                raise NotDelivered(f"{host} did not answer in time") from None
            except requests.exceptions.ConnectionError:
                raise NotDelivered(f"no connection to {host}") from None
            except (requests.exceptions.RequestException, OSError, ValueError) as error:
                raise NotDelivered(f"request to {host} failed: {type(error).__name__}") from None
        if not 200 <= answer.status_code < 300:
            raise NotDelivered(f"{host} answered {answer.status_code}")


def signature(key: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove who sent a body, and when.

    >>> signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
    ...           b'{"test": 2432232314}')["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.new(decoded_key(key), signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{digest}"}


def decoded_key(key: str) -> bytes:
    """The bytes of a signing key.

    Raises:
        AsdError: not Base64, or too short; the text does not contain the key.
    """
    try:
        decoded = base64.b64decode(key.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) < SHORTEST_KEY:
        raise AsdError(
            f"key of a webhook: needs Base64 of {SHORTEST_KEY} bytes or more; `openssl rand -base64 32` makes one"
        )
    return decoded
