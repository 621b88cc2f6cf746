"""One module per tool: ``run(job)`` calibrates, converts and times itself; executed by ``child.py``."""
