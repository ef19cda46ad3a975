"""The worker: writes one report after the other. A report that it was asked to stop in is finished first."""

import json
import os
import signal
import sys

import redis

from store import VERSION, database, prepare

queue = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
going = True


def stop(_signal, _frame):
    global going
    going = False


def write(number):
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT claim, damage FROM reports WHERE id = %s FOR UPDATE", (number,))
        claim, damage = cursor.fetchone()
        # Here the language model would be asked.
        text = f"Claim {claim}: {damage}. The damage was caused as stated."
        cursor.execute(
            "UPDATE reports SET state = 'written', text = %s, written_by = %s WHERE id = %s", (text, VERSION, number)
        )


def main():
    signal.signal(signal.SIGTERM, stop)
    prepare()
    print(f"worker {VERSION} waits for reports", flush=True)
    while going:
        # Moved, not taken: what was begun and not finished is there after a crash.
        job = queue.blmove("reports", "reports:begun", 1, "LEFT", "RIGHT")
        if job is None:
            continue
        write(json.loads(job)["id"])
        queue.lrem("reports:begun", 1, job)
        print(f"report {json.loads(job)['id']} is written", flush=True)


if len(sys.argv) > 1 and sys.argv[1] == "check":
    queue.ping()
else:
    main()
