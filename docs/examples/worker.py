#!/usr/bin/env python3
"""A worker for Hookyard with nothing but Python's standard library: it counts the words of a task's description.

    HOOKYARD_URL=https://hooks.example.com HOOKYARD_WORKER_TOKEN=wk_… python3 worker.py

Replace `work` with what yours shall do. The protocol: docs/tasks.md, "Do tasks yourself".
"""
import collections, json, os, re, socket, threading, time, urllib.error, urllib.request

BASE = os.environ["HOOKYARD_URL"].rstrip("/") + "/v1/automation/worker/"
TOKEN = os.environ["HOOKYARD_WORKER_TOKEN"]
WORKER = {"name": f"{socket.gethostname()}-{os.getpid()}", "version": "example", "agent_types": ["explore"]}


class Lost(Exception):
    """The run is not ours any more: cancelled, ended, or given to somebody else. Stop, and report nothing."""


def post(path, body, lease=None, timeout=60):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    if lease:
        headers["X-Lease-Token"] = lease
    request = urllib.request.Request(BASE + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        if lease and error.code in (404, 409, 410):
            raise Lost(error.code) from error
        raise


class Run:
    """A run that we hold, with a heart that beats until the run is done or lost."""

    def __init__(self, task):
        self.task, self.lost, self.done = task, threading.Event(), threading.Event()
        threading.Thread(target=self.beat, daemon=True).start()

    def say(self, what, **body):
        if self.lost.is_set():
            raise Lost()
        return post(f"runs/{self.task['run_id']}/{what}", body, self.task["lease_token"])

    def beat(self):
        while not self.done.wait(min(self.task["lease_seconds"] / 3, 10)):
            try:
                if self.say("heartbeat")["cancel_requested"]:
                    self.lost.set()
            except Lost:
                self.lost.set()
            except OSError:
                pass  # The next one may be heard; if not, the gateway gives the run to somebody else.


def work(run):
    words, counts = re.findall(r"\w+", run.task["description"].lower()), collections.Counter()
    for at in range(0, len(words), 100):
        counts.update(words[at:at + 100])
        run.say("progress", percent=100 * at // len(words), message=f"{at} words")
        time.sleep(0.05)  # This is where real work takes its time.
    return ", ".join(f"{word} {count}" for word, count in counts.most_common(5))


while True:
    try:
        tasks = post("claim", {"worker": WORKER, "wait_seconds": 25})["tasks"]
    except OSError as error:
        print("no answer:", error, flush=True)
        time.sleep(5)
        continue
    for run in map(Run, tasks):
        try:
            run.say("complete", result=work(run))
        except Lost:
            print("lost", run.task["run_id"], flush=True)
        except Exception as error:
            post(f"runs/{run.task['run_id']}/fail", {"message": repr(error)}, run.task["lease_token"])
        finally:
            run.done.set()
