"""Put on PYTHONPATH, this tells what runs inside the front end: see `test_lifecycle.py`."""

import gc
import json
import os
import pathlib
import sys
import threading
import time


def watch(file):
    """Write the classes of the running event loops, and which modules are loaded, once there is a loop."""
    while True:
        time.sleep(0.5)
        loops = [
            item
            for item in gc.get_objects()
            if type(item).__name__ == "Loop" and hasattr(item, "run_forever")
        ]
        running = [f"{type(loop).__module__}.{type(loop).__name__}" for loop in loops if loop.is_running()]
        if "predictor.server" in sys.modules and "uvicorn" in sys.modules:
            report = {"loops": running, "torch": "torch" in sys.modules, "kserve": "kserve" in sys.modules}
            file.with_suffix(".new").write_text(json.dumps(report))
            file.with_suffix(".new").replace(file)


if "PREDICTOR_TEST_WATCH" in os.environ and "serve" in sys.orig_argv:
    target = pathlib.Path(os.environ["PREDICTOR_TEST_WATCH"])
    threading.Thread(target=watch, args=(target,), daemon=True).start()
