"""API keys that `mmaudio login` has stored, one per server, in a file that only this user can read."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx

from mmaudio_client.errors import InvalidKeyError

_OF_OTHERS = 0o077
_DEFAULT_PORTS = {"http": 80, "https": 443}


def key_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the file: `$XDG_CONFIG_HOME/mmaudio/keys.json`, by default below `~/.config`."""
    folder = Path(environment.get("XDG_CONFIG_HOME") or "")
    if not folder.is_absolute():  # as its specification demands
        folder = Path("~/.config").expanduser()
    return folder / "mmaudio" / "keys.json"


class StoredKeys:
    """The keys in a file, by the address of their server.

    Raises (all methods):
        InvalidKeyError: the file cannot be read, is not one of keys, or other users can read it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or key_file()

    def get(self, base_url: str | httpx.URL) -> str | None:
        """Return the key of a server; None: none is stored."""
        return self._read().get(server_name(base_url))

    def set(self, base_url: str | httpx.URL, key: str) -> None:
        """Store the key of a server, in place of an earlier one.

        Raises:
            OSError: the file cannot be written.
        """
        self._write({**self._read(), server_name(base_url): key})

    def remove(self, base_url: str | httpx.URL) -> bool:
        """Remove the key of a server; return whether there was one.

        Raises:
            OSError: the file cannot be written.
        """
        keys = self._read()
        if keys.pop(server_name(base_url), None) is None:
            return False
        self._write(keys)
        return True

    def _read(self) -> dict[str, str]:
        try:
            with self.path.open(encoding="utf-8") as file:
                if os.name == "posix" and os.fstat(file.fileno()).st_mode & _OF_OTHERS:
                    raise InvalidKeyError(
                        f"Other users can read or write {self.path}, which holds API keys. "
                        f"Run `chmod 600 {self.path}`, and replace the keys if somebody may have read them."
                    )
                keys = json.load(file)["keys"]
                if not all(isinstance(key, str) for key in keys.values()):
                    raise TypeError("a key is not a text")
                return dict(keys)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise InvalidKeyError(f"Cannot read {self.path}, which holds API keys: {exc.strerror}.") from exc
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            if isinstance(exc, InvalidKeyError):
                raise
            raise InvalidKeyError(f"{self.path} is not a file of API keys; delete it and run `mmaudio login`.") from exc

    def _write(self, keys: Mapping[str, str]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=self.path.parent, prefix=".keys-")  # for this user only
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"keys": dict(keys)}, file, indent=2)
            Path(draft).replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(draft).unlink()
            raise


def server_name(base_url: str | httpx.URL) -> str:
    """Return a server's address in its one form: a key belongs to a scheme, a host, a port and a path."""
    url = httpx.URL(base_url)
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = "" if url.port in {None, _DEFAULT_PORTS.get(url.scheme)} else f":{url.port}"
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"
