"""Rungs, runs and tables of the transfers over bad links. Started by `run`, which says what can be set."""

import argparse
import filecmp
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

from contenders import Aria, Bare, Curl, Haul, Rsync
from world import World

RUNS = int(os.environ.get("FLAKY_RUNS", "1"))
SEED = int(os.environ.get("FLAKY_SEED", "1"))
LIMIT = float(os.environ.get("FLAKY_LIMIT", "120"))
CONGESTION = os.environ.get("FLAKY_CC", "cubic")
MBIT = 1_000_000 // 8


class Rung:
    """A link, and how much goes through it: some 20 seconds of its full rate."""

    def __init__(self, name, says, rate, delay, jitter=0, loss=0.0, burst=1, queue=None, moves_at=None, **outages):
        self.name, self.says, self.rate, self.moves_at = name, says, rate * MBIT, moves_at
        # A queue of a round trip, as if somebody had taken care of it.
        queue = queue or max(self.rate * 2 * delay // 1000, 64 << 10)
        self.words = {"rate": self.rate, "delay": delay, "jitter": jitter, "loss": round(loss * 10_000), "burst": burst,
                      "queue": queue, **outages}
        self.bytes = self.rate * 20


STEADY = {"rate": 20, "delay": 20, "jitter": 5, "loss": 0.1, "burst": 2}
RUNGS = [
    Rung("good", "good Wi-Fi: 100 Mbit/s, 4 ms ± 2, 0.1 % lost", 100, 4, 2, 0.1, 2, queue=256 << 10, reorder=500),
    Rung("congested", "20 Mbit/s, 60 ms ± 30, 1 % lost in bursts", 20, 60, 30, 1, 4, reorder=500),
    Rung("weak", "5 Mbit/s, 100 ms ± 50, 5 % lost in bursts", 5, 100, 50, 5, 4, reorder=500),
    Rung("barely", "1 Mbit/s, 200 ms, 15 % lost in bursts", 1, 200, 0, 15, 4),
    Rung("drops", "20 Mbit/s, 20 ms ± 5, down 1 s after every 2 s", **STEADY, up=2000, down=1000),
    Rung("cuts", "the same, and no connection survives it", **STEADY, up=2000, down=1000, cuts=1),
    Rung("blackout", "20 Mbit/s, 20 ms ± 5, down from second 10 to second 20", **STEADY,
         **{"from": 10_000, "to": 20_000}),
    Rung("roam", "20 Mbit/s, 20 ms ± 5, the receiver's address changes at second 10", **STEADY, moves_at=10),
]


class Bench:
    """Folders and tools of one run of the script."""

    def __init__(self, tools):
        self.folder = tempfile.mkdtemp(prefix="run-", dir=os.environ["FLAKY_DISK"])
        every = [Haul(self.folder, os.environ["FLAKY_HAUL"]), Rsync(self.folder), Curl(self.folder), Aria(self.folder)]
        self.contenders = [one for one in every if not tools or one.name in tools]

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, rungs):
        describe(self.contenders)
        for rung in rungs:
            source = random_file(os.path.join(self.folder, "source.bin"), rung.bytes)
            heading(rung)
            gaps = []
            for contender in self.contenders:
                if contender.is_installed():
                    runs = [self.transfer(rung, contender, source, SEED + number, LIMIT) for number in range(RUNS)]
                    print(row(rung, contender, runs))
                    gaps.append(gap(contender, runs))
                else:
                    print(f"| {contender.name} | not installed | | | | | | |")
            for line in filter(None, gaps):
                print(line)

    def check(self, rungs):
        """What one bare TCP connection gets from each link: from its rate and delay alone, then from all of it."""
        print("| rung | link | share of the rate while up | lost | no room | while down |\n|---|---|---|---|---|---|")
        for rung in rungs:
            source = random_file(os.path.join(self.folder, "source.bin"), rung.bytes)
            plain = {name: rung.words[name] for name in ("rate", "delay", "queue", "burst")}
            for kind, words in (("rate and delay alone", plain), ("all of it", rung.words)):
                run = self.transfer(rung, Bare(self.folder), source, SEED, LIMIT, words if words is plain else None)
                counts = run.counts
                print(f"| {rung.name} | {kind} | {percent(share(rung, run))} | {counts['lost']} | {counts['no_room']} "
                      f"| {counts['while_down']} |")

    def transfer(self, rung, contender, source, seed, limit, words=None):
        """One transfer in a world of its own, so that no kernel remembers the one before."""
        into = tempfile.mkdtemp(prefix="into-", dir=self.folder)
        with World(os.environ["FLAKY_LINK"], {**(words or rung.words), "seed": seed}, CONGESTION) as world:
            moments = [(rung.moves_at, world.move_receiver)] if rung.moves_at and not words else []
            outcome = contender.fetch(world, source, into, limit, moments)
            outcome.counts = world.counted()
            outcome.moved_at = world.moved_at
        if outcome.finished and not filecmp.cmp(source, os.path.join(into, os.path.basename(source)), shallow=False):
            raise OSError(f"{contender.name} fetched something else")
        shutil.rmtree(into)
        print(f"  {rung.name} {contender.name}: {outcome.seconds:.1f} s, {outcome.bytes} of {rung.bytes} bytes, "
              f"gave up with {outcome.exits}, {outcome.counts}", file=sys.stderr)
        return outcome


