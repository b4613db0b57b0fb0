#!/usr/bin/env python3
"""Measure what TLS costs: messages, bulk, handshakes and idle connections.

  bench/tls.py                      all parts, less than three minutes
  bench/tls.py messages bulk        these parts
  bench/tls.py --rounds 1 --seconds 0.5
  bench/tls.py --gate               exit 7 when a goal is missed

Of the release build: `cargo build --release -p echoic -p parts`; or of ECHOIC_BIN and the `tls_echo` beside it. Needs openssl.
The server has core 0, one worker, and records nothing; the load has core 1. Figures to compare are taken within rounds that
alternate, and are medians. Prints lines of JSON.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ECHOIC = os.environ.get("ECHOIC_BIN") or str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "echoic")
TLS_ECHO = str(pathlib.Path(ECHOIC).parent / "tls_echo")
TICK = os.sysconf("SC_CLK_TCK")
START, STOP, MADE = 30, 30, 60  # seconds that starting, stopping and a load beyond its time may take
SETTLE = 1  # seconds until a server with new connections is idle
TALKERS, SIZE, PACED = 64, 64, 20_000
BULK_CONNECTIONS, BULK_SIZE = 8, 64 << 10
CALLERS = 3  # clients that do handshakes: one would wait for the server in each of them
IDLE, FIRST = 1000, 64  # connections, and those before them that pay for what all share
NOT_MET = 7
MISSED = []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each comparison (6)")
    parser.add_argument("--seconds", type=float, default=1.5, help="time of one measurement (1.5; of handshakes whole seconds)")
    parser.add_argument("--gate", action="store_true", help=f"exit {NOT_MET} when a goal is missed")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is named {', '.join(unknown)}")
    if not (1 <= options.rounds <= 100 and 0.2 <= options.seconds <= 60):
        parser.error("--rounds is between 1 and 100, --seconds between 0.2 and 60")
    if os.cpu_count() < 2:
        parser.error("two cores are needed: one for the server, one for the load")
    os.sched_setaffinity(0, {1})
    raise_open_files()
    with tempfile.TemporaryDirectory() as home:
        certificate(pathlib.Path(home))
        for name in options.parts or PARTS:
            PARTS[name](pathlib.Path(home), options.rounds, options.seconds)
    return NOT_MET if options.gate and MISSED else 0


def messages(home, rounds, seconds):
    """Talkers of small messages: echo over TLS against the same in plain text."""
    words = ["-c", TALKERS, "--frame", "line", "--size", SIZE - 1]
    found = alternate(home, rounds, seconds, {"plain": echoic_plain, "tls": echoic_tls}, words)
    for name, slices in found.items():
        show(
            f"{TALKERS} talkers, {SIZE} bytes, {name}",
            rate=middle(s["rate"] for s in slices),
            cpu_us=middle(s["cpu"] * 1e6 for s in slices),
        )
    pairs = list(zip(found["tls"], found["plain"]))
    what = f"{TALKERS} talkers, {SIZE} bytes, tls / plain"
    goal(what, "cpu", [t["cpu"] / p["cpu"] for t, p in pairs], at_most=1.6)
    show(what, rate=middle(t["rate"] / p["rate"] for t, p in pairs))
    # A slower client wakes the server for fewer messages at once. At the same rate both are woken alike.
    found = alternate(home, rounds, seconds, {"plain": echoic_plain, "tls": echoic_tls}, [*words, "--rate", PACED])
    what = f"{TALKERS} connections, {SIZE} bytes, {PACED:,}/s, tls / plain"
    goal(what, "cpu", [t["cpu"] / p["cpu"] for t, p in zip(found["tls"], found["plain"])])


def bulk(home, rounds, seconds):
    """Large messages: echoic against a minimal echo on tokio-rustls."""
    words = ["-c", BULK_CONNECTIONS, "--frame", f"fixed:{BULK_SIZE}", "--size", BULK_SIZE]
    found = alternate(home, rounds, seconds, {"echoic": echoic_tls, "reference": reference}, words)
    for name, slices in found.items():
        show(
            f"{BULK_CONNECTIONS} x 64 KiB, {name}",
            mb_per_s=middle(2 * BULK_SIZE * s["rate"] / 1e6 for s in slices),
            cpu_ns_per_byte=middle(s["cpu"] * 1e9 / (2 * BULK_SIZE) for s in slices),
        )
    pairs = list(zip(found["echoic"], found["reference"]))
    what = f"{BULK_CONNECTIONS} x 64 KiB, echoic / reference"
    goal(what, "rate", [e["rate"] / r["rate"] for e, r in pairs], at_least=0.8)
    goal(what, "bytes_per_cpu", [r["cpu"] / e["cpu"] for e, r in pairs], at_least=0.8)


def handshakes(home, rounds, seconds):
    """Full handshakes: echoic against openssl s_server, with the same certificate, key and client."""
    found = {"echoic": [], "openssl": []}
    for turn in range(rounds):
        for name, start in in_turn({"echoic": echoic_tls, "openssl": s_server}, turn):
            with start(home) as server:
                s_time(server, 1, 1)
                before = cpu(server.pid)
                done, took = s_time(server, CALLERS, max(1, round(seconds)))
                used = cpu(server.pid) - before
            found[name].append({"rate": done / took, "per_cpu_s": done / used})
    for name, slices in found.items():
        show(f"full handshakes, {name}", **{key: middle(s[key] for s in slices) for key in ("rate", "per_cpu_s")})
    pairs = list(zip(found["echoic"], found["openssl"]))
    what = "full handshakes, echoic / openssl s_server"
    # By the time of its core: s_server waits for each client in turn, and the clients share a core that may be the limit.
    goal(what, "per_cpu_s", [e["per_cpu_s"] / o["per_cpu_s"] for e, o in pairs], at_least=0.8)
    show(what, rate=middle(e["rate"] / o["rate"] for e, o in pairs))


def idle(home, _rounds, _seconds):
    """Memory of connections that have done a handshake, and nothing else."""
    for name, start in ("plain", echoic_plain), ("tls", echoic_tls):
        with start(home) as server, contextlib.ExitStack() as stack:
            for _ in range(FIRST):
                stack.enter_context(open_idle(home, server, name == "tls"))
            time.sleep(SETTLE)
            before = memory(server.pid)
            for _ in range(IDLE):
                stack.enter_context(open_idle(home, server, name == "tls"))
            time.sleep(SETTLE)
            kib = (memory(server.pid) - before) / IDLE
        goal(f"{IDLE} idle connections, {name}", "kib_each", [kib], at_most=40 if name == "tls" else None)


PARTS = {"messages": messages, "bulk": bulk, "handshakes": handshakes, "idle": idle}


def alternate(home, rounds, seconds, servers, words):
    """Rate and CPU for each message of a closed loop, by server and round."""
    found = {name: [] for name in servers}
    for turn in range(rounds):
        for name, start in in_turn(servers, turn):
            with start(home) as server:
                found[name].append(load(home, server, seconds, words))
    return found


def in_turn(servers, turn):
    """The servers, the other one first in every second round."""
    return list(servers.items())[:: -1 if turn % 2 else 1]


def load(home, server, seconds, words):
    """What `echoic bench` measures, and the server's CPU within the same window."""
    trust = ["--ca", home / "cert.pem"] if server.endpoint.startswith("tls:") else []
    command = [ECHOIC, "bench", server.endpoint, *trust, "--expect", "echo", "-d", f"{seconds}s", "--warmup", "0.3s"]
    command = [*map(str, [*command, "--no-floor", "-o", "json", "--quiet", *words])]
    samples = []
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ended = threading.Event()

    def sample():
        while not ended.wait(0.01):
            samples.append((time.time(), cpu(server.pid)))

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        out, err = child.communicate(timeout=seconds + MADE)
    finally:
        ended.set()
        sampling.join()
        child.kill()
        child.wait()
    if child.returncode:
        raise RuntimeError(f"{command} ended with {child.returncode}: {err.decode(errors='replace')[-2000:]}")
    made = json.loads(out)
    # `ok` counts requests of the window, `done` replies in it, of which some are to requests before it.
    if made["wrong"] or any(made["failures"].values()) or not made["done"]:
        raise RuntimeError(f"not every reply was right: {made['failures']}, {made['wrong']} wrong")
    began, ended_at = made["opened"], made["opened"] + made["seconds"]
    used = at(samples, ended_at) - at(samples, began)
    return {"rate": made["done_per_s"], "cpu": used / made["done"]}


