#!/usr/bin/env python3
"""Measure what the web console costs the server, and what it gives its readers.

  bench/console.py               what it costs to start and to be watched, then the page in Chromium (minutes)
  bench/console.py --minutes 10  also the page's memory, open for that long under load
  bench/console.py --no-page     without Chromium

Of the release build: `cargo build --release -p echoic -p floor`. Costs are ratios within rounds that alternate, as in
scripts/bench; the page is measured by tests/browser/budgets.js. Prints lines of JSON.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
TOKEN = "0123456789abcdef0123456789abcdef"
RATE = 10_000  # exchanges a second while readers watch
READERS = 3
START = 10  # seconds that starting may take


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="rounds of each ratio")
    parser.add_argument("--minutes", type=int, default=0, help="time under load for the page's memory")
    parser.add_argument("--no-page", action="store_true", help="leave the page out")
    options = parser.parse_args()
    start(options.rounds)
    watched(options.rounds)
    if not options.no_page:
        environment = {**os.environ, "ECHOIC_BIN": str(RELEASE / "echoic"), "MINUTES": str(options.minutes)}
        page = ["node", str(ROOT / "tests/browser/budgets.js")]
        subprocess.run(page, env=environment, check=True, timeout=1800 + 120 * options.minutes)


def start(rounds):
    """Time from the start to the first answer, and memory then, with and without the console."""
    found = {"on": [], "off": []}
    for turn in range(rounds):
        for which in ("on", "off") if turn % 2 else ("off", "on"):
            began = time.perf_counter()
            with serving(["--console", "127.0.0.1:0" if which == "on" else "off"]) as server:
                with socket.create_connection(server.address) as talk:
                    talk.sendall(b"hello\n")
                    talk.recv(100)
                found[which].append((1000 * (time.perf_counter() - began), server.memory()))
    times, sizes = ([a[k] - b[k] for a, b in zip(found["on"], found["off"])] for k in (0, 1))
    show("start with the console: more time", ms=statistics.median(times))
    show("start with the console: more memory", mib=statistics.median(sizes))


def watched(rounds):
    """CPU for each message with readers of the live events against none, and with one that never reads."""
    ratios = {"readers": [], "stuck": []}
    for turn in range(rounds):
        cpu = {}
        order = ["none", "readers", "stuck"]
        for which in order[turn % 3 :] + order[: turn % 3]:
            with serving(["--console", "127.0.0.1:0"]) as server:
                readers = [] if which == "none" else [Reader(server, which == "stuck") for _ in range(READERS)]
                server.pin()
                before = server.worker_cpu()
                load = [RELEASE / "floor", "load", ":".join(map(str, server.address)), "--rate", str(RATE), "--seconds", "2"]
                made = subprocess.run(load, capture_output=True, check=True, timeout=60)
                answered = json.loads(made.stdout)["answered"]
                cpu[which] = (server.worker_cpu() - before) / answered
                for reader in readers:
                    reader.close()
        for which in ratios:
            ratios[which].append(cpu[which] / cpu["none"])
    for which, what in ("readers", f"{READERS} readers"), ("stuck", f"{READERS} readers that never read"):
        low, middle, high = statistics.quantiles(ratios[which], n=4)
        show(f"CPU of the data plane for each message at {RATE}/s, {what} / none", median=middle, low=low, high=high)


class Reader:
    """A reader of the live events: reads all, or never reads."""

    def __init__(self, server, stuck):
        self.connection = http.client.HTTPConnection(*server.console, timeout=30)
        self.connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {TOKEN}"})
        self.socket = self.connection.sock
        if not stuck:
            threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        answer = self.connection.getresponse()
        assert answer.status == 200, answer.status
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for _ in answer:
                pass

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Server:
    def __init__(self, process, address, console):
        self.process, self.address, self.console = process, address, console

    def memory(self):
        """Resident memory in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def pin(self):
        """Gives the data plane core 0 for itself; all else, this process included, shares core 1."""
        os.sched_setaffinity(0, {1})
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            is_worker = (task / "comm").read_text().startswith("worker")
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), {0} if is_worker else {1})

    def worker_cpu(self):
        """Nanoseconds of CPU that the workers, the data plane, have used."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        workers = [task for task in tasks if (task / "comm").read_text().startswith("worker")]
        assert workers, "no thread is named worker"
        return sum(int((task / "schedstat").read_text().split()[0]) for task in workers)


@contextlib.contextmanager
def serving(options):
    with tempfile.TemporaryDirectory() as home:
        command = [RELEASE / "echoic", "serve", "upper=127.0.0.1:0", "--frame", "line", "--quiet", "--workers", "1", "--json", *options]
        environment = {**os.environ, "ECHOIC_TOKEN": TOKEN}
        with open(f"{home}/out", "wb") as out, open(f"{home}/err", "wb") as err:
            process = subprocess.Popen(command, cwd=home, env=environment, stdout=out, stderr=err)
        try:
            wants = 2 if "off" not in options else 1
            deadline = time.monotonic() + START
            found = {}
            while len(found) < wants:
                assert time.monotonic() < deadline and process.poll() is None, pathlib.Path(f"{home}/err").read_text()
                for line in pathlib.Path(f"{home}/out").read_text().splitlines(keepends=True):
                    event = json.loads(line) if line.endswith("\n") else {}
                    if event.get("ev") in ("listening", "console"):
                        found[event["ev"]] = event
                time.sleep(0.001)
            address = re.search(r"127\.0\.0\.1:(\d+)", json.dumps(found["listening"]))
            console = re.search(r"127\.0\.0\.1:(\d+)", json.dumps(found.get("console", "")))
            yield Server(process, ("127.0.0.1", int(address[1])), console and ("127.0.0.1", int(console[1])))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def show(what, **figures):
    print(json.dumps({"what": what, **{name: round(value, 3) for name, value in figures.items()}}), flush=True)


if __name__ == "__main__":
    main()
