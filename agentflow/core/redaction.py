"""Redaction: the secrets that this process has read, taken out of whatever it says, in whatever form they come."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
LEAST = 6  # characters: masking anything shorter would hide words that are no secret
MOST = 100  # secrets: a token that is changed every day would make each line of a log dearer
_LEAST_HALF = 12


class Redaction:
    """Knows secrets, and takes them out of texts.

    It is searched for the secret itself, reversed, in halves where these are long enough, in hex, Base64 (wherever in the
    encoded text it begins), URL encoding, and as JSON or Python would write it. A secret of less than 6 characters is not known.
    """

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}  # the forms of each secret, in the order in which they were last read
        self._forms: tuple[str, ...] = ()

    def learn(self, secret: str) -> None:
        """Take a secret out of all that is said from now on; of more than 100 those that were read longest ago are forgotten."""
        if len(secret) < LEAST or next(reversed(self._known), None) == secret:
            return
        self._known[secret] = self._known.pop(secret, frozenset()) or frozenset(_forms(secret))
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        self._forms = tuple(sorted(frozenset().union(*self._known.values()), key=lambda form: (-len(form), form)))

    def redacted(self, text: str) -> str:
        """Return a text with a mask in the place of each secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


KNOWN = Redaction()  # of the process: a secret that one part has read may be told by any other


def _forms(secret: str) -> Iterator[str]:
    raw = secret.encode("utf-8", "surrogateescape")
    half = len(secret) // 2
    yield from (secret[::-1], json.dumps(secret[::-1])[1:-1], raw.hex(), raw.hex().upper())
    if half >= _LEAST_HALF:
        yield from (secret[:half], secret[half:])
    for written in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1], repr(raw)[2:-1]):
        yield from (written, json.dumps(written)[1:-1])  # a text that has it is written as JSON once more, by a log or a journal
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield quoted
        yield _in_lower_case(quoted)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            yield _inside(encode(bytes(before) + raw).decode(), before, len(raw))


def _in_lower_case(quoted: str) -> str:
    first, *parts = quoted.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in parts)])


def _inside(encoded: str, before: int, length: int) -> str:
    """Return the characters of Base64 that come of `length` bytes alone, with `before` bytes in front of them."""
    return encoded[(before * 8 + 5) // 6 : (before + length) * 8 // 6]