def at(samples, moment):
    """The CPU time at a moment, between the samples before and after it."""
    after = next((i for i, (when, _) in enumerate(samples) if when >= moment), len(samples) - 1)
    (t0, c0), (t1, c1) = samples[max(0, after - 1)], samples[after]
    share = min(1, max(0, (moment - t0) / (t1 - t0))) if t1 > t0 else 0
    return c0 + share * (c1 - c0)


def s_time(server, count, seconds):
    """Full handshakes by `openssl s_time`: how many, and in how many seconds."""
    command = ["openssl", "s_time", "-connect", server.address, "-new", "-tls1_3", "-time", str(seconds)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(count)]
    done, took = 0, seconds
    try:
        for child in children:
            text = child.communicate(timeout=seconds + MADE)[0].decode(errors="replace")
            found = re.search(r"(\d+) connections in (\d+) real seconds", text)
            if child.returncode or not found or not int(found[1]):
                raise RuntimeError(f"{command} ended with {child.returncode}: {text[-2000:]}")
            done += int(found[1])
            took = max(took, int(found[2]))
    finally:
        for child in children:
            child.kill()
            child.wait()
    return done, took


@contextlib.contextmanager
def open_idle(home, server, has_tls):
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=START) as raw:
        if not has_tls:
            yield raw
            return
        context = ssl.create_default_context(cafile=str(home / "cert.pem"))
        with context.wrap_socket(raw, server_hostname="localhost") as peer:
            yield peer


