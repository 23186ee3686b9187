"""Verified, resumable transfers by presigned URL: the same code for clients and workers. No credentials, no boto3."""

from farm.transfer.digest import hash_file
from farm.transfer.download import download
from farm.transfer.link import Link, Progress, open_link
from farm.transfer.tree import fetch_tree
from farm.transfer.upload import Tickets, upload

__all__ = ["Link", "Progress", "Tickets", "download", "fetch_tree", "hash_file", "open_link", "upload"]
