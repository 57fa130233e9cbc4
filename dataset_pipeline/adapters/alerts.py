"""How an alert reaches people: as JSON to a web address, and as e-mail.

Belongs here: delivery, its time limits, and what may be said about a failed one. Does not belong here: what is worth
an alert, and trying again (``defs/alerts.py``).
"""

import os
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Final
from urllib.parse import urlsplit

from dataset_pipeline.config import Mail, Webhook
from dataset_pipeline.errors import OutsideWorldError

_SECONDS: Final = 10.0
"""That a server may take for each step. A sensor's tick has a minute for everything."""


@dataclass(frozen=True)
class Alert:
    """What happened, for people and for machines. It holds no row of the data."""

    id: str
    """The same for the same event, so that a receiver knows one that arrives twice."""
    dataset: str
    subject: str
    """One line."""
    lines: tuple[str, ...]
    facts: Mapping[str, Any]
    """The same as JSON."""

    @property
    def text(self) -> str:
        """Subject and lines."""
        return "\n".join([self.subject, *self.lines])


def send_webhook(alert: Alert, webhook: Webhook) -> Sequence[str]:
    """Post the alert as JSON: ``text`` for chats, the rest for machines; gives those whom it does not reach: nobody.

    Raises ``OutsideWorldError``, without the address, which may be a secret, where it is not answered with success.
    """
    import requests

    url = webhook.url or os.environ.get(str(webhook.url_variable), "")
    if not url:
        raise OutsideWorldError(f"alerts.webhook: the environment variable {webhook.url_variable} is not set")
    host = urlsplit(url).hostname or "the webhook"
    document = {
        "id": alert.id, "dataset": alert.dataset, "subject": alert.subject, "text": alert.text, **alert.facts
    }  # fmt: skip
    try:
        answer = requests.post(url, json=document, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise OutsideWorldError(f"alerts.webhook: {host}: {type(error).__name__}") from None
    if not 200 <= answer.status_code < 300:
        raise OutsideWorldError(f"alerts.webhook: {host} answered {answer.status_code}, expected 200 to 299")
    return ()


def send_mail(alert: Alert, mail: Mail) -> Sequence[str]:
    """Hand the alert to the mail server, once for all who get it; gives those whom it refuses.

    Raises ``OutsideWorldError`` where it takes it for none of them.
    """
    message = EmailMessage()
    message["Subject"] = " ".join(alert.subject.split())
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.to)
    message["Message-ID"] = f"<{alert.id}@{mail.sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(alert.lines))
    password = None
    if mail.password_variable is not None:
        password = os.environ.get(mail.password_variable)
        if not password:
            raise OutsideWorldError(
                f"alerts.email: the environment variable {mail.password_variable} is not set"
            )
    context = ssl.create_default_context()
    place = f"alerts.email: {mail.host}:{mail.port}"
    try:
        with (
            smtplib.SMTP_SSL(mail.host, mail.port, timeout=_SECONDS, context=context)
            if mail.security == "tls"
            else smtplib.SMTP(mail.host, mail.port, timeout=_SECONDS)
        ) as server:
            if mail.security == "starttls":
                server.starttls(context=context)
            if mail.user is not None and password is not None:
                server.login(mail.user, password)
            refused = server.send_message(message)
    except smtplib.SMTPResponseException as error:
        raise OutsideWorldError(f"{place} answered {error.smtp_code}, {type(error).__name__}") from None
    except (OSError, smtplib.SMTPException) as error:
        raise OutsideWorldError(f"{place}: {type(error).__name__}") from None
    return sorted(refused)
