#!/bin/sh
# The bridge in three programs: amqp-consume hands the body to curl, and what it says to amqp-publish. A message is
# acknowledged when all of that has ended well. Neither headers nor ids reach the program, so every request asks for one
# method and no answer says whose it is; and amqp-publish waits for no confirm.
# Settings: AMPQURL, B24REST, AMPQIN, AMPQOUT, and LOOPS, how many run at once.
if [ "$1" = ask ]; then
  curl --silent --retry 1000 --retry-delay 1 --header 'Content-Type: application/json' --data-binary @- \
    "${B24REST}1/secret0token/crm.deal.list" |
    amqp-publish --url="$AMPQURL" --routing-key="${AMPQOUT:-bitrix24out}" --persistent --content-type=application/json
  exit
fi
for loop in $(seq "${LOOPS:-4}"); do
  amqp-consume --url="$AMPQURL" --queue="${AMPQIN:-bitrix24in}" --prefetch-count=10 /bin/sh "$0" ask &
done
echo '{"event":"consuming"}'
wait
