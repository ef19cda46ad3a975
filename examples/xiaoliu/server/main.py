"""The assistant's API: what was said is kept in SQLite, how often per user in Redis. The language model is left out."""

import os
import pathlib
import sqlite3

import redis
from fastapi import FastAPI
from pydantic import BaseModel

VERSION = pathlib.Path(__file__).with_name("VERSION").read_text().strip()
COMMANDS = {"生成文档": "文档", "分析代码": "分析", "配色": "配色", "并行开发": "并行"}

app = FastAPI(title="小柳AI助手", version=VERSION)
counts = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=3)


def history():
    connection = sqlite3.connect("/app/data/xiaoliu_ai.db")
    connection.execute("CREATE TABLE IF NOT EXISTS said (user text, message text)")
    return connection


class ChatRequest(BaseModel):
    message: str
    user_id: str = "default"


@app.post("/chat")
def chat(request: ChatRequest):
    with history() as connection:
        connection.execute("INSERT INTO said VALUES (?, ?)", (request.user_id, request.message))
    command = next((name for key, name in COMMANDS.items() if key in request.message), None)
    # Here the language model would be asked, with CLAUDE_API_KEY.
    return {"status": "success", "command": command, "said": counts.incr(f"said:{request.user_id}")}


@app.get("/health")
def health():
    counts.ping()
    with history() as connection:
        said = connection.execute("SELECT count(*) FROM said").fetchone()[0]
    return {"status": "healthy", "service": "xiaoliu-ai", "version": VERSION, "said": said}
