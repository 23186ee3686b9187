# An aarch64 target: ONNX Runtime and LiteRT. Under emulation its steps need a launcher outside (docs/containers.md).
# Build: podman build -f docker/worker-arm64.Dockerfile -t farm-worker-arm64 .      (docs/containers.md: index, certificates, secrets)
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ENV UV_NO_CACHE=1 UV_LINK_MODE=copy PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3.11 python3.11-venv \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
WORKDIR /opt/farm
COPY pyproject.toml README.md ./
COPY hardware_profiles hardware_profiles
COPY workers/__init__.py workers/__init__.py
COPY workers/environments workers/environments
COPY farm/__init__.py farm/__init__.py
COPY farm/domain/__init__.py farm/domain/codec.py farm/domain/errors.py farm/domain/
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf,required=false \
    python3.11 -m venv .venv \
 && .venv/bin/python -m pip install --no-cache-dir --no-deps "uv==${UV_VERSION}" \
 && .venv/bin/python -m workers.environments own --lock worker \
 && .venv/bin/python -m workers.environments install onnxruntime litert \
 && .venv/bin/python -m pip uninstall --yes --quiet uv pip setuptools \
 && find .venv .envs -type d -name tests -prune -exec rm -rf {} + \
 && hardlink --ignore-time .envs

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3.11 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && groupadd --gid 10001 farm \
 && useradd --uid 10001 --gid farm --no-create-home --home-dir /var/lib/farm --shell /usr/sbin/nologin farm \
 && install -d -o farm -g farm -m 0711 /var/lib/farm
COPY --from=build /opt/farm /opt/farm
COPY hardware_profiles /opt/farm/hardware_profiles
COPY workers /opt/farm/workers
COPY farm /opt/farm/farm
COPY docker/health.py /opt/farm/docker/
RUN python3.11 -m compileall -q /opt/farm/workers /opt/farm/farm /opt/farm/docker
ENV PATH=/opt/farm/.venv/bin:$PATH PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 TORCH_FORCE_WEIGHTS_ONLY_LOAD=1 \
    HOME=/var/lib/farm FARM_WORK_DIR=/var/lib/farm/work FARM_CACHE_DIR=/var/lib/farm/cache
USER 10001:10001
WORKDIR /var/lib/farm
VOLUME ["/var/lib/farm"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s CMD ["python", "/opt/farm/docker/health.py", "worker"]
CMD ["farm", "worker", "--profile", "auto"]
