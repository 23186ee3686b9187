"""The Python client: `from farm import Client`."""

from __future__ import annotations

from farm.client.client import Client
from farm.client.job import Job
from farm.client.models import Model

__all__ = ["Client", "Job", "Model"]
