"""No rendering of a mistake shows the value of a secret beside it."""

from collections.abc import Callable

import pytest

from agentflow.config import Draft, report


@pytest.mark.parametrize(
    "text",
    [
        '[llm]\napi_key = "canary"',
        "[llm]\napi_key = 'canary'",
        '[llm]\napi_key = "canary',
        "[llm]\napi_key = canary",
        '[llm]\napi_key = { value = "canary" }',
        '[llm]\napi_key = ["canary"]',
        '[llm]\napi_kye = "canary"\napikey = "canary"',
        '[llm.api_key]\nvalue = "canary"',
        'llm = { api_key = "canary", nonsense = 1 }',
        '[agents.a]\npassword = "canary"',
        '[agents.a]\n"client-secret" = "canary"',
        '[agents.a]\nauth_token: "canary"',
        '[llm]\nbase_url = "http://user:canary@host" x',
        '[llm]\napi_key = """\ncanary\0"""',
        'AWS_SECRET_ACCESS_KEY = "canary" # x',
        '[llm]\napi_key = """canary""" x',
    ],
)
def test_the_value_of_a_secret_is_never_shown(draft: Callable[..., Draft], text: str) -> None:
    """Not in the source line of a mistake, be it of syntax or of shape, nor in its message, row or annotation."""
    found = draft(text).diagnostics
    assert found
    everything = report(found) + "".join(str(one.to_dict()) + one.annotation() + repr(one) for one in found)
    assert "canary" not in everything


def test_a_reference_is_no_secret(draft: Callable[..., Draft]) -> None:
    """The name of a variable, and numbers of tokens, are shown."""
    found = draft('[llm]\napi_key = { env = "SHOWN" } x\nmax_tokens = "shown"').diagnostics
    assert "SHOWN" in report(found)
    assert '"shown"' in report(found)
