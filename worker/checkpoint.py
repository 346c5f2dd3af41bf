"""The checkpoints of a job's attempts, in the file store."""

import logging
from typing import Final

from shared.files.file_store import FileStore
from shared.files.keys import checkpoint_key
from shared.jobs import Lease

FIRST_ATTEMPT: Final = 1

logger = logging.getLogger(__name__)


class StoredCheckpoint:
    """Stores the checkpoint of an attempt, and loads the checkpoints of earlier attempts.

    It implements ``worker.engines.interface.Checkpoint``.

    A checkpoint only saves time, so a checkpoint that cannot be stored or
    read never fails a job. The sweeper removes the checkpoints of ended jobs.
    """

    def __init__(self, files: FileStore, lease: Lease) -> None:
        self._files = files
        self._lease = lease

    def load(self) -> bytes | None:
        """Return the checkpoint of the latest earlier attempt whose checkpoint can be read, or ``None``."""
        for attempt in range(self._lease.attempt - 1, FIRST_ATTEMPT - 1, -1):
            try:
                with self._files.open(checkpoint_key(self._lease.job_id, attempt)) as file:
                    content = file.read()
            except FileNotFoundError:
                continue
            except OSError as error:
                logger.warning(
                    "job %s: the checkpoint of attempt %d cannot be read: %s", self._lease.job_id, attempt, error
                )
                continue
            logger.info("job %s continues from the checkpoint of attempt %d", self._lease.job_id, attempt)
            return content
        return None

    def store(self, content: bytes) -> None:
        """Replace the checkpoint of this attempt."""
        try:
            self._files.put(checkpoint_key(self._lease.job_id, self._lease.attempt), [content])
        except OSError as error:
            logger.warning("job %s continues without a new checkpoint: %s", self._lease.job_id, error)
