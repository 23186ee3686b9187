"""Benchmarks: the farm's figures, each beside the limit that the same run of the same machine sets."""
