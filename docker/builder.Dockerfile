# A build host: every environment with a toolchain. Conversion and quantization, and runs of an x86-64 host.
# One stage: a copy of 5 GB from another would be made at each build, if only to find that nothing changed.
# Build: podman build -f docker/builder.Dockerfile -t farm-builder .      (docs/containers.md: index, certificates, secrets)
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ARG UV_VERSION=0.13.9
ARG UV_NO_CACHE=1
ARG UV_LINK_MODE=copy
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3.11 python3.11-venv \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && groupadd --gid 10001 farm \
 && useradd --uid 10001 --gid farm --no-create-home --home-dir /var/lib/farm --shell /usr/sbin/nologin farm \
 && install -d -o farm -g farm -m 0711 /var/lib/farm
WORKDIR /opt/farm
COPY workers/__init__.py workers/__init__.py
COPY workers/environments workers/environments
COPY farm/__init__.py farm/__init__.py
COPY farm/domain/__init__.py farm/domain/codec.py farm/domain/errors.py farm/domain/
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf,required=false \
    python3.11 -m venv /tmp/installer \
 && /tmp/installer/bin/python -m pip install --no-cache-dir --no-deps "uv==${UV_VERSION}" \
 && /tmp/installer/bin/python -m workers.environments install builder onnx2tf executorch onnxruntime litert openvino \
 && rm -r /tmp/installer \
 && hardlink --ignore-time .envs
COPY pyproject.toml README.md ./
COPY hardware_profiles hardware_profiles
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf,required=false \
    python3.11 -m venv .venv \
 && .venv/bin/python -m pip install --no-cache-dir --no-deps "uv==${UV_VERSION}" \
 && .venv/bin/python -m workers.environments own --lock worker \
 && .venv/bin/python -m pip uninstall --yes --quiet uv pip setuptools
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
