"""Rows, rounds and tables of the comparison with other tools. Started by `run`, which says what can be set."""

import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

from contenders import Haul, RsyncDaemon, RsyncSsh, Scp
from measure import kill_all, read_all, touch_memory

SMOKE = bool(os.environ.get("PEERS_SMOKE"))
GIB = 1 << 30


def size(name, full, smoke):
    text = os.environ.get(name, smoke if SMOKE else full).upper()
    unit = {"K": 1 << 10, "M": 1 << 20, "G": GIB}.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


FILE = size("PEERS_FILE", "4G", "32M")
SPARSE = size("PEERS_SPARSE", "64G", "256M")
MEMORY = size("PEERS_MEMORY", "16G", "64M")
SMALL_FILES = size("PEERS_SMALL_FILES", "20000", "200")
MEMORY_KIND = os.environ.get("PEERS_MEMORY_KIND", "random")
RUNS = int(os.environ.get("PEERS_RUNS", "1" if SMOKE else "5"))
MEMORY_FILES = size("PEERS_MEMORY_FILES", "100000", "500")
ROWS = os.environ.get("PEERS_ROWS", "disk tmpfs small first-byte memory small-memory").split()
DISK = os.path.abspath(os.environ.get("PEERS_DISK", "target/peers"))
TMPFS = os.path.abspath(os.environ.get("PEERS_TMPFS", "/dev/shm"))

# What haul must reach at full size: the other tool's time divided by haul's, at least.
BARS = {
    "disk": {"rsync daemon": 0.9, "rsync over ssh": 1.9, "scp": 1.9},
    "tmpfs": {"rsync daemon": 0.85, "rsync over ssh": 1.7},
    "small": {"rsync daemon": 1.0},
}
CPU_NS_PER_BYTE = 1.6
FIRST_BYTE_MS = 100
ANONYMOUS_BYTES = 64 << 20


