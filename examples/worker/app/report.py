"""Counts the jobs that are done and those that wait."""

import os
import pathlib

spool = pathlib.Path(os.environ["SPOOL"])
done, waiting = (len(list(spool.glob(pattern))) for pattern in ("*.done", "*.job"))
(spool / "report").write_text(f"{done} done, {waiting} waiting\n")
