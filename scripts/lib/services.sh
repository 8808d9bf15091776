# shellcheck shell=bash
# PostgreSQL and RabbitMQ for tests: what runs already is used, what is missing is started, private to this use. Sourced
# after common.sh, never run. A caller sets services_dir to a directory of its own before starting anything and calls
# stop_services at the end; that stops exactly what was started below that directory.
#
# In and out:
#   LARKAUTH_TEST_DATABASE_URL, LARKAUTH_TEST_AMQP_URL   used when set, set when not
#   LARKAUTH_TEST_PRIVATE_SERVICES=1                     never use what happens to listen on 5432 and 5672

lib_dir=$(dirname "${BASH_SOURCE[0]}")
services_dir=

# --- helpers --------------------------------------------------------------------------------------------------------

# A directory that a service's own user can reach too.
make_services_dir() {
  services_dir=$(mktemp -d /tmp/larkauth-services.XXXXXX)
  chmod 711 "$services_dir"
}

# Whom a service runs as: it must not be root (PostgreSQL refuses that, and nothing here needs it).
service_user() {
  if [[ $(id -u) != 0 ]]; then id -un; elif id "$1" >/dev/null 2>&1; then echo "$1"; else echo nobody; fi
}

# as_user USER COMMAND...: becomes the command, so in the background its pid is that of the subshell around it.
as_user() {
  local user=$1
  shift
  # The caller's own directory may be closed to that user; and started_here looks at this.
  cd "$services_dir" || exit
  if [[ $(id -u) != 0 ]]; then exec "$@"; fi
  exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@"
}

port_open() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range from which the kernel takes ports for outgoing connections.
free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)); port_open "$port"; do :; done
  echo "$port"
}

