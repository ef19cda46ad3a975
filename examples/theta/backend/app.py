"""theta's API: tasks in PostgreSQL, the queue of trainings and a cache in Redis. What the training cluster does is left out."""

import json
import os
import pathlib

import psycopg2
import redis
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

VERSION = pathlib.Path(__file__).with_name("VERSION").read_text().strip()
app = FastAPI(title="theta", version=VERSION)
cache = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_timeout=3)


def database():
    return psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=3)


class Task(BaseModel):
    model: str
    dataset: str


@app.on_event("startup")
def prepare():
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS tasks (id serial PRIMARY KEY, model text NOT NULL, dataset text NOT NULL,"
            " state text NOT NULL DEFAULT 'queued')"
        )


@app.get("/health")
def health():
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    cache.ping()
    return {"status": "ok", "version": VERSION}


@app.post("/api/tasks", status_code=201)
def create(task: Task):
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO tasks (model, dataset) VALUES (%s, %s) RETURNING id", (task.model, task.dataset))
        number = cursor.fetchone()[0]
    cache.rpush("trainings", json.dumps({"id": number, "model": task.model}))
    cache.delete(f"task:{number}")
    return {"id": number, "state": "queued"}


@app.get("/api/tasks/{number}")
def read(number: int):
    cached = cache.get(f"task:{number}")
    if cached:
        return json.loads(cached)
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT model, dataset, state FROM tasks WHERE id = %s", (number,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, "no such task")
    task = {"id": number, "model": row[0], "dataset": row[1], "state": row[2]}
    cache.setex(f"task:{number}", 60, json.dumps(task))
    return task


@app.get("/api/queue")
def queue():
    return {"length": cache.llen("trainings"), "version": VERSION}
