"""Messages by mail, over SMTP."""

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import Incident
from asdcore.notification.message import LOOPBACK, Message, NotDelivered, line, one_line
from asdcore.progress import say

SECONDS = 10
"""for each answer of the server"""
Security = Literal["starttls", "tls", "none"]


@dataclass(frozen=True)
class Mail:
    """A channel to a mail server.

    Args:
        host: of the server.
        sender: address.
        to: addresses.
        port: default: 587 with STARTTLS, 465 with TLS, 25 with neither.
        security: ``starttls``, ``tls`` from the first byte, or ``none``.
        user: who logs in; empty: nobody.
        password: of the user.
        ca: PEM file of the authority that signed the server's certificate; default: those of the system.

    Raises:
        AsdError: a password that would cross the network unencrypted.
    """

    host: str
    sender: str
    to: Sequence[str]
    port: int | None = None
    security: Security = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    ca: Path | None = None

    def __post_init__(self) -> None:
        if self.user and self.security == "none" and self.host not in LOOPBACK:
            raise AsdError(
                f"mail over {self.host}: a login needs security: starttls or tls; without, anybody can read it"
            )

    def send(self, message: Message) -> None:
        """Hand the message to the mail server."""
        try:
            with self._connected() as server:
                if self.user:
                    server.login(self.user, self.password)
                refused = server.send_message(mail_of(message, self.sender, self.to))
        except (smtplib.SMTPException, OSError) as error:
            raise NotDelivered(one_line(f"{self.host}: {type(error).__name__}: {error}")[:300]) from None
        if refused:
            say(f"{self.host} refused {', '.join(refused)}; the others got the mail")  # Again would be twice for them.

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=self.ca)
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port or 465, timeout=SECONDS, context=context)
        server = smtplib.SMTP(self.host, self.port or (587 if self.security == "starttls" else 25), timeout=SECONDS)
        if self.security == "starttls":
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server


def mail_of(message: Message, sender: str, to: Sequence[str]) -> EmailMessage:
    """The mail that says it."""
    mail = EmailMessage()
    mail["Subject"] = f"[asd] {message.title}"
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.id}@asd>"
    mail["Auto-Submitted"] = "auto-generated"
    parts = [_paragraph(incident) for incident in message.incidents] or [message.text]
    mail.set_content("\n\n".join([*parts, f"Home: {message.home}"]) + "\n")
    return mail


def _paragraph(incident: Incident) -> str:
    lines = [line(incident), f"  since      {incident.opened.astimezone():%Y-%m-%d %H:%M %Z}"]
    if incident.worst:
        lines.append(f"  listen to  {one_line(incident.worst)}")
    if incident.is_open:
        lines.append(f"  close it   asd incidents close {incident.id}")
    return "\n".join(lines)
