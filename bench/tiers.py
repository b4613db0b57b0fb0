#!/usr/bin/env python3
"""Measure what each boundary between tiers costs: workers over NATS, the stream and its keeper, PostgreSQL.

  bench/tiers.py                   all parts (about five minutes)
  bench/tiers.py worker keeper     these parts

Of the release build: `cargo build --release -p echoic`. Needs nats-server and PostgreSQL, which are started on free ports in
a temporary folder, and stopped. Costs are taken within rounds that alternate. Prints lines of JSON.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ECHOIC = os.environ.get("ECHOIC_BIN") or str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "echoic")
TICK = os.sysconf("SC_CLK_TCK")
PASSWORD = "of-a-measurement"
START = 30  # seconds that starting may take
STOP = 60  # seconds that a drain may take
TALKERS = 64
KEPT = {"depth 16": 2_000_000, "singles": 400_000}  # exchanges that a keeper gets
SCANNED = 1_000_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is named {', '.join(unknown)}")
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory() as home:
            PARTS[name](pathlib.Path(home), options.rounds)


def worker(home, rounds):
    """One process against a server and its worker: latency at 10,000/s, and CPU at depth 16."""
    with nats(home) as (engine, url):
        found = {"inside": [], "apart": []}
        for turn in range(rounds):
            for which in ("inside", "apart") if turn % 2 else ("apart", "inside"):
                with contextlib.ExitStack() as stack:
                    found[which].append(worker_slice(stack, which, engine, f"{url}/s{turn}"))
    pairs = list(zip(found["inside"], found["apart"]))
    show("worker: added latency at 10,000/s, 64 connections", p50_us=middle(b["p50"] - a["p50"] for a, b in pairs))
    show("worker: added latency at 10,000/s, 99 %", p99_us=middle(b["p99"] - a["p99"] for a, b in pairs))
    show("worker: added CPU a message at depth 16", us=middle(b["cpu"] - a["cpu"] for a, b in pairs))
    show("worker: CPU of nats-server a message at depth 16", us=middle(b["engine"] for _, b in pairs))
    show("worker: rate at depth 16, apart / inside", ratio=middle(b["rate"] / a["rate"] for a, b in pairs))


def worker_slice(stack, which, engine, url):
    options = ["--store", "none", "--frame", "line"]
    if which == "inside":
        processes = [stack.enter_context(echoic("serve", "upper=127.0.0.1:0", *options))]
    else:
        processes = [stack.enter_context(echoic("work", "upper", "--on", url))]
        processes.append(stack.enter_context(echoic("serve", "127.0.0.1:0", "--as", url, *options)))
    address = processes[-1].address
    # A generator that spins would take one of two cores from what is measured.
    paced = load(address, "-c", TALKERS, "--rate", 10_000, "--no-spin")
    before, engine_before = sum(map(cpu, processes)), cpu(engine)
    deep = load(address, "-c", TALKERS, "--pipeline", 16, "--warmup", "0s")
    used, engine_used = sum(map(cpu, processes)) - before, cpu(engine) - engine_before
    return {
        "p50": paced["latency_due_us"]["p50"],
        "p99": paced["latency_due_us"]["p99"],
        "cpu": 1e6 * used / deep["done"],
        "engine": 1e6 * engine_used / deep["done"],
        "rate": deep["done_per_s"],
    }


def store(home, rounds):
    """CPU of a server for each message, by where it records."""
    with nats(home) as (_, stream), postgres(home) as database:
        stores = {"none": "none", "SQLite": None, "PostgreSQL": database, "JetStream": f"{stream}/measured"}
        found = {(name, depth): [] for name in stores for depth in (1, 16)}
        for turn in range(rounds):
            names = list(stores)
            for name in names[turn % 4 :] + names[: turn % 4]:
                for depth in (1, 16):
                    record = stores[name] or str(home / f"{turn}-{depth}.db")
                    with echoic("serve", "upper=127.0.0.1:0", "--frame", "line", "--store", record) as server:
                        before = cpu(server)
                        made = load(server.address, "-c", TALKERS, "--pipeline", depth, "--warmup", "0s", "-d", "1s")
                        rate = made["done_per_s"]
                    found[name, depth].append((1e6 * (server.used - before) / made["done"], rate))
                if name == "JetStream":
                    jetstream_purge(stream, "measured")
    for (name, depth), values in found.items():
        show(f"record {name}, depth {depth}", cpu_us=middle(v[0] for v in values), rate=middle(v[1] for v in values))


def keeper(home, _rounds):
    """Exchanges a second that a keeper writes from a full stream."""
    with nats(home) as (_, stream), postgres(home) as database:
        for load_name, count in KEPT.items():
            for store_name in ("PostgreSQL", "SQLite"):
                name = f"{load_name}-{store_name}".replace(" ", "")
                with echoic("serve", "upper=127.0.0.1:0", "--frame", "line", "--store", f"{stream}/{name}") as server:
                    depth = 16 if load_name == "depth 16" else 1
                    made = load(server.address, "-c", TALKERS, "--pipeline", depth, "-n", count, "-d", None)
                record = database if store_name == "PostgreSQL" else str(home / f"{name}.db")
                bytes_stored = jetstream(stream, f"STREAM.INFO.{name}")["state"]["bytes"]
                taken = None
                before_count = int(log(record, "--count")) if store_name == "PostgreSQL" and load_name == "singles" else 0
                began = time.monotonic()
                with echoic("keep", "--from", f"{stream}/{name}", "--store", record, ready=None) as process:
                    while taken is None and time.monotonic() < began + 300:
                        if jetstream(stream, f"STREAM.INFO.{name}")["state"]["messages"] == 0:
                            taken = time.monotonic() - began
                        time.sleep(0.02)
                    assert taken is not None, "the stream was not empty after five minutes"
                written = int(log(record, "--count")) - before_count
                assert written == made["done"], (written, made["done"])
                show(
                    f"keeper: {load_name} into {store_name}",
                    exchanges=written,
                    per_s=written / taken,
                    cpu_us=1e6 * process.used / written,
                    stream_bytes=bytes_stored / written,
                )


def scan(home, _rounds):
    """A search for text over a million exchanges, and a count by columns."""
    with postgres(home) as database:
        with echoic("serve", "upper=127.0.0.1:0", "--frame", "line", "--store", database) as server:
            load(server.address, "-c", TALKERS, "--pipeline", 16, "-n", SCANNED, "-d", None)
        file = str(home / "scan.db")
        with echoic("serve", "upper=127.0.0.1:0", "--frame", "line", "--store", file) as server:
            load(server.address, "-c", TALKERS, "--pipeline", 16, "-n", SCANNED, "-d", None)
        for name, record in ("PostgreSQL", database), ("SQLite", file):
            for what, words in ("no filter", []), ("by service", ["svc:upper"]), ("text in all", ["hello"]), ("text in few", ["99999"]):
                times = []
                for _ in range(3):
                    began = time.monotonic()
                    found = int(log(record, "--count", *words))
                    times.append(time.monotonic() - began)
                show(f"log --count of {SCANNED:,} in {name}, {what}", s=middle(times), found=found)


def growth(home, rounds):
    """Servers and their workers, as many of one as of the other: they share this machine's cores."""
    with nats(home) as (_, url):
        for count in (1, 2, 4):
            values = []
            for turn in range(max(1, rounds // 2)):
                with contextlib.ExitStack() as stack:
                    subject = f"{url}/g{count}-{turn}"
                    processes = [stack.enter_context(echoic("work", "upper", "--on", subject)) for _ in range(count)]
                    servers = []
                    for _ in range(count):
                        options = ["--as", subject, "--store", "none", "--frame", "line", "--workers", "1"]
                        servers.append(stack.enter_context(echoic("serve", "127.0.0.1:0", *options)))
                    before = sum(map(cpu, processes + servers))
                    loads = [start_load(s.address, "-c", TALKERS // count, "--pipeline", 16, "--warmup", "0s") for s in servers]
                    made = [end_load(one) for one in loads]
                    used = sum(map(cpu, processes + servers)) - before
                    done = sum(m["done"] for m in made)
                    p50 = statistics.mean(m["latency_sent_us"]["p50"] for m in made)
                    values.append((sum(m["done_per_s"] for m in made), 1e6 * used / done, p50))
            rate, used, p50 = (middle(v[k] for v in values) for k in range(3))
            show(f"growth: {count} servers, {count} workers, 64 connections of depth 16", rate=rate, cpu_us=used, p50_us=p50)


PARTS = {"worker": worker, "store": store, "keeper": keeper, "scan": scan, "growth": growth}


class Process:
    """A child; `used` is its CPU in seconds, known when it has ended."""

    def __init__(self, child, address):
        self.child, self.pid, self.address, self.used = child, child.pid, address, None


@contextlib.contextmanager
def echoic(command, *arguments, ready=r"127\.0\.0\.1:\d+"):
    with tempfile.TemporaryDirectory() as home:
        words = [ECHOIC, command, *map(str, arguments)]
        if command == "serve":
            words += ["--quiet", "--console", "off", "--json"]
        with open(f"{home}/out", "w+b") as out:
            child = subprocess.Popen(words, cwd=home, stdout=out, stderr=subprocess.STDOUT)
            process = Process(child, None)
            try:
                end = time.monotonic() + START
                while ready and process.address is None:
                    text = pathlib.Path(f"{home}/out").read_text(errors="replace")
                    if child.poll() is not None or time.monotonic() > end:
                        raise RuntimeError(f"{words} does not run: {text}")
                    if found := re.search(r"127\.0\.0\.1:\d+" if command == "serve" else r"\S", text):
                        process.address = found[0]
                    time.sleep(0.02)
                if command == "work":
                    time.sleep(0.3)  # for its subscription
                yield process
            finally:
                if child.poll() is None:
                    child.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
                    process.used = cpu(process)
                child.wait(STOP)


@contextlib.contextmanager
def nats(home):
    """nats-server with JetStream: the process and its URL without a name."""
    port = free_port()
    config = home / "nats.conf"
    config.write_text(f'jetstream {{ store_dir: "{home}/jetstream", max_file_store: 16GB }}\n')
    words = ["nats-server", "--config", str(config), "--addr", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listening(port)
        yield Process(child, None), f"nats://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def postgres(home):
    """PostgreSQL as it is installed, but for the port and the folder: the URL of an empty database."""
    programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    folder = programs[-1].parent if programs else pathlib.Path(shutil.which("initdb")).parent
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    home.chmod(0o755)
    place = home / "postgres"
    place.mkdir()
    (place / "password").write_text(PASSWORD)
    if user:
        for path in place, place / "password":
            shutil.chown(path, "postgres", "postgres")
    made = [folder / "initdb", "-D", place / "data", "-U", "echoic", "--pwfile", place / "password", "-A", "scram-sha-256"]
    subprocess.run([*user, *made], check=True, stdout=subprocess.DEVNULL, timeout=120)
    port = free_port()
    words = [*user, folder / "postgres", "-D", place / "data", "-p", str(port), "-k", place, "-c", "listen_addresses=127.0.0.1"]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listening(port)
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        create = [folder / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "echoic", "measured"]
        for _ in range(50):
            if subprocess.run(create, env=environment, stderr=subprocess.DEVNULL, timeout=30, check=False).returncode == 0:
                break
            time.sleep(0.2)
        yield f"postgres://echoic:{PASSWORD}@127.0.0.1:{port}/measured"
    finally:
        child.send_signal(signal.SIGQUIT)
        child.wait(60)


def start_load(address, *options):
    options = list(options)
    if "-d" not in options:
        options += ["-d", "2s"]
    k = options.index("-d")
    if options[k + 1] is None:
        del options[k : k + 2]
    words = [ECHOIC, "bench", address, "--frame", "line", "--expect", "upper", "--size", "63", "-o", "json", *map(str, options)]
    if "-n" in options:
        # Short requests: as many fit the stream's bytes.
        words[words.index("--size") : words.index("--size") + 2] = ["-m", "hello {seq}"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end_load(child):
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, (child.returncode, err[-2000:])
    made = json.loads(out)
    assert made["ok"] == made["sent"], made["failures"]
    return made


def load(address, *options):
    return end_load(start_load(address, *options))


def log(record, *words):
    done = subprocess.run([ECHOIC, "log", "--store", record, *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().replace(",", "")


def jetstream(url, request):
    """A request to the API of JetStream, by the protocol of NATS itself."""
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as talk:
        talk.sendall(f'CONNECT {{"verbose":false}}\r\nSUB answer 1\r\nPUB $JS.API.{request} answer 0\r\n\r\n'.encode())
        lines = talk.makefile("rb")
        for line in lines:
            if line.startswith(b"MSG answer"):
                return json.loads(lines.read(int(line.split()[-1])))
            assert not line.startswith(b"-ERR"), line
    raise RuntimeError("NATS closed the connection")


def jetstream_purge(url, stream):
    return jetstream(url, f"STREAM.PURGE.{stream}")


def cpu(process):
    """Seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def listening(port):
    end = time.monotonic() + START
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def middle(values):
    return statistics.median(values)


def show(what, **figures):
    print(json.dumps({"what": what, **{name: round(value, 3) for name, value in figures.items()}}), flush=True)


if __name__ == "__main__":
    main()
