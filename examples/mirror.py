#!/usr/bin/env python3
"""Keeps a mirror of the names in a directory of a fs_notify server, and goes on where it left off.

    mirror.py http://127.0.0.1:8000 /srv/data mirror.json [IDLE_MS]

mirror.json holds the tree, {name: [file ID, null or the tree inside]}, and the id of the last block that
went into it. A kill at any moment is harmless: it is written whole, and only where the
stream can be continued. With IDLE_MS the program ends after so long without a change. It ends with 1 when the directory
goes away. Where a token is needed, FS_NOTIFY_TOKEN in the environment is one.
"""
import http.client, json, os, sys, time, urllib.error, urllib.parse, urllib.request

NAMES = ",".join(f"child_{kind}_{verb}" for kind in ("file", "dir") for verb in ("added", "removed", "moved_from", "moved_to"))

def fold(tree, notes):
    """Applies one array, and says whether the directory is still there. A KeyError would mean that the stream contradicts the mirror."""
    aside = {}  # what was renamed away and has not arrived yet; what stays here has left
    for n in notes:
        kind, _, verb = n["type"].removeprefix("child_").partition("_")
        if kind == "self":
            return False  # nothing comes behind it
        *above, name = n["path"].split("/")
        inside, file_id = tree, n["spine"][-1]
        for part in above:
            inside = inside[part][1]
        if verb == "moved_from":
            aside[file_id] = inside.pop(name)  # with all below it
        elif verb == "removed":
            inside.pop(name)
        elif name in inside:
            raise KeyError(n["path"])
        else:  # added, or moved_to: from elsewhere in the tree, else from outside
            back = aside.pop(file_id, None) if verb == "moved_to" else None
            inside[name] = back or [file_id, {} if kind == "dir" else None]
    return True

def blocks(answer):
    """Yields the complete blocks of an event stream; one that was cut off never happened."""
    block = {}
    for line in answer:
        if not line.endswith(b"\n"):
            return  # cut off, maybe inside a character
        if line.strip():
            field, _, value = line.decode().rstrip("\r\n").partition(":")
            block[field] = value.removeprefix(" ")
        elif block:
            yield block
            block = {}

def mirror(server, directory, file, idle=None):
    if not server.startswith(("http://", "https://")):
        sys.exit(f"{server} is no address of a server: it should begin with http:// or https://")
    server = server.rstrip("/")
    state, saved, cost, there = {"id": None, "tree": {}}, 0, 0, True
    if os.path.exists(file):
        with open(file) as f:
            state = json.load(f)
    headers = {"Accept": "text/event-stream"}
    if token := os.environ.get("FS_NOTIFY_TOKEN"):
        headers["Authorization"] = "Bearer " + token
    ref = urllib.parse.quote(os.fsencode(directory), safe="")
    while True:
        query = {"recursive": "true", "filter": NAMES} | ({"timeout": idle} if idle else {})
        query |= {"last_event_id": state["id"]} if state["id"] else {"since": "snapshot"}
        request = urllib.request.Request(f"{server}/v1/files/{ref}/notify?{urllib.parse.urlencode(query)}", headers=headers)
        heard, pause = time.monotonic(), 1
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # there is a sign of life every 15 s
                for block in blocks(answer):
                    if block.get("event") == "reset":
                        state = {"id": None, "tree": {}}
                    elif "data" in block:
                        heard = time.monotonic()
                        there = fold(state["tree"], json.loads(block["data"]))
                    if "id" in block:
                        state["id"] = block["id"]
                        if not there or time.monotonic() - saved > 20 * cost:  # a large tree is not written at every change
                            cost, saved = save(state, file), time.monotonic()
                    if not there:
                        sys.exit("the directory is gone; once it is back, this goes on when it is started again")
            if idle and time.monotonic() - heard > 0.9 * int(idle) / 1000 and state["id"]:
                return save(state, file)
        except urllib.error.HTTPError as error:
            if error.code == 410:  # gone: what was missed is not kept any more
                state["id"] = None
                continue
            if error.code < 500 and error.code != 429:
                sys.exit(f"{error.code}: {error.read().decode()}")
            after = error.headers.get("Retry-After", "")
            pause = int(after) if after.isdigit() else pause  # a proxy may give a date
        except http.client.InvalidURL as error:
            sys.exit(f"{server} is no address of a server: {error}")
        except (OSError, http.client.HTTPException) as error:
            print("connection lost:", error, file=sys.stderr)
        time.sleep(pause)

def save(state, file):
    began = time.monotonic()
    with open(file + ".new", "w") as f:
        json.dump(state, f)
        f.flush()
        os.fsync(f.fileno())
    os.replace(file + ".new", file)
    return time.monotonic() - began

if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    mirror(*sys.argv[1:])
