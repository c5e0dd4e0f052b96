"""Delivers an attempt's files to the caller's own bucket and turns storage errors into job errors."""

from __future__ import annotations

from pathlib import Path

from jobs.db.database import Database
from jobs.errors import BucketFailedError, LeaseLostError, OutputRefusedError, OutputTakenError, StorageRefusedError
from jobs.s3_urls import DELIVERY_URL
from jobs.service.attempts import Claim, NewArtifact
from jobs.settings import Settings
from jobs.storage.errors import ServerRefusedError, StorageError, WriteRefusedError
from jobs.tenants.locations import allows_folder, not_allowed_output
from jobs.tenants.rules import named_output_buckets


def check_delivery_allowed(db: Database, claim: Claim) -> None:
    """Check that an operator still lets the job's tenant deliver to where the request names.

    Raises:
        OutputRefusedError: it may not.
        SQLAlchemyError: the database does not answer.
    """
    match = DELIVERY_URL.fullmatch(claim.request.get("deliver_to") or "")
    if match is None:
        return
    with db.of_tenant(claim.tenant).reading() as tx:
        allowed = named_output_buckets(tx)
    # The settings, which name the buckets of the tenant `default`, were looked at when the job was submitted.
    if allowed is not None and not allows_folder(allowed, match["bucket"], match["prefix"]):
        raise OutputRefusedError(f"Not delivered: {not_allowed_output(allowed, match['bucket'])}.")


class AttemptDelivery:
    """One attempt's delivery to the caller's bucket (`deliver_to`)."""

    def __init__(self, url: str, claim: Claim, settings: Settings) -> None:
        from jobs.storage.delivery import Delivery  # imports boto3, which a platform on a folder does not need

        self._url = url
        self._delivery = Delivery.from_settings(url, settings, job_id=claim.job_id, attempt=claim.attempt)

    @classmethod
    def of(cls, claim: Claim, settings: Settings) -> AttemptDelivery | None:
        """Return the delivery for a claim's `deliver_to`; None when the request has none."""
        url = claim.request.get("deliver_to")
        return cls(url, claim, settings) if url else None

    def put(self, artifact: NewArtifact, path: Path) -> str:
        """Deliver a file; return its URL, `s3://bucket/key`.

        Raises:
            OutputRefusedError: the bucket does not exist, or this server may not write there.
            OutputTakenError: another object has the key.
            BucketFailedError, StorageRefusedError: the store does not answer, or refuses this server.
            LeaseLostError: a later attempt has already delivered.
        """
        from jobs.storage.delivery import KeyTakenError, SupersededError

        try:
            return self._delivery.put(artifact.name, path, content_type=artifact.content_type)
        except WriteRefusedError as exc:
            raise OutputRefusedError(
                f"The bucket of {self._url} does not exist, or this server may not write to it."
            ) from exc
        except KeyTakenError as exc:
            raise OutputTakenError(f"{exc} It was not overwritten.") from exc
        except SupersededError as exc:
            raise LeaseLostError(str(exc)) from exc
        except ServerRefusedError as exc:
            raise StorageRefusedError(f"The object store {exc.summary}: {exc}") from exc
        except StorageError as exc:
            raise BucketFailedError(f"The object store of {self._url} {exc.summary}; nothing was delivered.") from exc

    def withdraw(self) -> None:
        """Delete what this attempt has delivered; raises what `Delivery.withdraw` raises."""
        self._delivery.withdraw()
