"""What `helm test` runs in a pod: is the gateway ready, does it keep strangers out, does it answer?

Only the standard library; what it is told comes in ASK_URL, ASK_KEY and ASK_MODEL. The exit code is 0 if all is well.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request

URL = os.environ["ASK_URL"]
KEY = os.environ.get("ASK_KEY", "")
MODEL = os.environ.get("ASK_MODEL", "")
TIMEOUT_S = 300.0
# The name inside of the cluster need not be the certificate's.
UNVERIFIED = ssl._create_unverified_context()


def ask(path, *, key="", body=None):
    """Status and body of one request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=UNVERIFIED) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def expect(what, status, wanted, body):
    """Say what was seen, and end in failure if it is not what is wanted."""
    print(f"{what}: {status}", flush=True)
    if status != wanted:
        sys.exit(f"expected {wanted}; the answer was {body[:500]!r}")


status, body = ask("/readyz")
expect("ready", status, 200, body)
if KEY:
    status, body = ask("/api/delete", body={"model": "nobody/has:this"})
    expect("changing models without a key", status, 401, body)
status, body = ask("/api/tags", key=KEY)
expect("names of models", status, 200, body)
print("models:", ", ".join(model["name"] for model in json.loads(body)["models"]) or "none yet")
if MODEL:
    chat = {
        "model": MODEL,
        "stream": False,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "options": {"temperature": 0},
    }
    status, body = ask("/api/chat", key=KEY, body=chat)
    expect(f"a question to {MODEL}", status, 200, body)
    print("answer:", json.loads(body)["message"]["content"])
