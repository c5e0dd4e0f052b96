"""Handing an attempt's files over to the caller's own bucket, in the words of a job: which end each refusal means."""

from __future__ import annotations

from pathlib import Path

from jobs.errors import LeaseLostError, OutputRefusedError, OutputTakenError, StorageFailedError
from jobs.service.work import Claim, NewArtifact
from jobs.settings import Settings
from jobs.storage.errors import StorageError, WriteRefusedError


class Handover:
    """One attempt's delivery to `output`."""

    def __init__(self, output: str, claim: Claim, settings: Settings) -> None:
        from jobs.storage.delivery import Delivery  # boto3, which a platform on a folder never needs

        self._output = output
        self._delivery = Delivery.to(output, settings, job_id=claim.job_id, attempt=claim.attempt)

    @classmethod
    def of(cls, claim: Claim, settings: Settings) -> Handover | None:
        """Return the handover that a request asks for; None when it asks for none."""
        output = claim.request.get("output")
        return cls(output, claim, settings) if output else None

    def put(self, artifact: NewArtifact, path: Path) -> str:
        """Deliver a file; return where it lies, `s3://bucket/key`.

        Raises:
            OutputRefusedError, OutputTakenError, StorageFailedError: why it cannot be delivered.
            LeaseLostError: a later attempt has delivered already.
        """
        from jobs.storage.delivery import KeyTakenError, OvertakenError

        try:
            return self._delivery.put(artifact.name, path, content_type=artifact.content_type)
        except WriteRefusedError as exc:
            raise OutputRefusedError(f"{self._output} is not there, or does not let this server write.") from exc
        except KeyTakenError as exc:
            raise OutputTakenError(f"{exc} Nothing was written over it.") from exc
        except OvertakenError as exc:
            raise LeaseLostError(str(exc)) from exc
        except StorageError as exc:
            raise StorageFailedError(f"The object store did not take the copy for {self._output}.") from exc

    def withdraw(self) -> None:
        """Remove what this attempt has delivered; raises what `Delivery.withdraw` raises."""
        self._delivery.withdraw()
