"""The embedded stack: PostgreSQL, Redis and S3 from wheels, and the farm's parts, supervised, in one data folder."""

from farm.local.fixture import services
from farm.local.info import StackInfo
from farm.local.stack import ALL, SERVICES, Stack, find_running

__all__ = ["ALL", "SERVICES", "Stack", "StackInfo", "find_running", "services"]
