"""Which keys hold secrets, and where in a text their values stand, so that no rendering shows one."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache

from agentflow.config.display import LONGEST_NAME, Range

_NAME = r"api[_-]?key|apikey|passw(?:or)?d|passphrase|secret|private[_-]?key|credential|token(?!s)"
_USUAL_NAMES = ["api_key", "apikey", "password", "secret", "token"]
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_ASSIGNMENT = re.compile(
    rf"""(?:{_NAME})[\w-]{{0,40}}+["']?[ \t]{{0,40}}+[=:][ \t]{{0,40}}+"""
    r"""(?>(?P<reference>\{\s{0,9}+(?:env|file)\s{0,9}+=\s{0,9}+(?:"[^"\n]*+"|'[^'\n]*+')\s{0,9}+\})?)"""
    r"""(?P<value>(?:\"{3}(?>(?:[^"\\]++|\\.|"{1,2}(?!"))*)"{0,5}|'{3}(?>(?:[^']++|'{1,2}(?!'))*)'{0,5}"""
    r"""|"(?>(?:[^"\\\n]++|\\[^\n])*)"?|'[^'\n]*+'?|\{[^}\n]*+\}?|\[[^\]]*+\]?|[^\s,}\]#]++)?)""",
    re.IGNORECASE | re.DOTALL,
)
_USER_INFO = re.compile(r"://(?P<value>[^/\s\"'@:]{0,200}+:[^/\s\"'@]{0,200}+)@")


def is_secret(name: str) -> bool:
    """Report whether a key or variable of this *name* is expected to hold a secret."""
    return _SECRET_NAME.search(name) is not None


@lru_cache(maxsize=1024)  # the same few names stand in every path
def resembles_secret(name: str) -> bool:
    """Report whether *name* is that of a secret, or a misspelling of one."""
    return is_secret(name) or bool(get_close_matches(name.lower()[:LONGEST_NAME], _USUAL_NAMES, n=1, cutoff=0.8))


def secret_ranges(text: str) -> list[Range]:
    """Return where *text* holds the value of a secret key, or a user and password in an address.

    The ranges are in order and do not overlap.
    """
    matches = [*_ASSIGNMENT.finditer(text), *_USER_INFO.finditer(text)]
    ranges: list[Range] = []
    for start, end in sorted(match.span("value") for match in matches if match["value"]):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(end, ranges[-1][1])
        else:
            ranges.append((start, end))
    return ranges


def without_user_info(text: str) -> str:
    """Return *text* with the user and password of every address in it masked."""
    return _USER_INFO.sub("://***@", text)
