"""A client of the API for Python programs, and for the command line as ``python -m shared.client``.

Examples
--------
>>> with Client("http://127.0.0.1:8000") as client:
...     table = client.upload("table.csv")
...     job = client.submit("knn", {"dataset": {"upload": table.id, "label": "species"}, "k": 5})
...     job = client.wait(job.id)
...     client.download(job.id, "out")
"""

from shared.client.api import Client
from shared.client.errors import ClientError
from shared.client.events import Event
from shared.client.responses import Artifact, Job, Progress, StateChange, Upload

__all__ = ["Artifact", "Client", "ClientError", "Event", "Job", "Progress", "StateChange", "Upload"]
