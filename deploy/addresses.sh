# Where things are. Every recipe's `run` reads this file; set a variable to change it.
#
# LISTEN    where the gateway takes the identity provider's requests
# LEDGER    the ledger, `scim-ledger serve`
# BACKEND   your SCIM service, which must not be reachable past the gateway
# RUN_DIR   scratch directory of the gateway; a new one unless given
export LISTEN_HOST="${LISTEN_HOST:-127.0.0.1}" LISTEN_PORT="${LISTEN_PORT:-8000}"
export LEDGER_HOST="${LEDGER_HOST:-127.0.0.1}" LEDGER_PORT="${LEDGER_PORT:-8080}"
export BACKEND_HOST="${BACKEND_HOST:-127.0.0.1}" BACKEND_PORT="${BACKEND_PORT:-9000}"
# Before a port an IPv6 address stands in brackets, however it was given.
for name in LISTEN LEDGER BACKEND; do
  eval "host=\$${name}_HOST port=\$${name}_PORT"
  case $host in
    \[*) ;;
    *:*) export "${name}_HOST=[$host]" ;;
  esac
  case $port in
    *[!0-9]*)
      echo "${name}_PORT is not a port: $port. Set it to a number from 1 to 65535." >&2
      exit 2
      ;;
  esac
done
# A user's PATH lacks it on Debian, where nginx and haproxy are in it.
export PATH="$PATH:/usr/sbin"
export RUN_DIR="${RUN_DIR:-$(mktemp -d)}"

# Fills ${LEDGER_HOST} and the like in, and leaves every other dollar sign alone.
fill_in() {
  envsubst '$LISTEN_HOST $LISTEN_PORT $LEDGER_HOST $LEDGER_PORT $BACKEND_HOST $BACKEND_PORT'
}
