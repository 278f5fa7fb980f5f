"""The tools side by side: each fetches one source, over 127.0.0.1, from a server that runs already."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from measure import PeakAnonymous, finish, start, stop

CIPHER = "aes128-gcm@openssh.com"


class Failed(Exception):
    """A tool did not do what it was asked to."""


class Haul:
    """haul: encrypted, verified, synced to disk, resumable."""

    name = "haul"
    command = "haul send SOURCE --bind 127.0.0.1:0 --quiet; haul receive LINK --into DEST --yes --quiet"

    def __init__(self, binary, scratch):
        self.binary, self.scratch = binary, scratch

    def fetch(self, source, into):
        """Returns wall seconds of the receiver, and CPU seconds of both ends."""
        wall, cpu, _ = self.transfer(source, into, "--quiet")
        return wall, cpu

    def fetch_with_events(self, source, into):
        """Returns the receiver's last event, and the most anonymous memory of sender and of receiver."""
        _, _, anonymous = self.transfer(source, into, "--json", PeakAnonymous)
        with open(self.output(), encoding="utf-8") as output:
            last = json.loads(output.readlines()[-1])
        if last["event"] != "done":
            raise Failed("haul receive said nothing at its end")
        return last, anonymous

    def output(self):
        return os.path.join(self.scratch, "receiver-output")

    def transfer(self, source, into, flag, sampler=None):
        """Transfers with state and caches that are new; samples both ends if asked to."""
        home = tempfile.mkdtemp(dir=self.scratch)
        environment = {**os.environ, "XDG_STATE_HOME": f"{home}/state", "XDG_CACHE_HOME": f"{home}/cache"}
        silent = {"env": environment, "stderr": subprocess.DEVNULL}
        # Nothing but the link goes through a pipe: whoever reads it would take time from both ends.
        command = [self.binary, "send", source, "--bind", "127.0.0.1:0", "--quiet"]
        sender = start(command, stdout=subprocess.PIPE, text=True, **silent)
        link = sender.stdout.readline().strip()
        if not link:
            raise Failed("haul send made no offer")
        with open(self.output(), "w", encoding="utf-8") as output:
            began = time.monotonic()
            receiver = start([self.binary, "receive", link, "--into", into, "--yes", flag], stdout=output, **silent)
            peaks = [sampler(process.pid) for process in (sender, receiver)] if sampler else []
            code, cpu = finish(receiver)
            wall = time.monotonic() - began
        anonymous = [peak.end() for peak in peaks]
        sender_code, sender_cpu = finish(sender)
        sender.stdout.close()
        shutil.rmtree(home)
        if (code, sender_code) != (0, 0):
            raise Failed(f"haul receive ended with {code}, haul send with {sender_code}")
        return wall, cpu + sender_cpu, anonymous


class RsyncDaemon:
    """rsync from an rsync daemon: plain TCP, not synced."""

    name = "rsync daemon"
    command = "rsync rsync://127.0.0.1:PORT/source/NAME DEST/ (a folder: rsync -a)"

    def __init__(self, scratch):
        self.scratch = scratch

    def fetch(self, source, into):
        port = free_port()
        config = os.path.join(self.scratch, "rsyncd.conf")
        own = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else ""
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"address = 127.0.0.1\nport = {port}\nuse chroot = no\nreverse lookup = no\n{own}")
            file.write(f"log file = {self.scratch}/rsyncd.log\n")
            file.write(f"[source]\npath = {os.path.dirname(source)}\nread only = yes\n")
        server = start(["rsync", "--daemon", "--no-detach", f"--config={config}"])
        wait_for_port(port)
        url = f"rsync://127.0.0.1:{port}/source/{os.path.basename(source)}"
        wall, cpu = timed(["rsync", *tree_flags(source, "-a"), url, into + "/"])
        return wall, cpu + stop(server)


class Ssh:
    """A tool over an sshd of our own, with a fast authenticated cipher; not synced."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.key, self.host_key = os.path.join(scratch, "user_key"), os.path.join(scratch, "host_key")
        for key in (self.key, self.host_key):
            if not os.path.exists(key):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    def fetch(self, source, into):
        port = free_port()
        server = start([shutil.which("sshd", path=SSHD_PATH), "-D", "-e", "-f", self.sshd_config(port)],
                       stderr=subprocess.DEVNULL)
        wait_for_port(port)
        wall, cpu = timed(self.client(port, source, into))
        return wall, cpu + stop(server)

    def sshd_config(self, port):
        with open(self.host_key + ".pub", encoding="ascii") as public:
            kind, key = public.read().split()[:2]
        with open(self.known_hosts(), "w", encoding="ascii") as known:
            known.write(f"[127.0.0.1]:{port} {kind} {key}\n")
        config = os.path.join(self.scratch, "sshd_config")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f"ListenAddress 127.0.0.1:{port}\nHostKey {self.host_key}\nAuthorizedKeysFile {self.key}.pub\n"
                f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
                f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
                f"Ciphers {CIPHER}\nSubsystem sftp internal-sftp\n"
            )
        return config

    def known_hosts(self):
        return os.path.join(self.scratch, "known_hosts")

    def options(self):
        settings = {
            "UserKnownHostsFile": self.known_hosts(), "GlobalKnownHostsFile": "none", "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes", "IdentityAgent": "none", "BatchMode": "yes", "Compression": "no",
            "LogLevel": "ERROR",
        }
        pairs = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return ["-F", "none", "-i", self.key, "-c", CIPHER, *pairs]

    def client(self, port, source, into):
        raise NotImplementedError


class RsyncSsh(Ssh):
    """rsync over ssh."""

    name = "rsync over ssh"
    command = f"rsync -e 'ssh -c {CIPHER}' 127.0.0.1:SOURCE DEST/ (a folder: rsync -a)"

    def client(self, port, source, into):
        shell = " ".join(["ssh", "-p", str(port), *self.options()])
        return ["rsync", *tree_flags(source, "-a"), "-e", shell, f"{getpass.getuser()}@127.0.0.1:{source}", into + "/"]


class Scp(Ssh):
    """scp."""

    name = "scp"
    command = f"scp -c {CIPHER} 127.0.0.1:SOURCE DEST/ (a folder: scp -pr)"

    def client(self, port, source, into):
        remote = f"{getpass.getuser()}@127.0.0.1:{source}"
        return ["scp", "-q", "-P", str(port), *self.options(), *tree_flags(source, "-pr"), remote, into + "/"]


SSHD_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def tree_flags(source, flags):
    return [flags] if os.path.isdir(source) else []


def timed(command):
    """Wall seconds of a command, and its CPU seconds with those of its children."""
    began = time.monotonic()
    code, cpu = finish(start(command, stdout=subprocess.DEVNULL))
    if code != 0:
        raise Failed(f"{command[0]} ended with {code}")
    return time.monotonic() - began, cpu


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Failed(f"nothing listens on port {port}")
