"""Inspections in tests: inspectors that the tests control, and a thread that inspects what a test uploads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from flask import Flask, request

from shared.inspection.inspectors import Inspector
from shared.inspection.runner import InspectionRunner
from shared.services import Services
from shared.settings import Settings
from tests.support.probe_inspectors import MODULE

MEASURE: Final = Inspector(f"{MODULE}:measure", lambda _settings, read: read, dict)
"""Tells the size of a file; see `tests.support.probe_inspectors.measure`."""

_UPLOADS: Final = "/api/v1/uploads"


@contextmanager
def run_inspections(services: Services) -> Iterator[InspectionRunner]:
    """Inspect uploads in a thread while the block runs."""
    runner = InspectionRunner(services, prepares=False)
    thread = threading.Thread(target=runner.run, name="inspections")
    thread.start()
    try:
        yield runner
    finally:
        runner.stop()
        thread.join()


class UploadInspections:
    """Inspects the uploads of an application that runs in the test; the thread starts at the first upload."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._settings = settings
        self._stop: Callable[[], Any] | None = None
        app.before_request(self._start)

    def _start(self) -> None:
        if self._stop is None and (request.path == _UPLOADS or request.mimetype == "multipart/form-data"):
            services = Services.open(self._settings)
            running = run_inspections(services)
            running.__enter__()

            def stop() -> None:
                running.__exit__(None, None, None)
                services.close()

            self._stop = stop

    def close(self) -> None:
        """End the thread."""
        if self._stop is not None:
            self._stop()
