"""The object store for the control plane: blobs, uploads, presigned URLs, published names. boto3 is met only here."""

from farm.store.bucket import StoredObject
from farm.store.names import blob_key, safe_name, upload_key
from farm.store.store import Store

__all__ = ["Store", "StoredObject", "blob_key", "safe_name", "upload_key"]
