"""Delivery of alerts: what arrives, and what is said, without the address or a password, when nothing does."""

import pytest
from pydantic import ValidationError

from dataset_pipeline.adapters.alerts import Alert, send_mail, send_webhook
from dataset_pipeline.config import Mail, Webhook
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline_tests.adapters.hosts.receivers import mail_server, webhook

ALERT = Alert(
    "run-1", "toy", "toy: build failed: raw_texts: unique", ("raw_texts: ünique failed", "Run: run-1"), {"run": "run-1"}
)  # fmt: skip


def mail(port: int, **changes: object) -> Mail:
    settings = {
        "host": "127.0.0.1", "port": port, "security": "none", "sender": "pipeline@example.org",
        "to": ["ada@example.org", "bob@example.org"],
    }  # fmt: skip
    return Mail.model_validate({**settings, **changes})


@pytest.mark.parametrize("by", ["file", "variable"])
def test_a_webhook_gets_text_and_facts(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as received:
        url = f"http://127.0.0.1:{received.port}/hooks/s3cret"
        monkeypatch.setenv("ALERTS_URL", url)
        send_webhook(ALERT, Webhook(url=url) if by == "file" else Webhook(url_variable="ALERTS_URL"))
    assert received.documents == [
        {
            "id": "run-1",
            "dataset": "toy",
            "subject": "toy: build failed: raw_texts: unique",
            "text": "toy: build failed: raw_texts: unique\nraw_texts: ünique failed\nRun: run-1",
            "run": "run-1",
        }
    ]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_does_not_take_it(status: int) -> None:
    """A redirect is not followed: it could lead the facts anywhere."""
    with webhook() as received:
        received.status = status
        with pytest.raises(OutsideWorldError) as raised:
            send_webhook(ALERT, Webhook(url=f"http://127.0.0.1:{received.port}/hooks/s3cret"))
    assert str(raised.value) == f"alerts.webhook: 127.0.0.1 answered {status}, expected 200 to 299"


def test_a_webhook_that_is_down_or_not_set() -> None:
    with webhook() as received:
        url = f"http://127.0.0.1:{received.port}/hooks/s3cret"
    with pytest.raises(OutsideWorldError, match=r"^alerts.webhook: 127.0.0.1: ConnectionError$"):
        send_webhook(ALERT, Webhook(url=url))
    with pytest.raises(OutsideWorldError, match="the environment variable NOT_SET_ANYWHERE is not set"):
        send_webhook(ALERT, Webhook(url_variable="NOT_SET_ANYWHERE"))


def test_a_mail_for_all_who_get_it() -> None:
    with mail_server() as received:
        assert send_mail(ALERT, mail(received.port)) == []
    [message] = received.mails
    assert received.recipients == ["ada@example.org", "bob@example.org"]
    assert message["Subject"] == ALERT.subject
    assert message["Message-ID"] == "<run-1@example.org>"
    assert message.get_content().splitlines() == list(ALERT.lines)


def test_a_mail_server_that_refuses_one_or_all() -> None:
    with mail_server() as received:
        received.refused = {"bob@example.org"}
        assert send_mail(ALERT, mail(received.port)) == ["bob@example.org"]
        assert len(received.mails) == 1
        received.refused = {"ada@example.org", "bob@example.org"}
        with pytest.raises(OutsideWorldError, match=r"127.0.0.1:\d+: SMTPRecipientsRefused$"):
            send_mail(ALERT, mail(received.port))


def test_a_mail_server_that_is_busy_down_or_has_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "s3cret")
    with mail_server() as received:
        received.status = 421
        with pytest.raises(OutsideWorldError, match="answered 421"):
            send_mail(ALERT, mail(received.port))
        received.status = 200
        login = {"user": "ada", "password_variable": "MAIL_PASSWORD", "security": "starttls"}
        with pytest.raises(OutsideWorldError, match="SMTPNotSupportedError") as raised:
            send_mail(ALERT, mail(received.port, **login))
        assert "s3cret" not in str(raised.value)
    assert received.mails == []
    with pytest.raises(OutsideWorldError, match="ConnectionRefusedError"):
        send_mail(ALERT, mail(received.port))


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        (Webhook, {}, "expected one of 'url' and 'url_variable'"),
        (Webhook, {"url": "https://a.example/x", "url_variable": "A"}, "expected one of"),
        (Webhook, {"url": "ftp://a.example/x"}, "url"),
        (Webhook, {"url": "https://user:password@a.example/x"}, "url"),
        # A line break would begin another header.
        (Mail, {"host": "a", "sender": "a@b", "to": ["c@d\nBcc: e@f"]}, "to.0"),
        (Mail, {"host": "a", "sender": "a@b", "to": []}, "to"),
        (Mail, {"host": "a", "sender": "a@b", "to": ["c@d"], "user": "a"}, "go together"),
        (
            Mail,
            {"host": "a", "sender": "a@b", "to": ["c@d"], "user": "a", "password_variable": "P", "security": "none"},
            "not sent in clear",
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant(
    model: type[Mail] | type[Webhook], settings: dict[str, object], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        model.model_validate(settings)
