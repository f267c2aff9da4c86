#!/usr/bin/env python3
"""Prints the metadata changes of a space, one JSON object a line, and goes on where it left off.

    onedata.py http://127.0.0.1:8000 SPACE seq.txt

SPACE is an ID or a name as in GET /api/v3/oneprovider/spaces. Where a token is needed, FS_NOTIFY_TOKEN in the environment is one. seq.txt holds the seq of a line that was printed, not more than a second
before the last one: whatever happens to the server, each line is printed once, but after a kill of this program the last ones come again. It
ends when nobody reads the lines any more, and with 1 and a word why when the space is not there or it is refused.
"""
import http.client, json, os, sys, time, urllib.error, urllib.parse, urllib.request

SPEC = {
    "fileMeta": {"fields": ["name", "type", "deleted"], "always": True},
    "fileLocation": {"fields": ["size"]},
    "times": {"fields": ["mtime"]},
    "customMetadata": {"fields": ["onedata_json", "onedata_keyvalue"]},
}

def ask(url, token, body=None):
    headers = {"Content-Type": "application/json"} | ({"X-Auth-Token": token} if token else {})
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=60)

def follow(server, space, file):
    if not server.startswith(("http://", "https://")):
        sys.exit(f"{server} is no address of a server: it should begin with http:// or https://")
    token = os.environ.get("FS_NOTIFY_TOKEN")
    api = server.rstrip("/") + "/api/v3/oneprovider"
    seq, saved = 0, 0
    if os.path.exists(file):
        with open(file) as f:
            text = f.read().strip()
        if not text.isdecimal():
            sys.exit(f"{file} holds {text!r}, which is no seq: put there that of the last line you have, or remove the file to begin with the oldest line")
        seq = int(text)
    while True:
        pause = 1
        try:
            with ask(api + "/spaces", token) as answer:
                known = {s["name"]: s["spaceId"] for s in json.load(answer)}
            sid = known.get(space, space)
            if sid not in known.values():
                sys.exit(f"there is no space {space!r} here, or it may not be seen; there are {list(known)}")
            # last_seq is inclusive; a quiet stream ends after 20 s, so that one that is dead is noticed
            with ask(f"{api}/changes/metadata/{urllib.parse.quote(sid, safe='')}?last_seq={seq + 1 if seq else 0}&timeout=20000", token, SPEC) as answer:
                for line in answer:
                    if not line.endswith(b"\r\n"):
                        break  # cut off: it will come again
                    if line.strip():
                        try:
                            print(line.decode().rstrip(), flush=True)
                        except OSError as error:  # of the reader, or the disk, and not of the connection
                            save(file, seq)
                            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
                            sys.exit(None if isinstance(error, BrokenPipeError) else f"the line cannot be printed: {error}")
                        seq = json.loads(line)["seq"]
                        if time.monotonic() - saved > 1:
                            save(file, seq)
                            saved = time.monotonic()
            save(file, seq)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                sys.exit(f"{error.code}: {error.read().decode()}")
            after = error.headers.get("Retry-After", "")
            pause = int(after) if after.isdecimal() else 1
        except http.client.InvalidURL as error:
            sys.exit(f"{server} is no address of a server: {error}")
        except (OSError, http.client.HTTPException) as error:
            print("connection lost:", error, file=sys.stderr)
        time.sleep(pause)

def save(file, seq):
    with open(file + ".new", "w") as f:
        f.write(str(seq))
        f.flush()
        os.fsync(f.fileno())
    os.replace(file + ".new", file)

if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    follow(*sys.argv[1:])
