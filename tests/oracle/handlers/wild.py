"""A handler that does to its process what the body names, all of it within what handlers may do."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time


class Wild:
    def initialize(self, context):
        self.context = context
        self.lines = []

    def handle(self, data, context):
        order = bytes(data[0].get("body") or b"alive").decode()
        return [getattr(self, f"do_{order}")()] * len(data)

    def do_alive(self):
        return "alive"

    def do_print(self):
        for number in range(2_000):
            sys.stdout.write(f"line {number}\n")
        os.write(1, b"\x00\xff no text, no end of line")
        sys.stderr.write('{"looks": "like json"}\n')
        return "printed"

    def do_close_stdout(self):
        os.close(1)
        os.close(2)
        return "closed"

    def do_close_fds(self):
        os.closerange(0, 256)
        return "closed"

    def do_write_fds(self):
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"\x00\x00\x00\x05hello, server")
            except OSError:
                continue
        return "written"

    def do_fork(self):
        child = os.fork()
        if child == 0:
            return "the child"
        os.waitpid(child, 0)
        return "the parent"

    def do_fork_exit(self):
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        return "the parent"

    def do_orphan(self):
        subprocess.Popen(["sleep", "60"], close_fds=False)
        return "started"

    def do_threads(self):
        for _ in range(100):
            threading.Thread(target=time.sleep, args=(30,)).start()
        return f"{threading.active_count() > 100}"

    def do_thread_raises(self):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        return "survived"

    def do_exit(self):
        sys.exit(0)

    def do_hard_exit(self):
        os._exit(0)

    def do_segfault(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def do_abort(self):
        os.abort()

    def do_ignore_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        return "ignored"

    def do_loop(self):
        while True:
            self.lines = []

    def do_huge(self):
        return "x" * 30_000_000

    def do_deep(self):
        answer = []
        for _ in range(100_000):
            answer = [answer]
        return answer

    def do_recursion(self):
        return self.do_recursion()

    def do_cyclic(self):
        answer = {}
        answer["me"] = answer
        return answer

    def do_delete_folder(self):
        shutil.rmtree(self.context.system_properties["model_dir"])
        return "deleted"

    def do_cwd(self):
        os.chdir("/")
        return str(pathlib.Path.cwd())

    def do_environment(self):
        os.environ.clear()
        sys.path.clear()
        sys.modules.clear()
        return "cleared"

    def do_patch(self):
        import json
        import socket

        json.dumps = json.loads = None
        socket.socket.send = None
        return "patched"

    def do_too_many(self):
        return "x"
