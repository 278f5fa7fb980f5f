"""Rows, rounds and tables of one sender with many receivers. Started by `run`, which says what can be set."""

import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measure import PeakAnonymous, finish, kill_all, read_all, start, tell, touch_memory

SMOKE = bool(os.environ.get("MANY_SMOKE"))
HAUL = os.environ["MANY_HAUL"]
TMPFS = os.path.abspath(os.environ.get("MANY_TMPFS", "/dev/shm"))


def size(name, full, smoke):
    text = os.environ.get(name, smoke if SMOKE else full).upper()
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


FILE = size("MANY_FILE", "256M", "2M")
LONG = size("MANY_LONG", "2G", "512M")
RUNS = int(os.environ.get("MANY_RUNS", "1" if SMOKE else "5"))
ROWS = os.environ.get("MANY_ROWS", "crowd stalled strangers").split()
COUNTS = [int(count) for count in os.environ.get("MANY_COUNTS", "1 2 8 32").split()]
LANES = ["--lanes", os.environ["MANY_LANES"]] if os.environ.get("MANY_LANES") else []
STRANGERS = 40 if SMOKE else 1000

# What must be reached at full size.
CROWD_SHARE = 0.85
STALLED_SHARE = 0.9
STRANGERS_SHARE = 0.9
ANONYMOUS_BYTES_PER_RECEIVER = 64 << 20


class Failed(Exception):
    """A transfer did not come to its end."""


