"""Takes the messages of a Hookyard inbox: python3 inbox.py INBOX_ID, with HOOKYARD_URL and HOOKYARD_KEY in the environment."""
import json, os, sys, time, urllib.error, urllib.request

URL = f"{os.environ['HOOKYARD_URL']}/v1/inboxes/{sys.argv[1]}/messages"
KEY = os.environ["HOOKYARD_KEY"]
DELAY = int(os.environ.get("HOOKYARD_DELAY", "30"))


def post(path, body):
    request = urllib.request.Request(
        f"{URL}/{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.load(answer)


def handle(event):
    """Your work. A message may come twice (when we are killed before we acknowledge it): its id is the same then."""
    print(event["event_type"], event["payload"]["order"], flush=True)


def held(message):
    return {"id": message["id"], "lease_token": message["lease_token"]}


def take():
    """Leases some messages, waits for one if there is none, and says what became of each."""
    leased = post("lease", {"lease_seconds": 60, "lease_limit": 10, "wait_seconds": 20})
    done = []
    for message in leased["messages"]:
        try:
            handle(message["event"])
            done.append(held(message))
        except Exception as error:  # another reader, or we, get it again later; after max_leases it is quarantined
            post("release", {"messages": [held(message)], "delay_seconds": DELAY, "reason": repr(error)[:500]})
    if done:
        post("ack", {"messages": done})


while True:
    try:
        take()
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code != 429:
            raise
        time.sleep(int(error.headers.get("Retry-After") or 1))
    except OSError as error:  # no connection: leases end by themselves
        print(error, file=sys.stderr)
        time.sleep(1)