class Bench:
    """Folders and tools of one run of the script, and the bars that were looked at."""

    def __init__(self):
        os.makedirs(DISK, exist_ok=True)
        self.disk = tempfile.mkdtemp(prefix="haul-peers-", dir=DISK)
        self.tmpfs = tempfile.mkdtemp(prefix="haul-peers-", dir=TMPFS)
        scratch = self.folder("scratch")
        self.haul = Haul(os.environ["PEERS_HAUL"], scratch)
        self.others = [RsyncDaemon(scratch), RsyncSsh(scratch), Scp(scratch)]
        self.bars = []

    def folder(self, name):
        path = os.path.join(self.disk, name)
        os.makedirs(path, exist_ok=True)
        return path

    def remove(self):
        for path in (self.disk, self.tmpfs):
            shutil.rmtree(path, ignore_errors=True)

    def bar(self, what, wanted, got, is_met):
        self.bars.append(f"| {what} | {wanted} | {got} | {'met' if is_met else 'MISSED'} |")

    def race(self, row, title, source, base, contenders):
        """Lets contenders fetch `source` into `base` in turn, `RUNS` times, and prints a table."""
        data = weight(source)
        results = {contender.name: [] for contender in contenders}
        done = []
        for number in range(RUNS):
            # Another one is first in each round, so that no tool always runs after the same one.
            for place in range(len(contenders)):
                contender = contenders[(place + number) % len(contenders)]
                into = tempfile.mkdtemp(prefix="into-", dir=base)
                make_ready(source, data)
                wall, cpu = contender.fetch(source, into)
                if number == 0:
                    compare(source, into)
                if row == "small":
                    # ext4 passes over inodes that were freed a moment ago, so freeing 20,000 of them slows the next run.
                    done.append(into)
                else:
                    shutil.rmtree(into)
                os.sync()
                results[contender.name].append((wall, cpu))
                print(f"  {row} {number + 1}/{RUNS} {contender.name}: {wall:.3f} s, CPU {cpu:.3f} s", file=sys.stderr)
        for into in done:
            shutil.rmtree(into)
        self.tabulate(row, title, data, results)

    def tabulate(self, row, title, data, results):
        print(f"\n### {title}\n")
        print("| tool | min s | median s | max s | MB/s | CPU of both ends, ns/byte | its time / haul's |")
        print("|---|---|---|---|---|---|---|")
        for name, runs in results.items():
            walls = [wall for wall, _ in runs]
            middle = statistics.median(walls)
            cpu = statistics.median(cpu for _, cpu in runs) / data * 1e9
            # Run by run: what slows a round down slows both.
            ratio = statistics.median(wall / ours for wall, (ours, _) in zip(walls, results["haul"]))
            print(f"| {name} | {min(walls):.2f} | {middle:.2f} | {max(walls):.2f} | {data / middle / 1e6:.0f} "
                  f"| {cpu:.2f} | {ratio:.2f} |")
            wanted = BARS[row].get(name)
            if wanted:
                self.bar(f"{row}: times faster than {name}", f"≥ {wanted}", f"{ratio:.2f}", ratio >= wanted)
            if name == "haul" and row != "small":
                self.bar(f"{row}: CPU ns/byte", f"≤ {CPU_NS_PER_BYTE}", f"{cpu:.2f}", cpu <= CPU_NS_PER_BYTE)

    def first_bytes(self):
        """How long it takes until the receiver has data of a file that was never hashed."""
        sources = {"incompressible": random_file(self.folder("first"), "plain.bin", FILE),
                   "sparse": sparse_file(self.folder("first"), "sparse.bin", SPARSE)}
        found = {name: [] for name in sources}
        for _ in range(RUNS):
            for name, source in sources.items():
                into = tempfile.mkdtemp(prefix="into-", dir=self.disk)
                make_ready(source if name != "sparse" else None, min(FILE, GIB))
                found[name].append(self.haul.fetch_with_events(source, into)[0]["first_byte_ms"])
                shutil.rmtree(into)
                os.sync()
        print("\n### First byte at the receiver, file never hashed before (its own clock, from its start)\n")
        print("| file | min ms | median ms | max ms |\n|---|---|---|---|")
        for name, times in found.items():
            shown = FILE if name != "sparse" else SPARSE
            print(f"| {human(shown)} {name} | {min(times)} | {statistics.median(times):g} | {max(times)} |")
        plain, sparse = (statistics.median(found[name]) for name in sources)
        self.bar(f"first byte at {human(FILE)}, ms", f"≤ {FIRST_BYTE_MS}", f"{plain:g}", plain <= FIRST_BYTE_MS)
        limit = max(2 * plain, 1)
        self.bar(f"first byte at {human(SPARSE)} sparse, ms", f"≤ {limit:g}", f"{sparse:g}", sparse <= limit)
        shutil.rmtree(self.folder("first"))

    def memory(self, what, source):
        """The most anonymous memory of either end."""
        into = tempfile.mkdtemp(prefix="into-", dir=self.disk)
        _, (sender, receiver) = self.haul.fetch_with_events(source, into)
        compare(source, into)
        print(f"\n### Anonymous memory over {what}, sampled every 50 ms\n")
        print("| end | highest RssAnon, MiB |\n|---|---|")
        print(f"| sender | {sender / (1 << 20):.1f} |\n| receiver | {receiver / (1 << 20):.1f} |")
        most = max(sender, receiver)
        self.bar(f"RssAnon of either end over {what}, MiB", "≤ 64", f"{most / (1 << 20):.1f}", most <= ANONYMOUS_BYTES)
        shutil.rmtree(into)
        shutil.rmtree(self.folder("memory"))

    def run(self):
        describe([self.haul, *self.others])
        if {"disk", "tmpfs"} & set(ROWS):
            source = random_file(self.folder("one"), "file.bin", FILE)
            if "disk" in ROWS:
                title = f"{human(FILE)} incompressible file to disk ({file_system(self.disk)})"
                self.race("disk", title, source, self.disk, [self.haul, *self.others])
            if "tmpfs" in ROWS:
                title = f"{human(FILE)} incompressible file to {file_system(self.tmpfs)}"
                self.race("tmpfs", title, source, self.tmpfs, [self.haul, *self.others])
            shutil.rmtree(self.folder("one"))
        if "small" in ROWS:
            source = small_files(self.folder("small"), SMALL_FILES)
            title = f"{SMALL_FILES} files of 1 to 16 KiB to disk ({file_system(self.disk)})"
            self.race("small", title, source, self.disk, [self.haul, *self.others[:2]])
            shutil.rmtree(self.folder("small"))
        if "first-byte" in ROWS:
            self.first_bytes()
        if "memory" in ROWS:
            make = sparse_file if MEMORY_KIND == "sparse" else random_file
            source = make(self.folder("memory"), "large.bin", MEMORY)
            self.memory(f"a {human(MEMORY)} {MEMORY_KIND} file", source)
        if "small-memory" in ROWS:
            source = small_files(self.folder("memory"), MEMORY_FILES)
            self.memory(f"{MEMORY_FILES} files of 1 to 16 KiB", source)
        print("\n### Bars\n\n| what | wanted | got | |\n|---|---|---|---|")
        print("\n".join(self.bars))
        if SMOKE:
            print("\nThis was a smoke run: its sizes are too small for any of the numbers to mean something.")


