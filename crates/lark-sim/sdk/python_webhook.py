"""A bot behind the HTTP handler of Python's official SDK; every step is one line of JSON on stdout.

Environment: VERIFICATION_TOKEN, ENCRYPT_KEY (either may be empty), TOAST (the text that a click is answered with).
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lark_oapi as lark
from lark_oapi.core.model import RawRequest
from lark_oapi.event.callback.model.p2_card_action_trigger import P2CardActionTrigger, P2CardActionTriggerResponse


def step(name: str, **fields) -> None:
    print(json.dumps({"step": name, **fields}), flush=True)


def on_message(data: lark.im.v1.P2ImMessageReceiveV1) -> None:
    step("message", event_id=data.header.event_id, content=data.event.message.content)


def on_click(data: P2CardActionTrigger) -> P2CardActionTriggerResponse:
    step("click", open_id=data.event.operator.open_id, value=data.event.action.value)
    return P2CardActionTriggerResponse({"toast": {"type": "success", "content": os.environ["TOAST"]}})


dispatcher = (
    lark.EventDispatcherHandler.builder(os.environ["ENCRYPT_KEY"], os.environ["VERIFICATION_TOKEN"])
    .register_p2_im_message_receive_v1(on_message)
    .register_p2_card_action_trigger(on_click)
    .build()
)


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = RawRequest()
        request.uri = self.path
        request.headers = dict(self.headers.items())
        request.body = self.rfile.read(int(self.headers["Content-Length"]))
        response = dispatcher.do(request)
        if response.status_code != 200:
            step("refused", status=response.status_code, content=response.content.decode())
        self.send_response(response.status_code)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.content)))
        self.end_headers()
        self.wfile.write(response.content)

    def log_message(self, *_) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    step("listening", port=server.server_address[1])
    server.serve_forever()


if __name__ == "__main__":
    main()
