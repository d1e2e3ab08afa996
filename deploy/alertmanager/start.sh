#!/bin/sh
# Starts Alertmanager with the token of the Telegram bot put into its configuration, which is written to memory only.
# usage: start.sh [further options of alertmanager]
set -eu
umask 077
token=$(cat "${TELEGRAM_TOKEN_FILE:-/run/secrets/telegram_token}")
written="${TMPDIR:-/tmp}/alertmanager.yml"
while IFS= read -r line; do
  case $line in
    *"bot_token: TELEGRAM_TOKEN") printf '%s\n' "${line%TELEGRAM_TOKEN}$token" ;;
    *"- templates/"*) printf '%s\n' "  - ${CONFIG_DIR:-/etc/alertmanager}/templates/*.tmpl" ;;
    *) printf '%s\n' "$line" ;;
  esac
done < "${CONFIG_DIR:-/etc/alertmanager}/alertmanager.yml" > "$written"
exec "${ALERTMANAGER:-/bin/alertmanager}" --config.file="$written" "$@"
