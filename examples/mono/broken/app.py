"""A release that starts and then fails its health gate: the demo copies this over backend/app.py.

The bug is a plausible one: the new code reads MODEL_ANALYSIS, and nobody added it to `env` in
drover.yaml. Nothing notices at start: gunicorn is ready and /health answers, but `/` raises
KeyError and answers 500, which the `api` check sees. The release before it comes back.
"""

import logging
import os
import sys
from pathlib import Path

from flask import Flask, abort, request

from breakdown import break_down

VERSION = Path(__file__).with_name("VERSION").read_text(encoding="utf-8").strip()
logging.basicConfig(stream=sys.stderr, level="INFO", format="%(levelname)s %(name)s: %(message)s")

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]
app.logger.info("Task Breakdown API %s started", VERSION)


@app.get("/")
def index():
    return {
        "status": "ok",
        "service": "Task Breakdown API",
        "version": VERSION,
        "model": os.environ["MODEL_ANALYSIS"],  # the bug: not in the manifest
    }


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/api/tasks")
def create():
    body = request.get_json(silent=True)
    text = body.get("text") if isinstance(body, dict) else None
    if not isinstance(text, str):
        abort(400, "send a text")
    return {"tasks": break_down(text)}, 201
