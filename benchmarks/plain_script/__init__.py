"""The conversions without a farm: the same toolchain calls, checks and writes, one process per environment."""