def share(rung, run):
    """What arrived, of what the link could carry while it was up."""
    return run.bytes / (run.counts["up_seconds"] * rung.rate)


def heading(rung):
    print(f"\n### {rung.name}: {rung.says} ({rung.bytes / 1e6:g} MB)\n")
    print("| tool | seconds | goodput, of the link while up | restarts | carried beyond the file, MB | % of the file "
          "| fetched twice, by its own count | wire bytes, by its own count |")
    print("|---|---|---|---|---|---|---|---|")


def row(rung, contender, runs):
    finished = [run for run in runs if run.finished]
    took = f"{statistics.median(run.seconds for run in runs):.1f}"
    if len(finished) < len(runs):
        took = f"not finished ({percent(statistics.median(run.bytes / rung.bytes for run in runs))})"
        took += f", {len(finished)} of {len(runs)} did" if finished else ""
    shares = percent(statistics.median(share(rung, run) for run in runs))
    restarts = f"{statistics.median(len(run.exits) for run in runs):g}"
    # Of a transfer without an end: what was carried beyond what the tool has.
    extra = statistics.median(run.counts["carried_payload"] - run.bytes for run in runs)
    own = ["", ""]
    if all(run.fetched is not None for run in runs):
        own = [f"{statistics.median(run.fetched - rung.bytes for run in runs):,.0f}",
               f"{statistics.median(run.wire for run in runs):,.0f}"]
    return (f"| {contender.name} | {took} | {shares} | {restarts} | {extra / 1e6:.2f} | {percent(extra / rung.bytes)} "
            f"| {own[0]} | {own[1]} |")


def gap(contender, runs):
    """How long no data reached the receiver's new address."""
    gaps = [run.counts["newest_address"] - run.moved_at for run in runs if run.moved_at is not None]
    came = [seconds for seconds in gaps if seconds > 0]
    if not gaps:
        return None
    if len(came) < len(gaps):
        return f"* {contender.name}: no data came to the new address in {len(gaps) - len(came)} of {len(gaps)} runs"
    return f"* {contender.name}: data came to the new address after {statistics.median(came):.2f} s"


def percent(value):
    return f"{value * 100:.1f} %"


def describe(contenders):
    print(f"## Over bad links, {RUNS} run(s) each, at most {LIMIT:g} s\n")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, TCP {CONGESTION}, seed {SEED}. "
          "A tool that gives up is started again at once. Delays are one way; both directions are alike. Goodput is "
          "the file's bytes that arrived, over the rate times the time that the link was up. Carried are bytes of TCP "
          "payload that reached the receiver's end of the link: those of the protocol and of encryption, and those that "
          "travelled twice.\n")
    print("| tool | command |\n|---|---|")
    for contender in contenders:
        print(f"| {contender.name} | `{contender.command}` |")
    print()
    for command in ([os.environ["FLAKY_HAUL"], "--version"], ["rsync", "--version"], ["curl", "--version"]):
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"* {(said.stdout + said.stderr).splitlines()[0]}")


def random_file(path, length):
    with open(path, "wb", buffering=0) as file:
        left = length
        while left:
            left -= file.write(os.urandom(min(left, 4 << 20)))
    return path


def words(text):
    return text.replace(",", " ").split()


def main():
    sys.stdout.reconfigure(line_buffering=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(prog="benches/flaky/run")
    parser.add_argument("--rungs", type=words, default=[rung.name for rung in RUNGS])
    parser.add_argument("--tools", type=words, default=[])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rungs = {rung.name: rung for rung in RUNGS}
    for name in options.rungs:
        if name not in rungs:
            parser.error(f"there is no rung `{name}`; there are {' '.join(rungs)}")
    bench = Bench(options.tools)
    for name in options.tools:
        if name not in [contender.name for contender in bench.contenders]:
            bench.remove()
            parser.error(f"there is no tool `{name}`")
    chosen = [rungs[name] for name in options.rungs]
    try:
        (bench.check if options.check else bench.run)(chosen)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        bench.remove()


if __name__ == "__main__":
    try:
        main()
    finally:
        os.remove(os.environ["FLAKY_LINK"])
