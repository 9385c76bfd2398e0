#!/bin/sh
# Asks for a briefing and waits until it is written; fails, with what came back, when it is not within two minutes.
#   briefing.sh URL TOKEN
set -eu
url=$1/api/v1/briefings token=$2
ask() { curl --fail-with-body --silent --show-error --retry 10 --retry-connrefused --retry-delay 1 --header "authorization: Bearer $token" "$@"; }

id=$(ask --header "idempotency-key: tilt-$$-$(date +%s)" --json '{"topic": "Coffee"}' "$url" | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p')
echo "asked for $id"
last=
for _ in $(seq 120); do
  last=$(ask "$url/$id")
  case $last in
    *'"status":"completed"'*) echo "$last"; exit 0 ;;
    *'"status":"failed"'*) break ;;
  esac
  sleep 1
done
echo "not completed: $last" >&2
exit 1
