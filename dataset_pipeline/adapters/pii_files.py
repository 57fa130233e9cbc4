"""What ``pii`` names outside ``dataset.yaml``: the secret of hashes and surrogates, and lists of allowed strings.

The secret is held in memory alone: no message, cache, snapshot or release holds it, and what is kept to notice that
it has changed costs an attacker as much a guess as a stored password does.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dataset_pipeline.config import DatasetConfig, Pii
from dataset_pipeline.errors import ConfigError

MIN_KEY_BYTES: Final = 16
_ROUNDS: Final = 200_000  # of PBKDF2-HMAC-SHA256 (RFC 8018)
_HOW: Final = "Make one with: python -c 'import secrets; print(secrets.token_hex(32))'"


def read_key(settings: Pii, base: Path) -> bytes | None:
    """The secret; None where none is configured. Raises ``ConfigError`` where it is missing or can be guessed."""
    if settings.key is None or not settings.enabled:
        return None
    if settings.key.environment is not None:
        where = f"pii.key: the environment variable {settings.key.environment}"
        secret = os.environ.get(settings.key.environment, "").strip().encode()
        if not secret:
            raise ConfigError(f"{where} is not set", hint=_HOW)
    else:
        path = base / str(settings.key.file)
        where = f"pii.key: the file {path}"
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"{where} cannot be read: {error.strerror}", hint=_HOW) from None
    if len(secret) < MIN_KEY_BYTES:
        raise ConfigError(
            f"{where} holds {len(secret)} bytes, expected {MIN_KEY_BYTES} or more: a short one can be guessed",
            hint=_HOW,
        )
    return secret


def with_allowed(config: DatasetConfig, base: Path) -> DatasetConfig:
    """The config with the lines of ``pii.allow_files`` among ``pii.allow``. Raises ``ConfigError`` for a missing file."""
    settings, lines = config.pii, list[str]()
    for name in settings.allow_files:
        try:
            content = (base / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(
                f"pii.allow_files: {base / name} cannot be read: {problem}",
                hint="Expected a text file, one string a line",
            ) from None
        lines += [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        return config
    allow = tuple(sorted({*settings.allow, *lines}))
    return config.model_copy(update={"pii": settings.model_copy(update={"allow": allow})})


def fingerprints(config: DatasetConfig, base: Path) -> Mapping[str, str]:
    """What changes when the secret or a list does, without telling either."""
    found = {}
    if secret := read_key(config.pii, base):
        found["pii.key"] = hashlib.pbkdf2_hmac("sha256", secret, b"dataset_pipeline", _ROUNDS).hex()[:16]
    if config.pii.allow_files:
        allow = "\n".join(with_allowed(config, base).pii.allow)
        found["pii.allow_files"] = hashlib.sha256(allow.encode()).hexdigest()[:16]
    return found
