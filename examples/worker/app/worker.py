"""Takes jobs from a folder: a job is a file NAME.job, done it is NAME.done with the worker's name in it."""

import os
import pathlib
import sys
import time

name = sys.argv[1]
spool = pathlib.Path(os.environ["SPOOL"])
print(f"worker {name} waits for jobs in {spool}")
while True:
    for job in sorted(spool.glob("*.job")):
        mine = job.with_suffix(f".taken-{name}")
        try:
            job.rename(mine)  # only one of several workers succeeds
        except FileNotFoundError:
            continue
        mine.write_text(f"done by {name}\n")
        mine.rename(job.with_suffix(".done"))
        print(f"did {job.stem}")
    time.sleep(0.2)
