# What the scripts of the machine share; sourced.
set -euo pipefail

configuration=/etc/lyncpin/balancer.yaml

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'failed: %s\n' "$*" >&2
    systemctl --no-pager status lyncpin >&2 || true
    [[ ! -e /run/lyncpin.log ]] || tail -n 40 /run/lyncpin.log >&2
    exit 1
}

# same WHAT EXPECTED FOUND
same() {
    [[ $2 == "$3" ]] || fail "$1: expected $2, found $3"
}

# Waits until the command succeeds.
eventually() {
    local try
    for ((try = 0; try < 300; try++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "does not come about: $*"
}

# A property of the unit.
show() {
    systemctl show --property="$1" --value lyncpin
}

shows() {
    [[ $(show "$1") == "$2" ]]
}

# What a metric comes to, over the series that have this in their labels.
metric() {
    curl -s http://127.0.0.1:9901/metrics | awk -v name="$1" -v label="${2-}" \
        'index($0, name) == 1 && index($0, label) { sum += $NF } END { printf "%d\n", sum }'
}

# There is no journal in the machine.
keep_log() {
    mkdir -p /run/systemd/system/lyncpin.service.d
    printf '[Service]\nStandardOutput=append:/run/lyncpin.log\nStandardError=append:/run/lyncpin.log\n' \
        >/run/systemd/system/lyncpin.service.d/log.conf
    systemctl daemon-reload
}

# A server with something to give, and a configuration that leads to it from a low port, by a name that is resolved.
serve_something() {
    mkdir -p /srv/front-end /etc/lyncpin
    head -c 64M /dev/urandom >/srv/front-end/large
    sum=$(sha256sum </srv/front-end/large)
    printf '127.0.0.1 localhost fe01.contoso.com\n' >/etc/hosts
    python3 -m http.server --bind 127.0.0.1 --directory /srv/front-end 18080 >/dev/null 2>&1 &
    eventually curl -sfI http://127.0.0.1:18080/large
    cat >"$configuration" <<'YAML'
listeners:
  web: { bind: ["0.0.0.0:80"], protocol: tcp, pool: web }
pools:
  web: { backends: ["fe01.contoso.com:18080"] }
admin: { bind: "unix:/run/lyncpin/admin", metrics_bind: "127.0.0.1:9901" }
timeouts: { shutdown: 25s }
workers: 2
YAML
}

# The whole of it comes through the balancer, and is what was sent.
fetch() {
    [[ $(curl -sf http://127.0.0.1/large | sha256sum) == "$sum" ]]
}
