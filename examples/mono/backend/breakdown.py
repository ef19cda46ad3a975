"""Splits a text into tasks: one per line, list item or sentence.

Called by app.py. Plain text rules only; no network, no AI call.
"""

import re

MAX_TEXT = 20_000  # characters
MAX_TITLE = 120  # characters shown before a title is cut

_BULLET = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)、])\s*")
_SENTENCE = re.compile(r"(?<=[。！？；])|(?<=[.!?;])\s+")
_URGENT = re.compile(r"\b(urgent|asap|today|now)\b|紧急|尽快|今天", re.IGNORECASE)


def break_down(text):
    """Return the tasks found in `text`, in order.

    Each is {"n": 1.., "title": str, "priority": "high" | "normal"}.
    """
    tasks = []
    for line in text.splitlines():
        for piece in _SENTENCE.split(_BULLET.sub("", line)):
            title = piece.strip().rstrip(".;。；").strip()
            if not title:
                continue
            if len(title) > MAX_TITLE:
                title = title[: MAX_TITLE - 1] + "…"
            priority = "high" if _URGENT.search(title) else "normal"
            tasks.append({"n": len(tasks) + 1, "title": title, "priority": priority})
    return tasks
