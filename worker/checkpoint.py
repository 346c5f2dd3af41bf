"""The checkpoint of one attempt, in the storage."""

import logging
from typing import Final

from shared.files.local import LocalFileStore, checkpoint_key
from shared.jobs import Lease

FIRST_ATTEMPT: Final = 1

logger = logging.getLogger(__name__)


class StoredCheckpoint:
    """Keeps an attempt's checkpoint, and finds those of the attempts before.

    See ``worker.engines.interface.Checkpoint``.

    A checkpoint saves time and nothing else, so none that cannot be kept or
    read fails a job. Those of ended jobs are the sweeper's to remove.
    """

    def __init__(self, storage: LocalFileStore, lease: Lease) -> None:
        self._storage = storage
        self._lease = lease

    def load(self) -> bytes | None:
        """Return what the latest attempt before this one that left something readable stored last."""
        for attempt in range(self._lease.attempt - 1, FIRST_ATTEMPT - 1, -1):
            try:
                content = self._storage.locate(checkpoint_key(self._lease.job_id, attempt)).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                logger.warning("job %s: the checkpoint of attempt %d is lost: %s", self._lease.job_id, attempt, error)
                continue
            logger.info("job %s has a checkpoint of attempt %d", self._lease.job_id, attempt)
            return content
        return None

    def store(self, content: bytes) -> None:
        """Keep this in place of what this attempt stored before."""
        try:
            self._storage.write(checkpoint_key(self._lease.job_id, self._lease.attempt), [content])
        except OSError as error:
            logger.warning("job %s goes on without a new checkpoint: %s", self._lease.job_id, error)