def describe(contenders):
    print(f"## Side by side, {RUNS} run(s) each, in turn\n")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {cpu_model()}, Linux {platform.release()}; both ends on this "
          "machine. The memory that a run uses is touched before, and the source is in the page cache. "
          "Times include haul's syncs; the other tools do not sync.\n")
    print("| tool | command |\n|---|---|")
    for contender in contenders:
        print(f"| {contender.name} | `{contender.command.replace('|', ' ')}` |")
    print()
    for command in ([os.environ["PEERS_HAUL"], "--version"], ["rsync", "--version"], ["ssh", "-V"]):
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"* {(said.stdout + said.stderr).splitlines()[0]}")


def make_ready(source, data):
    # The kernel hands out whichever pages it likes, so more are touched than the run needs.
    touch_memory(data if SMOKE else 3 * data + (512 << 20), TMPFS)
    if source:
        read_all(source)
    os.sync()


def compare(source, into):
    """The first round of each tool must give what was sent; a tool that moves something else is no competition."""
    copy = os.path.join(into, os.path.basename(source))
    tool = ["diff", "-r"] if os.path.isdir(source) else ["cmp"]
    subprocess.run([*tool, source, copy], check=True)


def weight(path):
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def random_file(folder, name, length):
    path = os.path.join(folder, name)
    with open(path, "wb", buffering=0) as file:
        left = length
        while left:
            left -= file.write(os.urandom(min(left, 4 << 20)))
    return path


def sparse_file(folder, name, length):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.truncate(length)
    return path


def small_files(folder, count):
    top = os.path.join(folder, "tree")
    chance = random.Random(1)
    for number in range(count):
        below = os.path.join(top, f"folder-{number // 500:03}")
        os.makedirs(below, exist_ok=True)
        with open(os.path.join(below, f"file-{number:05}"), "wb") as file:
            file.write(chance.randbytes(chance.randint(1 << 10, 16 << 10)))
    return top


def human(length):
    unit, name = (GIB, "GiB") if length >= GIB else (1 << 20, "MiB")
    return f"{length / unit:g} {name}"


def file_system(path):
    said = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False)
    return said.stdout.strip().replace("ext2/ext3", "ext4") or "unknown"


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        models = (line.partition(":")[2].strip() for line in info if line.startswith("model name"))
        return next(models, "unknown CPU")


def main():
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    made_run_sshd = False
    if os.getuid() == 0 and not os.path.isdir("/run/sshd"):
        # Where sshd, run by root, locks its unprivileged half in.
        os.makedirs("/run/sshd", mode=0o755)
        made_run_sshd = True
    bench = Bench()
    try:
        bench.run()
    finally:
        try:
            kill_all()
        finally:
            bench.remove()
            if made_run_sshd:
                os.rmdir("/run/sshd")


if __name__ == "__main__":
    main()
