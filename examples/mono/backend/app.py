"""Task Breakdown API: the Flask application of the mono runbook.

gunicorn serves it as `app:app` (see ../drover.yaml); `python app.py` is for a laptop.

Environment:
  FLASK_ENV            "production" makes SECRET_KEY mandatory (default: development)
  SECRET_KEY           signs share links; the same on all hosts, so a link works on each
  LOG_LEVEL            DEBUG, INFO (default), WARNING or ERROR; the log goes to stderr
  PORT                 port for `python app.py` only (default 5000); gunicorn has --bind
  CORS_ORIGINS         comma-separated origins that may call /api/ from a browser
  SILICONFLOW_API_KEY  optional; only whether it is set is shown, in `/`
"""

import logging
import os
import sys
import threading
import uuid
from collections import OrderedDict
from pathlib import Path

from flask import Flask, abort, jsonify, request
from itsdangerous import BadSignature, URLSafeSerializer
from werkzeug.exceptions import HTTPException

from breakdown import MAX_TEXT, break_down

KEPT = 1000  # breakdowns held in memory; the oldest goes first

PRODUCTION = os.environ.get("FLASK_ENV", "development") == "production"
VERSION = Path(__file__).with_name("VERSION").read_text(encoding="utf-8").strip()
ORIGINS = {o.strip() for o in os.environ.get("CORS_ORIGINS", "").split(",") if o.strip()}

logging.basicConfig(
    stream=sys.stderr,
    level=os.environ.get("LOG_LEVEL", "INFO").upper(),
    format="%(levelname)s %(name)s: %(message)s",
)


def secret_key():
    """SECRET_KEY; a fixed stand-in for development; no start without it in production."""
    key = os.environ.get("SECRET_KEY", "")
    if key:
        return key
    if PRODUCTION:
        raise RuntimeError("SECRET_KEY is not set: refusing to start in production")
    return "development-only"


app = Flask(__name__)
app.secret_key = secret_key()
app.config["MAX_CONTENT_LENGTH"] = 256 * 1024  # bytes
app.json.sort_keys = False
app.json.ensure_ascii = False

links = URLSafeSerializer(app.secret_key, salt="mono-share")
lock = threading.Lock()
kept = OrderedDict()
app.logger.info("Task Breakdown API %s started", VERSION)


@app.get("/")
def index():
    return {
        "status": "ok",
        "service": "Task Breakdown API",
        "version": VERSION,
        "ai": "configured" if os.environ.get("SILICONFLOW_API_KEY") else "off",
    }


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/api/tasks")
def create():
    """{"text": "..."} → 201 with the tasks found in it and a signed share link."""
    body = request.get_json(silent=True)
    text = body.get("text") if isinstance(body, dict) else None
    if not isinstance(text, str) or not text.strip():
        abort(400, 'send JSON like {"text": "Buy paper. Print the report."}')
    if len(text) > MAX_TEXT:
        abort(413, f"text is longer than {MAX_TEXT} characters")
    entry = {"id": uuid.uuid4().hex, "tasks": break_down(text)}
    with lock:
        kept[entry["id"]] = entry
        while len(kept) > KEPT:
            kept.popitem(last=False)
    return {**entry, "share": "/api/shared/" + links.dumps(text)}, 201


@app.get("/api/tasks")
def recent():
    with lock:
        return jsonify(list(reversed(kept.values())))


@app.get("/api/tasks/<entry_id>")
def one(entry_id):
    with lock:
        entry = kept.get(entry_id)
    if entry is None:
        abort(404, "no such breakdown")
    return entry


@app.get("/api/shared/<token>")
def shared(token):
    """The tasks of a share link: needs no memory of it, only the same SECRET_KEY."""
    try:
        return {"tasks": break_down(links.loads(token))}
    except BadSignature:
        abort(404, "this link was not made with our key")


@app.errorhandler(HTTPException)
def explain(error):
    return {"status": "error", "error": error.description}, error.code


@app.after_request
def cors(response):
    origin = request.headers.get("Origin")
    if origin in ORIGINS and request.path.startswith("/api/"):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Headers"] = "Content-Type"
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
        response.headers.add("Vary", "Origin")
    return response


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", "5000")))
