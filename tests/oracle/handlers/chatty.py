"""Prints, logs, changes the working directory, starts threads and programs."""

import logging
import os
import subprocess
import sys
import tempfile
import threading

print("imported", flush=True)
logging.basicConfig(level=logging.DEBUG)
logger = logging.getLogger(__name__)


class Chatty(object):
    def __init__(self):
        print("made")
        self.calls = 0

    def initialize(self, context):
        print("loading", file=sys.stderr)
        sys.stdout.write("no line end")
        sys.stdout.buffer.write(b"\xff\xfe\n")
        logging.info("root logger")

    def handle(self, data, context):
        answers = []
        for row in data:
            self.calls += 1
            print("got", row)
            logger.warning("warned %s", row)
            answers.append(getattr(self, row["body"])())
        return answers

    def cwd(self):
        before = os.getcwd()
        os.chdir(tempfile.gettempdir())
        return {"moved": before != os.getcwd()}

    def threads(self):
        results = []
        threads = [threading.Thread(target=results.append, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(results)

    def daemon(self):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return threading.current_thread() is threading.main_thread()

    def program(self):
        done = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
        return [done.returncode, done.stdout, done.stderr]

    def shell(self):
        return os.system("echo to the log") + subprocess.call("exit 3", shell=True)

    def flood(self):
        for _ in range(2000):
            print("x" * 100)
        return "flooded"

    def closed(self):
        sys.stdout.flush()
        sys.stdout = open(os.devnull, "w")
        return "redirected"
