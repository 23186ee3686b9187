"""The report of a job: typed values, JSON, terminal table and page."""

from __future__ import annotations

from farm.report.model import Report, Result

__all__ = ["Report", "Result"]
