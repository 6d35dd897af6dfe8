"""The receiver of scripts/demo: prints every delivery with the verdict on its signatures.

It listens on a free port, which it writes to DIR/port. DIR/secrets has a line per hook:
path TAB secret of the Standard Webhooks triple (whsec_...) TAB secret of X-TriggersAPI-Signature (or nothing).
Nothing but Python's standard library: what is verified here, any receiver can verify.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import signal
import sys
import threading
import time

WORK = sys.argv[1]
TOLERANCE_S = 300

lock = threading.Lock()
seen = {"count": 0, "good": 0, "bad": 0, "failed_once": False}


def secrets_of(path):
    """The two secrets that the hook on this path was given."""
    with open(os.path.join(WORK, "secrets"), encoding="utf-8") as lines:
        for line in lines:
            name, standard, shared = line.rstrip("\n").split("\t")
            if name == path:
                return standard, shared
    return "", ""


def sign(key, data):
    return base64.b64encode(hmac.new(key, data, hashlib.sha256).digest()).decode()


def standard_webhooks(secret, headers, body):
    """The check of https://www.standardwebhooks.com: id, timestamp and body are signed, any one signature suffices."""
    message, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > TOLERANCE_S:
        return "REFUSED (time stamp)"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = sign(key, f"{message}.{sent_at}.".encode() + body)
    given = (text.split(",", 1) for text in headers.get("webhook-signature", "").split())
    good = any(version == "v1" and hmac.compare_digest(expected, value) for version, value in given)
    return "VERIFIED" if good else "REFUSED"


def triggers_api(secret, headers, body):
    given = headers.get("X-TriggersAPI-Signature")
    if given is None:
        return "REFUSED (missing)"
    return "VERIFIED" if hmac.compare_digest(sign(secret.encode(), body), given) else "REFUSED"


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with lock:
            if self.path == "/count":
                self.answer(200, str(seen["count"]))
            elif self.path == "/verdict":
                self.answer(200, f"{seen['good']} deliveries with verified signatures, {seen['bad']} bad")
            else:
                self.answer(404, "")

    def do_DELETE(self):
        """The reverse unsubscribe of a hook that Hookyard has disabled."""
        print(f"    DELETE {self.path}", flush=True)
        self.answer(200, "")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        standard, shared = secrets_of(self.path)
        verdicts = {"webhook-signature": standard_webhooks(standard, self.headers, body)}
        if shared:
            verdicts["X-TriggersAPI-Signature"] = triggers_api(shared, self.headers, body)
        event = json.loads(body)
        shown = body[body.find(b'"payload"') :][:160].decode(errors="replace")
        with lock:
            status, why = self.decide()
            seen["count"] += 1
            seen["good" if set(verdicts.values()) == {"VERIFIED"} else "bad"] += 1
            checks = ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
            print(
                f"    {self.path} {event['event_type']} {event['id']} try {self.headers.get('X-Attempt', '?')}:"
                f" {checks} -> {status}{why}\n        {shown}…",
                flush=True,
            )
        self.answer(status, "{}")

    def decide(self):
        if self.path == "/hook/broken":
            return 400, " (on purpose: a dead letter)"
        if not seen["failed_once"]:
            seen["failed_once"] = True
            return 500, " (on purpose: the retry comes in a second)"
        return 200, ""

    def answer(self, status, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Deliveries are printed; requests are not."""


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    open(os.path.join(WORK, "secrets"), "a", encoding="utf-8").close()
    waiting = os.path.join(WORK, "port.new")
    with open(waiting, "w", encoding="utf-8") as file:
        file.write(str(server.server_address[1]))
    os.rename(waiting, os.path.join(WORK, "port"))
    server.serve_forever()


main()
