"""Handing an attempt's files over to the caller's own bucket, in the words of a job: which end each refusal means."""

from __future__ import annotations

from pathlib import Path

from jobs.errors import LeaseLostError, OutputRefusedError, OutputTakenError, StorageFailedError
from jobs.service.attempts import Claim, NewArtifact
from jobs.settings import Settings
from jobs.storage.errors import StorageError, WriteRefusedError


class AttemptDelivery:
    """One attempt's delivery to the caller's bucket (`deliver_to`)."""

    def __init__(self, url: str, claim: Claim, settings: Settings) -> None:
        from jobs.storage.delivery import Delivery  # boto3, which a platform on a folder never needs

        self._url = url
        self._delivery = Delivery.to(url, settings, job_id=claim.job_id, attempt=claim.attempt)

    @classmethod
    def of(cls, claim: Claim, settings: Settings) -> AttemptDelivery | None:
        """Return the delivery that a request asks for; None when it asks for none."""
        url = claim.request.get("deliver_to")
        return cls(url, claim, settings) if url else None

    def put(self, artifact: NewArtifact, path: Path) -> str:
        """Deliver a file; return where it lies, `s3://bucket/key`.

        Raises:
            OutputRefusedError, OutputTakenError, StorageFailedError: why it cannot be delivered.
            LeaseLostError: a later attempt has delivered already.
        """
        from jobs.storage.delivery import KeyTakenError, SupersededError

        try:
            return self._delivery.put(artifact.name, path, content_type=artifact.content_type)
        except WriteRefusedError as exc:
            raise OutputRefusedError(f"{self._url} is not there, or does not let this server write.") from exc
        except KeyTakenError as exc:
            raise OutputTakenError(f"{exc} Nothing was written over it.") from exc
        except SupersededError as exc:
            raise LeaseLostError(str(exc)) from exc
        except StorageError as exc:
            raise StorageFailedError(f"The object store did not take the copy for {self._url}.") from exc

    def withdraw(self) -> None:
        """Remove what this attempt has delivered; raises what `Delivery.withdraw` raises."""
        self._delivery.withdraw()
