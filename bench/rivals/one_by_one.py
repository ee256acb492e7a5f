"""The bridge that Debian's python3-pika makes easy: one message after the other, with a confirm, on one connection to
the portal that is kept open. Settings: AMPQURL, B24REST, AMPQIN, AMPQOUT."""
import http.client
import os
import time
from urllib.parse import urlsplit

import pika

rest = urlsplit(os.environ["B24REST"])
open_portal = http.client.HTTPSConnection if rest.scheme == "https" else http.client.HTTPConnection
portal = open_portal(rest.hostname, rest.port)
queue_out = os.environ.get("AMPQOUT", "bitrix24out")


def ask(headers, body):
    path = f"{rest.path}{headers['user']}/{headers['token']}/{headers['method']}"
    while True:
        portal.request("POST", path, body, {"Content-Type": "application/json"})
        response = portal.getresponse()
        answer = response.read()
        if response.status != 503:
            return response.status, answer
        time.sleep(1)


def answer(channel, delivery, properties, body):
    status, text = ask(properties.headers, body)
    channel.basic_publish(
        "",
        queue_out,
        text,
        pika.BasicProperties(
            delivery_mode=2,
            content_type="application/json",
            message_id=properties.message_id,
            correlation_id=properties.correlation_id,
            headers={"method": properties.headers["method"], "status": status},
        ),
    )
    channel.basic_ack(delivery.delivery_tag)


link = pika.BlockingConnection(pika.URLParameters(os.environ["AMPQURL"]))
channel = link.channel()
channel.confirm_delivery()
channel.basic_qos(prefetch_count=50)
channel.basic_consume(os.environ.get("AMPQIN", "bitrix24in"), answer)
print('{"event":"consuming"}', flush=True)
channel.start_consuming()
