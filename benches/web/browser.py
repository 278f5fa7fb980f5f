"""Chromium without a window, driven over the pipes of its debugging protocol."""

import json
import os
import select
import subprocess
import time

import measure

# The protocol's pipes are the third and fourth file of the process, which a shell gives it.
SHELL = 'exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --remote-debugging-pipe""".split()
PATIENCE = 600


class Browser:
    """A browser with one tab. What it downloads goes into a folder."""

    def __init__(self, profile, downloads):
        command = ["sh", "-c", SHELL, "chromium", *OPTIONS, f"--user-data-dir={profile}"]
        self.process = measure.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.calls, self.rest, self.events = 0, b"", []
        self.session = None
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=downloads, eventsEnabled=True)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        if self.session and not method.startswith(("Browser.", "SystemInfo.")):
            message["sessionId"] = self.session
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        number, ends = self.calls, time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            for answer in self.read(1):
                if answer.get("id") == number:
                    if "error" in answer:
                        raise RuntimeError(f"{method}: {answer['error']}")
                    return answer["result"]
        raise TimeoutError(method)

    def read(self, seconds):
        """What came within so many seconds: answers, while events are set aside."""
        pipe = self.process.stdout.fileno()
        if not select.select([pipe], [], [], seconds)[0]:
            return []
        some = os.read(pipe, 1 << 20)
        if not some:
            raise RuntimeError("the browser ended")
        *whole, self.rest = (self.rest + some).split(b"\0")
        messages = [json.loads(message) for message in whole]
        self.events += [message for message in messages if "id" not in message]
        return [message for message in messages if "id" in message]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)
        return answer["result"].get("value")

    def wait_for(self, expression, seconds=60):
        """Waits until an expression is true. A page that is being left has no answer."""
        ends = time.monotonic() + seconds
        while not self.evaluate(f"(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()"):
            if time.monotonic() > ends:
                raise TimeoutError(f"{expression}; the page shows: {self.evaluate('document.body.innerText')}")
            time.sleep(0.02)

    def press(self, expression):
        self.wait_for(expression)
        self.evaluate(f"({expression}).click()")

    def pick(self, selector, path):
        """Gives a file to an input element, as a person does who picks it."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", files=[path], objectId=found["result"]["objectId"])

    def wait_for_download(self):
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            self.read(0.05)
            states = [event["params"]["state"] for event in self.events if event["method"] == "Browser.downloadProgress"]
            if "completed" in states:
                return
            if "canceled" in states:
                raise RuntimeError("the browser gave the download up")
        raise TimeoutError("the download")

    def largest_peak(self):
        """The most memory that any process of the browser has had, in bytes."""
        peaks = [0]
        for process in self.call("SystemInfo.getProcessInfo")["processInfo"]:
            try:
                with open(f"/proc/{process['id']}/status", encoding="ascii", errors="replace") as status:
                    peaks += [int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")]
            except OSError:
                pass
        return max(peaks)

    def end(self):
        # Its own children end with it.
        self.process.kill()
        measure.finish(self.process)
