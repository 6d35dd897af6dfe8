# shellcheck shell=bash
# What a machine needs for Hookyard, and how to get what is missing. Sourced by up, test and check; does nothing by itself.
# Every change to the machine is announced with a line. Debian and Ubuntu only; elsewhere it says what to install.

say() { if [ -t 2 ]; then printf '\033[1m==> %s\033[0m\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif has sudo; then
    sudo "$@"
  else
    fail "this needs root, and there is no sudo: $*"
  fi
}

# Runs a command as the system account $1.
as_account() {
  local account=$1
  shift
  as_root runuser -u "$account" -- "$@"
}

apt_lists_fresh=no

# Installs Debian packages, saying for what: install_packages "to link with libpq" libpq-dev pkg-config
install_packages() {
  local purpose=$1
  shift
  has apt-get || fail "missing $purpose: install the equivalent of these Debian packages: $*"
  say "installing $* ($purpose)"
  if [ $apt_lists_fresh = no ]; then
    as_root apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
    apt_lists_fresh=yes
  fi
  # The locale is for PostgreSQL: its cluster takes the encoding of whoever installs it.
  as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" >&2 </dev/null \
    || fail "apt-get could not install: $*"
}

# What compiles and links the workspace: a C compiler (ring), libpq (diesel) and Rust.
need_build_tools() {
  if ! has cc || [ ! -e /usr/include/stdio.h ]; then
    install_packages "a C compiler and linker" build-essential
  fi
  has pkg-config || install_packages "to find libraries" pkg-config
  if ! pkg-config --exists libpq 2>/dev/null; then
    install_packages "the PostgreSQL client library" libpq-dev
  fi
  need_rust
}

# Rust: the toolchain of rust-toolchain.toml, which rustup's cargo takes (and fetches) by itself.
need_rust() {
  local cargo_home=${CARGO_HOME:-$HOME/.cargo}
  has_wanted_cargo && return
  PATH="$cargo_home/bin:$PATH"
  has_wanted_cargo && return
  if ! has rustup; then
    has curl || install_packages "to download Rust" curl ca-certificates
    say "installing Rust with rustup into $cargo_home"
    if ! curl --proto '=https' --tlsv1.2 -fsS --retry 3 https://sh.rustup.rs \
      | sh -s -- -y --profile minimal --default-toolchain none --no-modify-path; then
      say "rustup.rs cannot be reached; looking for a packaged rustup"
      apt-cache show rustup >/dev/null 2>&1 || fail "cannot get Rust: install Rust $(wanted_rust) from https://rustup.rs"
      install_packages "to install Rust" rustup
    fi
  fi
  has cargo || fail "there is still no cargo in PATH: install Rust $(wanted_rust) from https://rustup.rs"
  has_wanted_cargo || fail "$(command -v cargo) is no cargo $(wanted_rust) or newer: install Rust $(wanted_rust) from https://rustup.rs"
}

# rustup's cargo is always the wanted one here; a distribution's may be too old, and would fail with words of its own.
has_wanted_cargo() {
  local version
  has cargo && version=$(cargo --version | cut -d ' ' -f 2) && [ -n "$version" ] || return 1
  [ "$(printf '%s\n' "$(wanted_rust)" "$version" | sort -V | head -n 1)" = "$(wanted_rust)" ]
}

wanted_rust() { sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml; }

# The directory of the newest installed PostgreSQL server, nothing when there is none.
postgres_bin() {
  local dir
  for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -rV) \
    "$(pg_config --bindir 2>/dev/null || true)" "$(dirname "$(command -v initdb || echo /nonexistent/initdb)")"; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
      echo "$dir"
      return
    fi
  done
}

# The PostgreSQL server's binaries. Debian would also make and start a cluster of the system, which `hookyard up` has no
# use for: it makes its own.
need_postgres_binaries() {
  [ -n "$(postgres_bin)" ] && return
  local config=/etc/postgresql-common/createcluster.conf
  install_packages "the PostgreSQL server" postgresql-common
  as_root sed -i.before-hookyard 's/^#\? *create_main_cluster.*/create_main_cluster = false/' $config
  # In a subshell, so that the configuration is put back when this fails.
  local result=0
  (install_packages "the PostgreSQL server, without a system cluster" postgresql) || result=$?
  as_root mv $config.before-hookyard $config
  [ $result = 0 ] || exit $result
  [ -n "$(postgres_bin)" ] || fail "the PostgreSQL server is still missing after its installation"
}

# Where cargo puts what it builds.
target_dir() { echo "${CARGO_TARGET_DIR:-target}"; }