class Server:
    def __init__(self, pid, address, scheme):
        self.pid, self.address, self.endpoint = pid, address, f"{scheme}://{address}"


def echoic_plain(home):
    return echoic(home, "tcp", "echo=127.0.0.1:0")


def echoic_tls(home):
    return echoic(home, "tls", f"echo=tls://127.0.0.1:0?cert={home}/cert.pem&key={home}/key.pem")


def echoic(home, scheme, endpoint):
    words = [ECHOIC, "serve", endpoint, "--workers", "1", "--store", "none", "--console", "off", "--quiet", "--print"]
    return started(home, scheme, words)


def reference(home):
    return started(home, "tls", [TLS_ECHO, f"{home}/cert.pem", f"{home}/key.pem"])


def s_server(home):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = f"127.0.0.1:{listener.getsockname()[1]}"
    words = ["openssl", "s_server", "-accept", at, "-cert", f"{home}/cert.pem", "-key", f"{home}/key.pem", "-rev", "-quiet"]
    return started(home, "tls", words, at)


@contextlib.contextmanager
def started(home, scheme, words, address=None):
    """A server on core 0 until the end of the block. It prints its address, unless that is known."""
    with tempfile.TemporaryDirectory(dir=home) as folder, open(f"{folder}/out", "w+b") as out:
        pinned = ["taskset", "-c", "0", *words]
        child = subprocess.Popen(pinned, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + START
            found = None
            while not found:
                text = pathlib.Path(f"{folder}/out").read_text(errors="replace")
                if child.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{words} does not listen: {text}")
                if address:
                    with contextlib.suppress(OSError), socket.create_connection(address.split(":"), timeout=1):
                        found = address
                elif printed := re.search(r"127\.0\.0\.1:\d+\n", text):
                    found = printed[0].strip()
                time.sleep(0.02)
            yield Server(child.pid, found, scheme)
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def certificate(home):
    """A key and a certificate by itself, of the kind that echoic makes too."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words += ["-keyout", home / "key.pem", "-out", home / "cert.pem"]
    subprocess.run(words, check=True, capture_output=True, timeout=START)


def raise_open_files():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if most == resource.RLIM_INFINITY else min(most, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def cpu(pid):
    """Seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid):
    """Resident memory in KiB."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Rss:\s+(\d+)", rollup, re.MULTILINE)[1])


def middle(values):
    return statistics.median(values)


def goal(what, figure, values, at_least=None, at_most=None):
    """Shows the median with its quartiles, and whether it meets its bound."""
    median = middle(values)
    figures = {figure: median}
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        figures |= {"low": low, "high": high}
    if at_least is None and at_most is None:
        return show(what, **figures)
    is_met = median >= at_least if at_least is not None else median <= at_most
    bound = {"at_least": at_least} if at_least is not None else {"at_most": at_most}
    if not is_met:
        MISSED.append(what)
    return show(what, **figures, **bound, met=is_met)


def show(what, **figures):
    rounded = {name: value if isinstance(value, bool) else round(value, 3) for name, value in figures.items()}
    print(json.dumps({"what": what, **rounded}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
