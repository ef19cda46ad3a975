"""The drawing assistant's server: commands from library files that are read at its start, users' code kept in files."""

import os
import pathlib
import re

from flask import Flask, abort, jsonify, request

HERE = pathlib.Path(__file__).parent
VERSION = (HERE / "VERSION").read_text().strip()
CODES = HERE / "user_codes"
app = Flask(__name__)


def library():
    commands = {}
    for file in sorted((HERE / "command_files").glob("*.txt")):
        for line in file.read_text().splitlines():
            name, _, what = line.partition(":")
            if what:
                commands[name.strip()] = what.strip()
    return commands


COMMANDS = library()


@app.get("/health")
def health():
    return jsonify(status="ok", version=VERSION, commands=len(COMMANDS))


@app.get("/api/commands/<name>")
def command(name):
    if name.upper() not in COMMANDS:
        abort(404)
    # Here the model would be asked, with this as its context.
    return jsonify(name=name.upper(), what=COMMANDS[name.upper()])


@app.put("/api/codes/<name>")
def save(name):
    if not re.fullmatch(r"[a-z0-9-]{1,40}", name):
        abort(400)
    (CODES / f"{name}.lsp").write_bytes(request.get_data())
    return jsonify(saved=name), 201


@app.get("/api/codes/<name>")
def load(name):
    file = CODES / f"{name}.lsp"
    if not re.fullmatch(r"[a-z0-9-]{1,40}", name) or not file.exists():
        abort(404)
    return file.read_text()


if __name__ == "__main__":
    app.run(host=os.environ.get("FLASK_HOST", "0.0.0.0"), port=int(os.environ.get("FLASK_PORT", "5000")))
