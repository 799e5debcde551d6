"""Mail, with a real SMTP server: encryption, login, and what is in the mail."""

import email
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from asdcore.errors import AsdError
from asdcore.notification.mail import Mail
from asdcore.notification.message import Message, NotDelivered
from tests.asdcore.notification.conftest import NOON, free_port, incident


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=data.login == b"asd" and data.password == b"right", handled=False)


@contextmanager
def mail_server(**options: Any) -> Iterator[tuple[int, Mailbox]]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield controller.port, mailbox
    finally:
        controller.stop()


def test_a_mail_says_what_where_and_how_to_close_it(message: Message) -> None:
    with mail_server() as (port, mailbox):
        Mail("127.0.0.1", "asd@plant", ["anna@plant", "bob@plant"], port, "none").send(message)
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[asd] pump: anomaly" and mail["To"] == "anna@plant, bob@plant"
    text = mail.get_content()
    assert "pump: anomaly: 1 recording anomalous" in text and "listen to  /data/a.wav" in text
    assert "asd incidents close 0a1b2c3d" in text


def test_a_line_break_in_the_name_of_a_machine_does_not_break_the_mail() -> None:
    strange = incident("pump\nBcc: eve@elsewhere")
    with mail_server() as (port, mailbox):
        Mail("127.0.0.1", "asd@plant", ["anna@plant"], port, "none").send(
            Message("msg1", "opened", NOON, "/home/asd", (strange,))
        )
    assert mailbox.mails[0]["Bcc"] is None and "pump Bcc: eve" in mailbox.mails[0]["Subject"]


def test_it_logs_in_over_starttls_and_a_wrong_password_is_an_error(certificates: Any, message: Message) -> None:
    options = {"tls_context": certificates.server, "require_starttls": True, "auth_required": True}
    with mail_server(**options, authenticator=authenticate) as (port, mailbox):
        mail = Mail("127.0.0.1", "asd@plant", ["anna@plant"], port, "starttls", "asd", "right", certificates.ca)
        mail.send(message)
        with pytest.raises(NotDelivered, match="SMTPAuthenticationError") as raised:
            Mail("127.0.0.1", "asd@plant", ["anna@plant"], port, "starttls", "asd", "wr0ng", certificates.ca).send(
                message
            )
        assert "wr0ng" not in str(raised.value)
        with pytest.raises(NotDelivered, match="certificate verify failed"):
            Mail("127.0.0.1", "asd@plant", ["anna@plant"], port, "starttls", "asd", "right").send(message)
    assert len(mailbox.mails) == 1 and "right" not in repr(mail)


def test_tls_from_the_first_byte(certificates: Any, message: Message) -> None:
    with mail_server(ssl_context=certificates.server) as (port, mailbox):
        Mail("127.0.0.1", "asd@plant", ["anna@plant"], port, "tls", ca=certificates.ca).send(message)
    assert len(mailbox.mails) == 1


def test_a_server_without_encryption_gets_nothing_if_it_was_asked_for(message: Message) -> None:
    with mail_server() as (port, mailbox), pytest.raises(NotDelivered, match="STARTTLS"):
        Mail("127.0.0.1", "asd@plant", ["anna@plant"], port, "starttls").send(message)
    assert mailbox.mails == []


def test_a_password_never_crosses_the_network_unencrypted() -> None:
    with pytest.raises(AsdError, match="security: starttls or tls"):
        Mail("mail.plant", "asd@plant", ["anna@plant"], security="none", user="asd", password="right")


def test_an_unknown_address_does_not_send_the_mail_again_to_the_others(
    message: Message, capsys: pytest.CaptureFixture[str]
) -> None:
    with mail_server() as (port, mailbox):
        Mail("127.0.0.1", "asd@plant", ["anna@plant", "nobody@plant"], port, "none").send(message)
        with pytest.raises(NotDelivered, match="no such user"):
            Mail("127.0.0.1", "asd@plant", ["nobody@plant"], port, "none").send(message)
    assert len(mailbox.mails) == 1 and "refused nobody@plant" in capsys.readouterr().err


def test_no_server_is_an_error(message: Message) -> None:
    with pytest.raises(NotDelivered, match="refused"):
        Mail("127.0.0.1", "asd@plant", ["anna@plant"], free_port(), "none").send(message)
