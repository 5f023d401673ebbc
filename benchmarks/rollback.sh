#!/bin/sh
# The rollback as people write it without ce-run: the calls of runbooks/emergency-rollback.yml, one
# after the other, with kubectl and curl. Traffic first, pods second; it stops at the first failure.
# It keeps no journal, takes no lock and asks nobody. Needed in the environment: KUBECONFIG,
# NAMESPACE, APP_URL, HAPROXY (host:port), METRICS_URL, SLACK_URL, PAGERDUTY_URL, STATUSPAGE_URL,
# WEBHOOK_URL, SMTP (host:port), WORK (an empty folder).
set -eu

k() { kubectl --namespace "$NAMESPACE" "$@"; }
get() { curl --silent --show-error --fail --max-time 5 "$@"; }
post() { get --output /dev/null --header 'Content-Type: application/json' "$@"; }

# -- traffic first ----------------------------------------------------------------------------------
k get pods --selector app=claude-enhancer,version=5.0 --output \
  'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}' | grep -q True
k patch service claude-enhancer-service --patch '{"spec":{"selector":{"version":"5.0"}}}'
printf 'set weight claude_split/stable 100; set weight claude_split/canary 0\nquit\n' \
  | curl --silent --max-time 5 "telnet://$HAPROXY" || true
printf 'show servers state claude_split\nquit\n' \
  | { curl --silent --max-time 5 "telnet://$HAPROXY" || true; } \
  | awk '$4 == "canary" { canary = $8 } END { exit canary != 0 }'
k patch virtualservice claude-enhancer-traffic --type json --patch '[
  {"op": "replace", "path": "/spec/http/0/route/0/destination/subset", "value": "stable"},
  {"op": "replace", "path": "/spec/http/1/route/0/weight", "value": 100},
  {"op": "replace", "path": "/spec/http/1/route/1/weight", "value": 0}]'
get "$APP_URL/health" | grep -q '"version": *"5.0"'

# -- pods second --------------------------------------------------------------------------------------
k scale deployment claude-enhancer-green --replicas 0
k delete deployment claude-enhancer-canary --ignore-not-found --wait=false
k delete configmap claude-enhancer-5.1-config --ignore-not-found --wait=false

# -- is it what it was? -------------------------------------------------------------------------------
test "$(k get service claude-enhancer-service --output 'jsonpath={.spec.selector.version}')" = 5.0
for _ in $(seq 20); do
  get "$APP_URL/health/ready" | grep -q '"version": *"5.0"'
done
for metric in error_rate p95 agents_loaded agents_total sessions_lost; do
  get --get "$METRICS_URL/api/v1/query" --data-urlencode "query=$metric{version=\"5.0\"}" >"$WORK/$metric"
done
k exec redis-0 -- redis-cli PING | grep -q PONG
k get configmap claude-enhancer-agents --output json >"$WORK/agents"

# -- tell ---------------------------------------------------------------------------------------------
said='Rolled back: all traffic is on 5.0 again'
post --data "{\"text\": \"$said\"}" "$SLACK_URL/team"
post --data "{\"routing_key\": \"00000000000000000000000000000000\", \"event_action\": \"trigger\",
  \"payload\": {\"summary\": \"$said\", \"source\": \"rollback.sh\", \"severity\": \"warning\"}}" \
  "$PAGERDUTY_URL"
post --data "{\"text\": \"$said\"}" "$WEBHOOK_URL/in-app"
post --header 'Authorization: OAuth lab' "$STATUSPAGE_URL/pages/lab/incidents" \
  --data "{\"incident\": {\"name\": \"$said\", \"status\": \"monitoring\", \"body\": \"$said\"}}"
printf 'From: deployments@example.com\r\nTo: engineering@example.com\r\nSubject: %s\r\n\r\n%s\r\n' \
  "$said" "$said" >"$WORK/mail"
curl --silent --show-error --max-time 5 "smtp://$SMTP" --mail-from deployments@example.com \
  --mail-rcpt engineering@example.com --upload-file "$WORK/mail"
post --data "{\"text\": \"Rolled back: Claude Enhancer runs 5.0 again\"}" "$SLACK_URL/team"
