"""Rows, rounds and the table of what automatic compression costs and gains. Started by `run`, which says what can be set."""

import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from links import Limited, Loopback
from measure import finish, kill_all, read_all, start, touch_memory

SMOKE = bool(os.environ.get("COMPRESS_SMOKE"))
HAUL = os.environ["COMPRESS_HAUL"]
TMPFS = os.path.abspath(os.environ.get("COMPRESS_TMPFS", "/dev/shm"))
LEVEL = os.environ.get("COMPRESS_LEVEL", "3")
RUNS = int(os.environ.get("COMPRESS_RUNS", "1" if SMOKE else "5"))
ROWS = os.environ.get("COMPRESS_ROWS", "text mixed random zeros").split()
LINKS = os.environ["COMPRESS_LINKS"].split()
TEXT = os.environ.get("COMPRESS_TEXT", "~/.cargo/registry/src /usr/share/doc").split()
MODES = {"off": "off", "on": LEVEL, "auto": "auto"}
MIB = 1 << 20

# What auto must reach at full size, of the better of off and on.
SHARE = 0.97


def size(name, full, smoke):
    text = os.environ.get(name, smoke if SMOKE else full).upper()
    unit = {"K": 1 << 10, "M": MIB, "G": 1 << 30}.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


FILE = size("COMPRESS_FILE", "1G", "8M")


class Failed(Exception):
    """A transfer did not come to its end."""


class Bench:
    """Folders of one run of the script, and the bars that were looked at."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="haul-compress-", dir=TMPFS)
        self.links = []
        self.bars = []

    def end(self):
        for link in self.links:
            link.end()
        shutil.rmtree(self.base, ignore_errors=True)

    def run(self):
        for name in LINKS:
            self.links.append(Loopback() if name == "loopback" else Limited(name, int(name.removeprefix("link"))))
        print(f"## Automatic compression beside none and level {LEVEL}, {RUNS} run(s) each, in turn\n")
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}; both ends on this machine, from and to "
              f"memory; files of {FILE // MIB} MiB. Times are the receiver's, from its start to its end; its share is that of the "
              "better of the other two, run by run.\n")
        print("| link | data | off, s | on, s | auto, s (min median max) | MB/s | share | wire bytes off, on, auto, MiB |")
        print("|---|---|---|---|---|---|---|---|")
        for row in ROWS:
            source = os.path.join(self.base, f"{row}.bin")
            make(row, source)
            for link in self.links:
                self.measure(row, link, source)
            os.remove(source)
        print("\n### Bars\n\n| what | wanted | got | |\n|---|---|---|---|")
        print("\n".join(self.bars))
        if SMOKE:
            print("\nThis was a smoke run: its sizes are too small for any of the numbers to mean something.")

    def measure(self, row, link, source):
        found = {mode: [] for mode in MODES}
        for number in range(RUNS):
            # Another one is first in each round, so that none always runs after the same one.
            for place in range(len(MODES)):
                mode = list(MODES)[(place + number) % len(MODES)]
                touch_memory(FILE if SMOKE else FILE + (512 << 20), TMPFS)
                read_all(source)
                seconds, wire = self.transfer(link, source, MODES[mode], number == 0)
                found[mode].append((seconds, wire))
                print(f"  {link.name} {row} {number + 1}/{RUNS} {mode}: {seconds:.3f} s, {wire / MIB:.1f} MiB",
                      file=sys.stderr)
        seconds = {mode: [run[0] for run in runs] for mode, runs in found.items()}
        middle = {mode: statistics.median(times) for mode, times in seconds.items()}
        share = statistics.median(min(off, on) / auto for off, on, auto in zip(*seconds.values()))
        wires = ", ".join(f"{statistics.median(run[1] for run in runs) / MIB:.0f}" for runs in found.values())
        auto = seconds["auto"]
        print(f"| {link.says} | {row} | {middle['off']:.2f} | {middle['on']:.2f} | {min(auto):.2f} {middle['auto']:.2f} "
              f"{max(auto):.2f} | {FILE / middle['auto'] / 1e6:.0f} | {share:.3f} | {wires} |")
        verdict = "met" if share >= SHARE else "MISSED"
        self.bars.append(f"| {row} over {link.says}: share of the better one | ≥ {SHARE} | {share:.3f} | {verdict} |")

    def transfer(self, link, source, how, is_compared):
        """Seconds of one receiver, and the bytes that it counted on the wire."""
        home = tempfile.mkdtemp(prefix="home-", dir=self.base)
        into = tempfile.mkdtemp(prefix="into-", dir=self.base)
        environment = {**os.environ, "XDG_STATE_HOME": f"{home}/state", "XDG_CACHE_HOME": f"{home}/cache"}
        silent = {"env": environment, "stderr": subprocess.DEVNULL}
        words = [HAUL, "send", source, "--bind", f"{link.address}:0", "--quiet", "--no-announce", "--compress", how]
        sender = start(link.sender(words), stdout=subprocess.PIPE, text=True, **silent)
        offer = sender.stdout.readline().strip()
        if not offer:
            raise Failed("haul send made no offer")
        with open(f"{home}/events", "w+", encoding="utf-8") as events:
            words = [HAUL, "receive", offer, "--into", into, "--yes", "--json"]
            began = time.monotonic()
            receiver = start(link.receiver(words), stdout=events, **silent)
            code, _ = finish(receiver)
            seconds = time.monotonic() - began
            events.seek(0)
            last = json.loads(events.readlines()[-1])
        sender_code, _ = finish(sender)
        sender.stdout.close()
        if (code, sender_code) != (0, 0):
            raise Failed(f"haul receive ended with {code}, haul send with {sender_code}")
        if is_compared:
            subprocess.run(["cmp", source, os.path.join(into, os.path.basename(source))], check=True)
        shutil.rmtree(into)
        shutil.rmtree(home)
        return seconds, last["wire_bytes"]


def make(row, path):
    """Writes a file of that kind; the same one in every run of the script, but for noise."""
    with open(path, "wb") as file:
        if row == "text":
            text = Text()
            write(file, text.take)
        elif row == "random":
            write(file, os.urandom)
        elif row == "zeros":
            write(file, bytes)
        elif row == "mixed":
            mixed(file)
        else:
            raise Failed(f"there is no row `{row}`")


def write(file, take, length=FILE):
    while length:
        length -= file.write(take(min(length, 4 * MIB)))


def mixed(file):
    """Text, noise and zeros in turn, from 64 KiB to 8 MiB of each."""
    chance, text, left = random.Random(1), Text(), FILE
    while left:
        for take, share in ((text.take, 1.0), (os.urandom, 1.0), (bytes, 0.1)):
            length = min(left, int((64 << 10) * 128 ** chance.random() * share))
            write(file, take, length)
            left -= length


class Text:
    """The texts of this machine, one after the other, and again from the first one where they are too few."""

    def __init__(self):
        self.paths = sorted(os.path.join(folder, name) for top in TEXT
                            for folder, _, names in os.walk(os.path.expanduser(top)) for name in names
                            if name.endswith((".rs", ".md", ".txt", ".toml", ".h", ".c", "copyright", ".html")))
        self.next = 0
        self.held = b""
        if not self.paths:
            raise Failed("there is no text below COMPRESS_TEXT")

    def take(self, length):
        parts, got = [self.held], len(self.held)
        while got < length:
            with open(self.paths[self.next % len(self.paths)], "rb") as file:
                parts.append(file.read())
            got += len(parts[-1])
            self.next += 1
        held = b"".join(parts)
        self.held = held[length:]
        return held[:length]


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
            bench.end()


if __name__ == "__main__":
    main()
