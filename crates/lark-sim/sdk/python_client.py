"""Python's official SDK as a client of the long connection; every step is one line of JSON on stdout.

Environment: LARK_BASE_URL, APP_ID, APP_SECRET, TOAST (the text that a click is answered with).
"""

import json
import os

import lark_oapi as lark
from lark_oapi.event.callback.model.p2_card_action_trigger import P2CardActionTrigger, P2CardActionTriggerResponse


def step(name: str, **fields) -> None:
    print(json.dumps({"step": name, **fields}), flush=True)


def on_click(data: P2CardActionTrigger) -> P2CardActionTriggerResponse:
    step(
        "click",
        event_id=data.header.event_id,
        open_id=data.event.operator.open_id,
        message_id=data.event.context.open_message_id,
        value=data.event.action.value,
    )
    return P2CardActionTriggerResponse({"toast": {"type": "success", "content": os.environ["TOAST"]}})


def main() -> None:
    handler = lark.EventDispatcherHandler.builder("", "").register_p2_card_action_trigger(on_click).build()
    client = lark.ws.Client(
        os.environ["APP_ID"],
        os.environ["APP_SECRET"],
        event_handler=handler,
        log_level=lark.LogLevel.CRITICAL,
        domain=os.environ["LARK_BASE_URL"],
    )
    step("start")
    client.start()


if __name__ == "__main__":
    main()