random_password() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# started_here PID: whether it is alive and works below services_dir (a pid may belong to somebody else by now).
started_here() { [[ "$(readlink "/proc/$1/cwd")/" == "$services_dir"/* ]]; }

# --- PostgreSQL -----------------------------------------------------------------------------------------------------

# The directory of the server's programs; Debian keeps them off the PATH.
postgres_programs() {
  local initdb
  initdb=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1) || true
  initdb=${initdb:-$(command -v initdb)} && dirname "$initdb"
}

# postgres_usable URL: whether one can log in there and create databases. Says what it is, or why not.
postgres_usable() {
  local answer
  answer=$(PGCONNECT_TIMEOUT=5 psql --no-psqlrc --no-password --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$1" 2>&1 <<'SQL'
select case
  when current_setting('server_version_num')::int < 130000 then 'too old: ' || current_setting('server_version')
  when not (rolcreatedb or rolsuper) then 'user ' || rolname || ' may not create databases'
  else 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1) || ', user ' || rolname end
from pg_roles where rolname = current_user;
SQL
  ) || true
  printf '%s\n' "$answer" | tr '\n' ' '
  [[ $answer == PostgreSQL\ * ]]
}

use_postgres() {
  local user url answer
  if ! have psql; then apt_install "PostgreSQL" postgresql; fi
  if [[ -n ${LARKAUTH_TEST_DATABASE_URL:-} ]]; then
    answer=$(postgres_usable "$LARKAUTH_TEST_DATABASE_URL") || die "LARKAUTH_TEST_DATABASE_URL: $answer"
    say "database: $answer(LARKAUTH_TEST_DATABASE_URL)"
    return
  fi
  if [[ -z ${LARKAUTH_TEST_PRIVATE_SERVICES:-} ]] && port_open 5432; then
    for user in postgres "$(id -un)"; do
      url="postgres://$user@127.0.0.1:5432/postgres?sslmode=disable"
      if answer=$(postgres_usable "$url"); then
        say "database: $answer(already running on 127.0.0.1:5432)"
        export LARKAUTH_TEST_DATABASE_URL=$url
        return
      fi
    done
    say "database: 127.0.0.1:5432 cannot be used ($answer)"
  fi
  start_postgres
}

start_postgres() {
  local programs user dir=$services_dir/postgres port password
  programs=$(postgres_programs) || { apt_install "PostgreSQL" postgresql; programs=$(postgres_programs); }
  user=$(service_user postgres)
  port=$(free_port)
  password=$(random_password)
  mkdir "$dir"
  (umask 077 && printf '%s\n' "$password" >"$dir/password")
  if [[ $(id -u) == 0 ]]; then chown -R "$user" "$dir"; fi
  (as_user "$user" "$programs/initdb" --pgdata="$dir/data" --username=postgres --auth=scram-sha-256 \
    --pwfile="$dir/password" --encoding=UTF8 --no-locale --no-sync) >"$services_dir/initdb.log" 2>&1 ||
    { cat "$services_dir/initdb.log" >&2; die "a private PostgreSQL could not be made"; }
  # What it keeps is thrown away afterwards, so nothing needs to survive a power cut.
  (as_user "$user" tee -a "$dir/data/postgresql.conf") >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 300
fsync = off
full_page_writes = off
CONF
  (as_user "$user" "$programs/pg_ctl" start --pgdata="$dir/data" \
    --log="$dir/log" --wait --timeout=30 --silent) >/dev/null 2>&1 </dev/null ||
    { cat "$dir/log" >&2; die "a private PostgreSQL did not start"; }
  say "database: private PostgreSQL on 127.0.0.1:$port"
  export LARKAUTH_TEST_DATABASE_URL=postgres://postgres:$password@127.0.0.1:$port/postgres
}

stop_postgres() {
  local pid_file=$services_dir/postgres/data/postmaster.pid pid
  [[ -f $pid_file ]] || return 0
  pid=$(head -n 1 "$pid_file")
  if started_here "$pid"; then
    # SIGINT is PostgreSQL's "fast" shutdown: it does not wait for clients.
    kill -INT "$pid" 2>/dev/null || true
    wait_gone "$pid"
  fi
}

# Tests start it themselves, in front of the server.
need_pgbouncer() {
  have pgbouncer || [[ -x /usr/sbin/pgbouncer ]] || apt_install "PgBouncer" pgbouncer
}

# --- RabbitMQ -------------------------------------------------------------------------------------------------------

# The server itself rather than the distribution's wrapper, which insists on its own user and its own folders.
rabbitmq_server() {
  local server=/usr/lib/rabbitmq/bin/rabbitmq-server
  if [[ -x $server ]]; then echo $server; else command -v rabbitmq-server; fi
}

# rabbitmq_usable URL: whether one can log in there. Says what it is, or why not.
rabbitmq_usable() { AMQP_URL=$1 python3 "$lib_dir/amqp_probe.py" 2>&1; }

use_rabbitmq() {
  local url=amqp://guest:guest@127.0.0.1:5672/%2f answer
  need_python
  if [[ -n ${LARKAUTH_TEST_AMQP_URL:-} ]]; then
    answer=$(rabbitmq_usable "$LARKAUTH_TEST_AMQP_URL") || die "LARKAUTH_TEST_AMQP_URL: $answer"
    say "broker: $answer (LARKAUTH_TEST_AMQP_URL)"
    return
  fi
  if [[ -z ${LARKAUTH_TEST_PRIVATE_SERVICES:-} ]] && port_open 5672; then
    if answer=$(rabbitmq_usable "$url"); then
      say "broker: $answer (already running on 127.0.0.1:5672)"
      export LARKAUTH_TEST_AMQP_URL=$url
      return
    fi
    say "broker: 127.0.0.1:5672 cannot be used ($answer)"
  fi
  start_rabbitmq
}

# Plugins of a private RabbitMQ, separated by commas, and settings for them; a caller may set both before.
rabbitmq_plugins=
rabbitmq_settings=

start_rabbitmq() {
  local server user dir=$services_dir/rabbitmq port epmd_port dist_port password url settings
  server=$(rabbitmq_server) || { apt_install "RabbitMQ" rabbitmq-server; server=$(rabbitmq_server); }
  user=$(service_user rabbitmq)
  port=$(free_port) epmd_port=$(free_port) dist_port=$(free_port)
  [[ $port != "$epmd_port" && $port != "$dist_port" && $epmd_port != "$dist_port" ]] || { start_rabbitmq; return; }
  password=$(random_password)
  url=amqp://guest:$password@127.0.0.1:$port/%2f
  mkdir "$dir"
  (umask 077 && cat >"$dir/rabbitmq.conf") <<CONF
listeners.tcp.1 = 127.0.0.1:$port
default_user = guest
default_pass = $password
disk_free_limit.absolute = 100MB
$rabbitmq_settings
CONF
  echo "[$rabbitmq_plugins]." >"$dir/enabled_plugins"
  : >"$dir/rabbitmq-env.conf"
  if [[ $(id -u) == 0 ]]; then chown -R "$user" "$dir"; fi
  settings=(
    "HOME=$dir" "PATH=$PATH" "LC_ALL=C.UTF-8"
    "ERL_EPMD_ADDRESS=127.0.0.1" "ERL_EPMD_PORT=$epmd_port"
    "RABBITMQ_NODENAME=larkauth-$port@localhost" "RABBITMQ_NODE_PORT=$port" "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1"
    "RABBITMQ_DIST_PORT=$dist_port" "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}"
    "RABBITMQ_MNESIA_BASE=$dir/mnesia" "RABBITMQ_LOG_BASE=$dir/log" "RABBITMQ_PID_FILE=$dir/node.pid"
    "RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf" "RABBITMQ_CONF_ENV_FILE=$dir/rabbitmq-env.conf"
    "RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins"
  )
  # Sessions of their own: an interrupt at the terminal must not take them away before the tests have ended.
  (as_user "$user" env -i "${settings[@]}" setsid epmd) >"$dir/epmd.log" 2>&1 </dev/null &
  echo $! >"$services_dir/epmd.pid"
  disown
  (as_user "$user" env -i "${settings[@]}" setsid "$server") >"$dir/start.log" 2>&1 </dev/null &
  echo $! >"$services_dir/rabbitmq.pid"
  disown
  {
    printf '#!/bin/sh\nexec env -i'
    printf ' %q' "${settings[@]}" "$(dirname "$server")/rabbitmqctl"
    printf ' "$@"\n'
  } >"$services_dir/rabbitmqctl"
  chmod +x "$services_dir/rabbitmqctl"
  local deadline=$((SECONDS + 60))
  until rabbitmq_usable "$url" >/dev/null; do
    if ((SECONDS > deadline)) || ! kill -0 "$(cat "$services_dir/rabbitmq.pid")" 2>/dev/null; then
      tail -n 30 "$dir/start.log" >&2
      die "a private RabbitMQ did not start"
    fi
    sleep 0.3
  done
  say "broker: private RabbitMQ on 127.0.0.1:$port"
  export LARKAUTH_TEST_AMQP_URL=$url
}

stop_rabbitmq() {
  local name pid
  for name in rabbitmq epmd; do
    [[ -f $services_dir/$name.pid ]] || continue
    pid=$(cat "$services_dir/$name.pid")
    if started_here "$pid"; then
      # The whole process group: the server is a shell with the Erlang machine below it. Its data goes anyway.
      kill -KILL -- "-$pid" 2>/dev/null || true
      wait_gone "$pid"
    fi
  done
}

# --- both -----------------------------------------------------------------------------------------------------------

# A dead process that nobody has collected yet works nowhere, so it counts as gone.
wait_gone() {
  local deadline=$((SECONDS + 10))
  while started_here "$1" && ((SECONDS < deadline)); do sleep 0.1; done
}

stop_services() {
  if [[ -n $services_dir && -d $services_dir ]]; then
    stop_rabbitmq
    stop_postgres
    rm -rf "$services_dir"
  fi
}

# For a script that needs services while it runs: whatever ends it, what it started is stopped.
stop_services_on_exit() {
  make_services_dir
  trap stop_services EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}
