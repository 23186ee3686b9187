#!/bin/sh
# Install this machine as a host of the farm at $url. FARM_TOKEN is the host's own token.
#   FARM_PREFIX   where the worker is installed                    (/opt/edge-model-farm)
#   FARM_STATE    its settings, scratch space and cache            (/var/lib/edge-model-farm)
#   FARM_START    "systemd", or "no": install and print the command  (systemd where it runs)
set -eu
farm_url=$url
host=$name
environments=$environments
prefix=$${FARM_PREFIX:-/opt/edge-model-farm}
state=$${FARM_STATE:-/var/lib/edge-model-farm}
unit=edge-model-farm-worker.service
fail() { echo "join: $$*" >&2; exit 1; }
[ -n "$${FARM_TOKEN:-}" ] || fail "FARM_TOKEN is not set; farm host enroll $$host prints the whole command."
command -v curl >/dev/null || fail "curl is missing. Debian: apt install curl"
command -v python3.11 >/dev/null || fail "python3.11 is missing. Debian 12: apt install python3.11 python3.11-venv"
python3.11 -c 'import ensurepip, venv' 2>/dev/null || fail "python3.11 has no venv module. Debian 12: apt install python3.11-venv"

umask 022
mkdir -p "$$prefix" "$$state"
echo "join: fetching the farm's own version of the worker from $$farm_url" >&2
printf 'header = "Authorization: Bearer %s"\n' "$$FARM_TOKEN" \
  | curl -fsS -K - -o "$$prefix/source.tar.gz" "$$farm_url/v1/hosts/source.tar.gz"
rm -rf "$$prefix/farm" "$$prefix/workers" "$$prefix/hardware_profiles"
tar -xzf "$$prefix/source.tar.gz" -C "$$prefix"
rm "$$prefix/source.tar.gz"

cd "$$prefix"
[ -x .venv/bin/python ] || python3.11 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps uv==0.13.9
.venv/bin/python -m workers.environments own --lock worker
# shellcheck disable=SC2086
.venv/bin/python -m workers.environments install $$environments

umask 077
cat >"$$state/worker.env" <<END
FARM_URL=$$farm_url
FARM_TOKEN=$$FARM_TOKEN
FARM_HOST_NAME=$$host
FARM_WORK_DIR=$$state/work
FARM_CACHE_DIR=$$state/cache
FARM_ENVIRONMENTS_DIR=$$prefix/.envs
ORT_DISABLE_TELEMETRY=1
TORCH_FORCE_WEIGHTS_ONLY_LOAD=1
PYTHONUNBUFFERED=1
END
umask 022
cat >"$$state/$$unit" <<END
[Unit]
Description=Edge model farm worker $$host
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
EnvironmentFile=$$state/worker.env
WorkingDirectory=$$state
ExecStart=$$prefix/.venv/bin/farm worker
Restart=always
RestartSec=5
# 2: the machine is not what its profile says; 77: the farm turned the worker away. Neither mends by itself.
RestartPreventExitStatus=2 77
TimeoutStopSec=30
KillMode=mixed

[Install]
WantedBy=multi-user.target
END

start=$${FARM_START:-}
[ -n "$$start" ] || { [ -d /run/systemd/system ] && start=systemd || start=no; }
if [ "$$start" = systemd ]; then
  cp "$$state/$$unit" "/etc/systemd/system/$$unit"
  systemctl daemon-reload
  systemctl enable --now "$$unit"
  echo "join: $$unit runs; journalctl -u $$unit shows its log" >&2
else
  echo "join: no systemd here; the unit lies in $$state/$$unit. Start the worker by:" >&2
  echo "set -a; . $$state/worker.env; set +a; cd $$state && exec $$prefix/.venv/bin/farm worker"
fi
