"""What a browser complains of."""

from typing import Any

__all__ = ["note_complaint"]


def note_complaint(complaints: list[str], message: Any) -> None:
    """Note a message of the browser, unless it is about the network of the machine.

    Tests beside this one make network namespaces; then the browser gives requests up, and the page asks again.
    """
    if "ERR_NETWORK_CHANGED" not in message.text:
        complaints.append(message.text)
