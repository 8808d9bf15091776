# shellcheck shell=bash
# What the scripts share. Sourced, never run.

# Progress and errors go to standard error: standard output belongs to what a script prints.
say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# usage "$0": prints the comment at the head of a script, without the marks, wherever it was called from.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "scripts/${1##*/}"; }

# apt_install REASON PACKAGE...: installs Debian packages, or says in one line what to install.
apt_install() {
  local reason=$1
  shift
  if [[ $(id -u) != 0 ]] || ! have apt-get; then
    die "$reason is needed and not there: install it (on Debian as root: apt-get install $*), then try again"
  fi
  say "installing $* for $reason"
  # In a subshell of its own, so that the ban on starting the installed services is lifted again whatever happens.
  (
    policy=/usr/sbin/policy-rc.d
    log=$(mktemp)
    ban=
    trap 'rm -f "$log" $ban' EXIT
    if [[ ! -e $policy ]]; then
      ban=$policy
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null ||
      { tail -n 20 "$log" >&2; die "apt-get could not install $*"; }
  )
}

need_rust() {
  have cargo || die "Rust is needed and not there: install it from https://rustup.rs, then try again"
  # The crypto library is compiled from C.
  have cc || apt_install "a C compiler" gcc libc6-dev
}

python_usable() {
  python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null
}

need_python() {
  python_usable || apt_install "Python 3.9 or newer with venv" python3 python3-venv
  python_usable || die "the python3 on the PATH is older than 3.9 or lacks venv: put a newer one first"
}

node_usable() {
  have npm && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null
}

need_node() {
  if ! node_usable; then
    if ! have node; then
      apt_install "Node.js 18 or newer with npm" nodejs npm
    elif ! have npm; then
      apt_install "npm" npm
    fi
  fi
  node_usable || die "the node on the PATH is older than 18 or lacks npm: put a newer one first"
}
