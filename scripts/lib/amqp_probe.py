"""Logs in to the broker of AMQP_URL and opens its virtual host; prints what it is.

Ends with 0 when it is a RabbitMQ that larkauth can use (3.10 or newer: quorum queues with a TTL), else with 1 and one
line on standard error. Speaks just enough AMQP 0-9-1 to need nothing but Python.
"""

import os
import re
import socket
import ssl
import struct
import sys
from urllib.parse import unquote, urlsplit

DEADLINE = 5.0
OLDEST = (3, 10)
START, TUNE, OPEN_OK = (10, 10), (10, 30), (10, 41)


def short(text):
    return bytes([len(text)]) + text


def long(text):
    return struct.pack(">I", len(text)) + text


class Connection:
    def __init__(self, url):
        port = url.port or (5671 if url.scheme == "amqps" else 5672)
        self.socket = socket.create_connection((url.hostname, port), DEADLINE)
        if url.scheme == "amqps":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=url.hostname)
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")

    def read(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return data

    def expect(self, method, refusal):
        try:
            _, _, size = struct.unpack(">BHI", self.read(7))
            payload = self.read(min(size, 1 << 20) + 1)[:-1]
        except ConnectionError:
            sys.exit(refusal)
        if struct.unpack(">HH", payload[:4]) != method:
            sys.exit(refusal)
        return payload[4:]

    def send(self, method, arguments):
        payload = struct.pack(">HH", *method) + arguments
        self.socket.sendall(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")


def main():
    url = urlsplit(os.environ["AMQP_URL"])
    user, password = unquote(url.username or "guest"), unquote(url.password or "guest")
    vhost = unquote(url.path[1:]) or "/"
    try:
        broker = Connection(url)
        greeting = broker.expect(START, "what answers there does not speak AMQP 0-9-1")
        version = re.search(rb"\x07versionS....(\d+)\.(\d+)[.\d]*", greeting, re.DOTALL)
        if b"RabbitMQ" not in greeting or not version:
            sys.exit("what answers there is not RabbitMQ")
        spelled = version.group(0)[13:].decode()
        if (int(version.group(1)), int(version.group(2))) < OLDEST:
            sys.exit(f"RabbitMQ {spelled} is older than 3.10")
        login = b"\x00" + user.encode() + b"\x00" + password.encode()
        broker.send((10, 11), long(b"") + short(b"PLAIN") + long(login) + short(b"en_US"))
        limits = broker.expect(TUNE, f"the broker refuses user {user}")
        broker.send((10, 31), limits)
        broker.send((10, 40), short(vhost.encode()) + short(b"") + b"\x00")
        broker.expect(OPEN_OK, f"user {user} may not use the virtual host {vhost}")
        broker.send((10, 50), struct.pack(">H", 200) + short(b"") + struct.pack(">HH", 0, 0))
    except OSError as error:
        sys.exit(f"no answer from the broker: {error}")
    print(f"RabbitMQ {spelled}")


main()
