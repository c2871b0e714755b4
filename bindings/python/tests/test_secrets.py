"""A password is in nothing that Python shows."""

from __future__ import annotations

import gc
import logging
import pprint
import traceback

import pytest
import tenure
from support import ETCD_ENDPOINTS, LONG, eventually

PASSWORD = "open-sesame-71"


def assert_hidden(text: str) -> None:
    assert text and "sesame" not in text, text


def test_no_password_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    service = tenure.Service(
        endpoints=ETCD_ENDPOINTS, service="secrets", username="ann", password=PASSWORD, log_level="debug"
    )
    with service:
        campaign, observer = service.campaign("x"), service.observe("x")
        campaign.wait_for_leadership(LONG)
        for shown in (service, campaign, observer, service.leader("x"), campaign.state):
            assert_hidden(f"{shown!r} {shown}")
            assert_hidden(pprint.pformat(getattr(shown, "__dict__", "none")))
        # Nothing that lives on holds it, apart from what this test has made.
        gc.collect()
        held = [thing for thing in gc.get_objects() if type(thing).__module__.startswith("tenure")]
        assert service in held
        for thing in held:
            assert PASSWORD not in list(vars(thing).values() if hasattr(thing, "__dict__") else ()), thing
    eventually(lambda: bool(caplog.records))
    for record in caplog.records:
        assert_hidden(f"{record.getMessage()} {record.args} {record.__dict__}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoints": f"http://ann:{PASSWORD}@127.0.0.1:1"},
        {"passwrod": PASSWORD},
        {"password": PASSWORD},  # without a user
        {"password": PASSWORD + "\0", "username": "ann"},
        {"password": PASSWORD.encode(), "username": "ann"},
    ],
)
def test_no_password_is_in_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises((tenure.TenureError, TypeError, ValueError)) as caught:
        tenure.Service(**{"service": "secrets", "endpoints": "http://127.0.0.1:1", **wrong})  # type: ignore[arg-type]
    for error in (caught.value, caught.value.__cause__, caught.value.__context__):
        if error is not None:
            assert_hidden(f"{error!r} {error} {error.args}")
    # A traceback quotes lines of the program, which is the caller's own business, but no values.
    library = [line for line in traceback.format_exception(caught.value) if "test_secrets" not in line]
    assert_hidden("".join(library))
