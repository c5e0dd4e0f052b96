"""How operator commands open a transaction: a database that does not answer is one sentence."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator

import click
from sqlalchemy.exc import SQLAlchemyError

from jobs.cli.configuration import load_settings_or_exit
from jobs.db.database import Database, Transaction
from jobs.errors import DomainError, RequestInvalidError
from jobs.settings import Settings


@contextlib.contextmanager
def platform_transaction(settings: Settings | None = None) -> Iterator[Transaction]:
    """Open a transaction that sees the rows of all tenants; end the command where something is refused."""
    db = Database((settings or load_settings_or_exit()).database_url).of_platform()
    try:
        with db.transaction() as tx:
            yield tx
    except SQLAlchemyError as exc:
        reason = str(getattr(exc, "orig", exc)).strip()
        raise click.ClickException(
            f"The database did not answer: {reason}. Is it running, and migrated (`mmaudio migrate`)?"
        ) from exc
    except RequestInvalidError as exc:
        raise click.UsageError(exc.message) from exc
    except DomainError as exc:
        raise click.ClickException(exc.message) from exc
    finally:
        db.close()


def cli_actor() -> str:
    """Return how the audit names the person who runs a command."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name
        return "cli"
