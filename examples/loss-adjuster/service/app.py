"""The core API: reports are ordered here and written by the worker. PostgreSQL keeps them, Redis is the queue."""

import json
import os

import redis
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from store import VERSION, database, prepare

app = FastAPI(title="loss adjuster", version=VERSION)
queue = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=3)


class Claim(BaseModel):
    number: str
    damage: str


@app.on_event("startup")
def start():
    prepare()


@app.get("/health")
def health():
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM reports WHERE state <> 'written'")
        waiting = cursor.fetchone()[0]
    queue.ping()
    return {"status": "ok", "version": VERSION, "waiting": waiting}


@app.post("/api/reports", status_code=201)
def order(claim: Claim):
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO reports (claim, damage) VALUES (%s, %s) RETURNING id", (claim.number, claim.damage))
        number = cursor.fetchone()[0]
    queue.rpush("reports", json.dumps({"id": number}))
    return {"id": number, "state": "ordered"}


@app.get("/api/reports/{number}")
def read(number: int):
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT claim, state, text, written_by FROM reports WHERE id = %s", (number,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, "no such report")
    return {"id": number, "claim": row[0], "state": row[1], "text": row[2], "written_by": row[3]}
