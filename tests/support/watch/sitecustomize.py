"""Put on PYTHONPATH, this tells what runs inside the front end: see `test_lifecycle.py`.

The loops tell of themselves when they begin to run. To look for them among `gc.get_objects()` from beside the
program would hold references to tuples that it is still building, which ends it with a SystemError.
"""

import asyncio
import json
import os
import pathlib
import sys
import threading
import time

run = asyncio.Runner.run
running = []


def run_and_tell(runner, main, **options):
    """Run `main` as `asyncio.Runner.run` does, and have its loop among the running ones for as long."""
    loop = runner.get_loop()
    name = f"{type(loop).__module__}.{type(loop).__name__}"
    running.append(name)
    try:
        return run(runner, main, **options)
    finally:
        running.remove(name)


def watch(file):
    """Write the classes of the running event loops, and which modules are loaded, once there is a server."""
    while True:
        time.sleep(0.5)
        if "predictor.server" in sys.modules and "uvicorn" in sys.modules:
            report = {"loops": running, "torch": "torch" in sys.modules, "kserve": "kserve" in sys.modules}
            file.with_suffix(".new").write_text(json.dumps(report))
            file.with_suffix(".new").replace(file)


if "PREDICTOR_TEST_WATCH" in os.environ and "serve" in sys.orig_argv:
    asyncio.Runner.run = run_and_tell
    target = pathlib.Path(os.environ["PREDICTOR_TEST_WATCH"])
    threading.Thread(target=watch, args=(target,), daemon=True).start()
