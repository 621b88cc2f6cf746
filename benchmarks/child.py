"""What every measurement runs: ``python child.py MODULE JOB RESULT`` calls ``MODULE.run(job)``, stores its answer."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path

from jobs import Job, Result

__all__: list[str] = []


def main(module: str, job_file: str, result_file: str) -> None:
    job = Job.read(Path(job_file))
    Path(job.out).mkdir(parents=True, exist_ok=True)
    result: Result = importlib.import_module(module).run(job)
    Path(result_file).write_text(json.dumps(dataclasses.asdict(result)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
