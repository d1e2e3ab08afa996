#!/bin/sh
# Starts Alertmanager with the token of the Telegram bot put into its configuration, which is written to memory only.
# usage: start.sh [further options of alertmanager]
set -eu
umask 077
token=$(cat "${TELEGRAM_TOKEN_FILE:-/run/secrets/telegram_token}")
if [ -z "$token" ]; then
  echo "start.sh: there is no token of a Telegram bot: nothing will be told there" >&2
  token=none # Alertmanager does not start without one, and then nobody is told anything
fi
written="${TMPDIR:-/tmp}/alertmanager.yml"
while IFS= read -r line; do
  case $line in
    *"bot_token: TELEGRAM_TOKEN") printf '%s\n' "${line%TELEGRAM_TOKEN}$token" ;;
    *"- templates/"*) printf '%s\n' "  - ${CONFIG_DIR:-/etc/alertmanager}/templates/*.tmpl" ;;
    *) printf '%s\n' "$line" ;;
  esac
done < "${CONFIG_DIR:-/etc/alertmanager}/alertmanager.yml" > "$written"
exec "${ALERTMANAGER:-/bin/alertmanager}" --config.file="$written" "$@"
