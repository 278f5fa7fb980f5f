"""The servers: how each is started, and where its page takes a file and gives one."""

import json
import os
import shutil
import socket
import subprocess
import time

import measure

ADDRESS = "10.99.0.1"
PORT = 4285


class Haul:
    name = "haul"
    says = "haul's page: encrypted, every chunk checked, synced before it has its name"

    def __init__(self):
        self.command = [os.environ["WEB_HAUL"]]

    def version(self):
        return said([*self.command, "--version"])

    def start(self, folder, state, offered):
        words = ["send", offered, "--keep"] if offered else ["receive", "--yes", "--keep", "--into", folder]
        bind = ["--json", "--address", ADDRESS, "--bind", f"{ADDRESS}:{PORT}"]
        homes = {name: state for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME")}
        pipe = subprocess.PIPE
        server = measure.start(
            [*self.command, *words, *bind], stdout=pipe, stderr=subprocess.DEVNULL, env={**os.environ, **homes}
        )
        self.link = json.loads(server.stdout.readline())["link"]
        # Whatever else it says has to be taken, or it waits for that.
        self.sink = measure.start(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL)
        return server

    def give(self, browser, path):
        browser.open(self.link)
        browser.wait_for("document.querySelector('#status').textContent.startsWith('Connected')")
        return lambda: browser.pick("#files-in", path)

    def take(self, browser, name):
        browser.open(self.link)
        button = "[...document.querySelectorAll('#files button')].find(button => button.textContent === 'Get')"
        browser.wait_for(button)
        return lambda: browser.press(button)

    def stop(self, server):
        spent = measure.stop(server)
        measure.finish(self.sink)
        return spent


class HaulNative(Haul):
    """Downloads only."""

    name = "haul, browser's own download"
    says = "haul's link for browsers without the page: plain, not checked"

    def take(self, browser, name):
        browser.open(self.link)
        link = "document.querySelector('#natives a')"
        browser.wait_for(link)
        return lambda: browser.press(link)


class Plain:
    """A server that offers a folder and takes files into it."""

    def __init__(self):
        self.command = os.environ.get(f"WEB_{self.name.upper()}", self.name).split()

    def start(self, folder, state, offered):
        served = os.path.dirname(offered) if offered else folder
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = measure.start([*self.command, *self.words(served)], **quiet, env={**os.environ, "HOME": state}, cwd=state)
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            try:
                socket.create_connection((ADDRESS, PORT)).close()
                return server
            except ConnectionRefusedError:
                time.sleep(0.02)
        raise TimeoutError(f"{self.name} does not listen")

    def take(self, browser, name):
        browser.open(f"http://{ADDRESS}:{PORT}/")
        browser.wait_for("document.readyState === 'complete'")
        follow = "document.body.append(Object.assign(document.createElement('a'), {id: 'bench', download: '', href: '/%s'}))"
        browser.evaluate(follow % name)
        return lambda: browser.press("document.querySelector('#bench')")

    def give(self, browser, path):
        browser.open(f"http://{ADDRESS}:{PORT}/")
        browser.wait_for(f"document.readyState === 'complete' && document.querySelector('{self.input}')")
        return lambda: browser.pick(self.input, path)

    def stop(self, server):
        return measure.stop(server)


class Copyparty(Plain):
    name = "copyparty"
    says = "copyparty's up2k: plain; hashed by the page before it is sent; a plain download"
    input = "input[type=file][id^=file]"

    def give(self, browser, path):
        # It would ask whether the file is to be sent.
        browser.open(f"http://{ADDRESS}:{PORT}/")
        browser.wait_for("document.readyState === 'complete' && (localStorage.ask_up = '0')")
        return super().give(browser, path)

    def words(self, folder):
        return ["-i", ADDRESS, "-p", str(PORT), "-v", f"{folder}::rw", "-q", "--no-crt"]

    def version(self):
        return next(line for line in said([*self.command, "--version"]).splitlines() if "copyparty" in line)


class Dufs(Plain):
    name = "dufs"
    says = "dufs: plain; one request for a file; nothing is checked"
    input = "#file"

    def words(self, folder):
        return [folder, "-A", "-b", ADDRESS, "-p", str(PORT)]

    def version(self):
        return said([*self.command, "--version"])


def said(command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def installed(names):
    """Those of the servers that are there, and the names of those that are not."""
    servers = [server() for server in (Haul, HaulNative, Copyparty, Dufs) if server.name.split(",")[0] in names]
    there = [server for server in servers if shutil.which(server.command[0]) and server.version()]
    return there, [server.name for server in servers if server not in there]
