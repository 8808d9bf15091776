"""HTTP to this machine, without a proxy."""

import json
import time
import urllib.error
import urllib.request

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Answer:
    def __init__(self, status, body):
        self.status, self.text = status, body.decode(errors="replace")

    def json(self):
        return json.loads(self.text or "null")


def ask(method, url, body=None, headers=None, timeout=15):
    """Returns the answer, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with OPENER.open(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read())


def eventually(what, check, timeout=60, pause=0.25):
    """Returns the first value of `check` that is true."""
    until = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = check()
            if value:
                return value
        except OSError as error:
            last = error
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {timeout} s" + (f" ({last})" if last else ""))
        time.sleep(pause)