class Sender:
    """A `haul send --keep` of one file, with state and cache of its own."""

    def __init__(self, source, base):
        self.base = tempfile.mkdtemp(prefix="many-", dir=base)
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": f"{self.base}/state",
            "XDG_CACHE_HOME": f"{self.base}/cache",
        }
        self.source = source
        command = [HAUL, "send", source, "--keep", "--bind", "127.0.0.1:0", "--quiet"]
        self.process = start(command, stdout=subprocess.PIPE, text=True, **self.silent())
        self.link = self.process.stdout.readline().strip()
        if not self.link:
            raise Failed("haul send made no offer")
        self.peak = PeakAnonymous(self.process.pid)

    def silent(self):
        return {"env": self.environment, "stderr": subprocess.DEVNULL}

    def receive(self, *arguments, **options):
        """A receiver into a folder of its own."""
        into = tempfile.mkdtemp(prefix="into-", dir=self.base)
        command = [HAUL, "receive", self.link, "--into", into, "--yes", *LANES, *(arguments or ["--quiet"])]
        process = start(command, **{"stdout": subprocess.DEVNULL, **self.silent(), **options})
        process.into = into
        return process

    def receive_until_data(self):
        """A receiver that has some of its data, and how much."""
        process = self.receive("--json", stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and event["bytes_done"] > 0:
                return process, event["bytes_done"]
            if event["event"] == "done":
                raise Failed("it was done before it could be looked at; take a longer file")
        raise Failed("haul receive said nothing")

    def end(self):
        """Returns the CPU seconds of the sender, and the most anonymous memory that it had."""
        peak = self.peak.end()
        tell(self.process, signal.SIGTERM)
        _, cpu = finish(self.process)
        self.process.stdout.close()
        shutil.rmtree(self.base)
        return cpu, peak


class Bench:
    """Folders of one run of the script, and the bars that were looked at."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="haul-many-", dir=TMPFS)
        self.bars = []

    def bar(self, what, wanted, got, is_met):
        self.bars.append(f"| {what} | {wanted} | {got} | {'met' if is_met else 'MISSED'} |")

    def source(self, length):
        path = os.path.join(self.base, f"{length}.bin")
        if not os.path.exists(path):
            with open(path, "wb", buffering=0) as file:
                left = length
                while left:
                    left -= file.write(os.urandom(min(left, 4 << 20)))
        return path

    def crowd(self):
        """What so many receivers that start at once get together."""
        source = self.source(FILE)
        found = {count: [] for count in COUNTS}
        for number in range(RUNS):
            for place in range(len(COUNTS)):
                count = COUNTS[(place + number) % len(COUNTS)]
                self.make_ready(source, FILE * count)
                sender = Sender(source, self.base)
                began = time.monotonic()
                receivers = [sender.receive() for _ in range(count)]
                cpu = sum(succeed(receiver) for receiver in receivers)
                wall = time.monotonic() - began
                if number == 0:
                    for receiver in receivers:
                        compare(source, receiver.into)
                sender_cpu, peak = sender.end()
                found[count].append((FILE * count / wall / 1e6, (cpu + sender_cpu) / FILE / count * 1e9, peak))
                print(f"  crowd {number + 1}/{RUNS} {count}: {wall:.3f} s, {found[count][-1][0]:.0f} MB/s, "
                      f"{found[count][-1][1]:.2f} ns/byte", file=sys.stderr)
        print(f"\n### Receivers of a {human(FILE)} file that start at once, to {file_system(self.base)}\n")
        print("| receivers | all of them, MB/s (min median max) | share of one receiver's | CPU of all ends, ns/byte "
              "| sender's RssAnon, MiB | for each |")
        print("|---|---|---|---|---|---|")
        for count, runs in found.items():
            rates = [rate for rate, _, _ in runs]
            # Run by run: what slows a round down slows all of it.
            share = statistics.median(rate / one for rate, (one, _, _) in zip(rates, found[COUNTS[0]]))
            cpu = statistics.median(cpu for _, cpu, _ in runs)
            peak = max(peak for _, _, peak in runs) / (1 << 20)
            print(f"| {count} | {min(rates):.0f} {statistics.median(rates):.0f} {max(rates):.0f} | {share:.2f} | {cpu:.2f} "
                  f"| {peak:.1f} | {peak / count:.1f} |")
            if count == max(COUNTS) and count > 1:
                self.bar(f"{count} receivers against {COUNTS[0]}", f"≥ {CROWD_SHARE}", f"{share:.2f}", share >= CROWD_SHARE)
                most = ANONYMOUS_BYTES_PER_RECEIVER / (1 << 20)
                self.bar("sender's RssAnon for each, MiB", f"≤ {most:g}", f"{peak / count:.1f}", peak / count <= most)

    def stalled(self):
        """What two receivers get beside one that was stopped while it fetched, against two alone."""
        source = self.source(LONG)
        found = {"two alone": [], "beside a stopped one": []}
        for number in range(RUNS):
            names = list(found) if number % 2 == 0 else list(reversed(found))
            for name in names:
                self.make_ready(source, LONG * 3)
                sender = Sender(source, self.base)
                held = None
                if name != "two alone":
                    held, _ = sender.receive_until_data()
                    tell(held, signal.SIGSTOP)
                began = time.monotonic()
                for receiver in [sender.receive() for _ in range(2)]:
                    succeed(receiver)
                found[name].append(2 * LONG / (time.monotonic() - began) / 1e6)
                if held:
                    drop(held)
                sender.end()
                print(f"  stalled {number + 1}/{RUNS} {name}: {found[name][-1]:.0f} MB/s", file=sys.stderr)
        self.against(f"Two receivers of a {human(LONG)} file, and a third one that was stopped by SIGSTOP", found,
                     "two beside a stalled one against two alone", STALLED_SHARE)

    def strangers(self):
        """What a transfer that runs gets while strangers hold connections open, against one that is left alone."""
        source = self.source(LONG)
        found = {"alone": [], "beside strangers": []}
        for number in range(RUNS):
            names = list(found) if number % 2 == 0 else list(reversed(found))
            for name in names:
                self.make_ready(source, LONG)
                sender = Sender(source, self.base)
                receiver, had = sender.receive_until_data()
                began = time.monotonic()
                crowd = None
                if name != "alone":
                    port = sender.link.split("//")[1].split("/")[0].rpartition(":")[2]
                    crowd = start([sys.executable, "benches/many/strangers.py", port, STRANGERS])
                receiver.stdout.read()
                receiver.stdout.close()
                succeed(receiver)
                found[name].append((LONG - had) / (time.monotonic() - began) / 1e6)
                if crowd:
                    drop(crowd)
                sender.end()
                print(f"  strangers {number + 1}/{RUNS} {name}: {found[name][-1]:.0f} MB/s", file=sys.stderr)
        self.against(f"One receiver of a {human(LONG)} file, and {STRANGERS} half-open connections, half of which send a byte a "
                     "second", found, "beside strangers against alone", STRANGERS_SHARE)

    def against(self, title, found, what, wanted):
        print(f"\n### {title}\n\n| | MB/s (min median max) | share |\n|---|---|---|")
        alone = next(iter(found.values()))
        for name, rates in found.items():
            share = statistics.median(rate / other for rate, other in zip(rates, alone))
            print(f"| {name} | {min(rates):.0f} {statistics.median(rates):.0f} {max(rates):.0f} | {share:.2f} |")
        self.bar(what, f"≥ {wanted}", f"{share:.2f}", share >= wanted)

    def make_ready(self, source, data):
        # The kernel hands out whichever pages it likes, so more are touched than the run needs.
        touch_memory(data if SMOKE else data + (512 << 20), TMPFS)
        read_all(source)

    def run(self):
        print(f"## One sender, many receivers, {RUNS} run(s) each, in turn\n")
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}; all ends on this machine. Lanes: "
              f"{LANES[1] if LANES else 'as a receiver chooses'}. The source is in the page cache and was never hashed.")
        for row in ROWS:
            getattr(self, row)()
        print("\n### Bars\n\n| what | wanted | got | |\n|---|---|---|---|")
        print("\n".join(self.bars))
        if SMOKE:
            print("\nThis was a smoke run: its sizes are too small for any of the numbers to mean something.")


def succeed(receiver):
    """Waits for a receiver that must succeed; returns its CPU seconds."""
    code, cpu = finish(receiver)
    if code != 0:
        raise Failed(f"haul receive ended with {code}")
    return cpu


def drop(process):
    """Ends a process whatever it does."""
    tell(process, signal.SIGKILL)
    finish(process)
    if process.stdout:
        process.stdout.close()


def compare(source, into):
    subprocess.run(["cmp", source, os.path.join(into, os.path.basename(source))], check=True)


def human(length):
    return f"{length / (1 << 30):g} GiB" if length >= 1 << 30 else f"{length / (1 << 20):g} MiB"


def file_system(path):
    said = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def main():
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench()
    try:
        bench.run()
    finally:
        try:
            kill_all()
        finally:
            shutil.rmtree(bench.base, ignore_errors=True)


if __name__ == "__main__":
    main()
