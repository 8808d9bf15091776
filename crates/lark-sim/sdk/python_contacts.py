"""Python's official SDK reads contacts in one batch; the answer is one line of JSON on stdout.

Environment: LARK_BASE_URL, APP_ID, APP_SECRET, USER_IDS (open ids, separated by spaces).
"""

import json
import os

import lark_oapi as lark
from lark_oapi.api.contact.v3 import BatchUserRequest

FLAGS = ["is_frozen", "is_resigned", "is_activated", "is_exited", "is_unjoin"]


def main() -> None:
    client = (
        lark.Client.builder()
        .app_id(os.environ["APP_ID"])
        .app_secret(os.environ["APP_SECRET"])
        .domain(os.environ["LARK_BASE_URL"])
        .log_level(lark.LogLevel.CRITICAL)
        .build()
    )
    request = (
        BatchUserRequest.builder().user_ids(os.environ["USER_IDS"].split()).user_id_type("open_id").build()
    )
    response = client.contact.v3.user.batch(request)
    items = (response.data.items or []) if response.data else []
    people = {
        person.open_id: {"name": person.name, **{flag: getattr(person.status, flag) for flag in FLAGS}}
        for person in items
    }
    print(json.dumps({"step": "contacts", "code": response.code, "people": people}), flush=True)


if __name__ == "__main__":
    main()
