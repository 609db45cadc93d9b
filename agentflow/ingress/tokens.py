"""The token that every request has to carry: where it is kept, how it is compared, and how it changes without a restart."""

from __future__ import annotations

import hmac
import os
import re
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agentflow.config.display import quoted
from agentflow.config.source import reason_of
from agentflow.core.redaction import KNOWN
from agentflow.errors import AgentflowError
from agentflow.system import fresh_secret

LEAST_CHARS = 22  # 128 bits, at 6 bits a character
REREAD_S = 0.5  # how old what is known of the file may be; so a token that was replaced is dead within a second
_LONGEST = 4096
_TOKEN = re.compile(rb"[!-~]+")
_PRIVATE = 0o600


class TokenError(AgentflowError):
    """There is no token to guard the service with, or not one that is good enough."""

    code = "AF0802"


class Tokens:
    """The token in a file, read again when the file changes.

    Args:
        path: the file.
        monotonic: tells seconds.

    Attributes:
        generation: grows with each change; what was let in under an older one is let in no more.

    Raises:
        TokenError: the file has no token that can be used.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._seen = _look(path)
        self._token: bytes | None = read(path)
        self._looked_at = monotonic()
        self.generation = 0

    def accepts(self, given: bytes) -> bool:
        """Say whether this is the token; in the same time however near it is."""
        self._keep_fresh()
        return self._token is not None and hmac.compare_digest(given, self._token)

    def is_current(self, generation: int) -> bool:
        """Say whether what was let in under a generation may go on; to be asked at least once a second by what lasts."""
        self._keep_fresh()
        return generation == self.generation and self._token is not None

    def _keep_fresh(self) -> None:
        now = self._monotonic()
        if now - self._looked_at < REREAD_S:
            return
        self._looked_at = now
        seen = _look(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        token: bytes | None = None
        with suppress(TokenError):  # nobody gets in while there is none that can be used
            token = read(self._path)
        if token != self._token:
            self._token = token
            self.generation += 1


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def read(path: Path) -> bytes:
    """Return the token in a file.

    Raises:
        TokenError: the file cannot be read, others can write it, or what it holds is no token of at least 128 bits.
    """
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & stat.S_IWOTH:
                raise TokenError(f"anybody can write the token file {quoted(path)}", hint=f"chmod 600 {path}")
            token = stream.read(_LONGEST + 1).strip()
    except OSError as error:
        raise TokenError(f"the token file {quoted(path)} cannot be read: {reason_of(error)}", hint="make it, or check its rights") from None
    if len(token) < LEAST_CHARS or len(token) > _LONGEST or not _TOKEN.fullmatch(token):
        told = f"the token file {quoted(path)} holds no token of at least {LEAST_CHARS} characters without spaces"
        raise TokenError(told, hint=f"openssl rand -hex 32 > {path}")
    KNOWN.learn(token.decode("ascii"))
    return token


def prepared(path: Path) -> bool:
    """See to it that the token file that agentflow makes itself is there, for its user alone; say whether it was made now.

    Raises:
        TokenError: it cannot be made, or others can read it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write(path, fresh_secret())
            return True
        mode = path.stat().st_mode
    except OSError as error:
        raise TokenError(f"the token file {quoted(path)} cannot be made: {reason_of(error)}", hint="check the folder's rights") from None
    if stat.S_IMODE(mode) & ~_PRIVATE:
        raise TokenError(f"others can read the token file {quoted(path)}", hint=f"chmod 600 {path}, and replace the token")
    return False


def _write(path: Path, token: str) -> None:
    """Put a new file in its place as a whole: who reads it meanwhile finds none, or all of it."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".token-")  # 0600
    try:
        with os.fdopen(number, "w", encoding="ascii") as stream:
            stream.write(token + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.link(name, path)  # never over one that another process has made meanwhile
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
