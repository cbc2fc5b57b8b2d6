"""Serves a checkpoint with llama.cpp, for swap.command of a loop, and records the calls.

    serve.py --model FOLDER --name NAME --port PORT --python PYTHON --converter CONVERTER --log FILE

The checkpoint becomes a GGUF first, beside its folder and once: every model with the same quantisation, since
that alone changes answers. PYTHON has xllamacpp. The log gets a line of JSON for each request for
a completion: when it was asked, when it was delivered, by which checkpoint, and its generations. A generation is a
digest of the messages with the seed of the choice.
"""

import argparse
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

LLAMA = pathlib.Path(__file__).parents[1] / "llm" / "serve.py"
START_SECONDS = 300
MAX_READ = 1 << 16


def convert(python, converter, model):
    """Returns the GGUF of a checkpoint. It appears under its name when it is complete."""
    gguf = model.with_name(model.name + ".gguf")
    if not gguf.exists():
        part = model.with_name(model.name + ".part.gguf")
        command = [python, converter, str(model), "--outfile", str(part), "--outtype", "q8_0"]
        subprocess.run(command, check=True)
        part.rename(gguf)
    return gguf


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(python, gguf, name):
    """Starts llama.cpp and returns it with its port, once it answers."""
    port = free_port()
    # Threads that wait must not spin: on busy cores they cost the others their time.
    env = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([python, str(LLAMA), str(port), str(gguf), name], stdin=subprocess.PIPE, env=env)
    begin = time.monotonic()
    while time.monotonic() - begin < START_SECONDS:
        if child.poll() is not None:
            raise SystemExit(f"llama.cpp ended with {child.returncode} before it served {gguf}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                if response.status == 200:
                    return child, port
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"llama.cpp did not serve {gguf} within {START_SECONDS} s")


class Recorder:
    """Appends events of requests to the log."""

    def __init__(self, path, model):
        self.lock, self.path, self.model = threading.Lock(), path, str(model)

    def write(self, event, generations):
        line = json.dumps({"event": event, "model": self.model, "time": time.time(), "generations": generations})
        with self.lock, self.path.open("a") as f:
            f.write(line + "\n")


def generations(body):
    """The generations of a request. A request without a seed, as of a canary, has none."""
    try:
        request = json.loads(body)
    except ValueError:
        return []
    if "seed" not in request or "messages" not in request:
        return []
    digest = hashlib.sha256(json.dumps(request["messages"]).encode()).hexdigest()[:16]
    return [f"{digest}-{request['seed'] + i}" for i in range(request.get("n", 1))]


def gone(connection):
    """Reports whether the client has closed its connection."""
    readable, _, _ = select.select([connection], [], [], 0)
    try:
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return True


def handler(port, recorder):
    class Front(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = generations(body)
            if asked:
                recorder.write("asked", asked)
            upstream = http.client.HTTPConnection("127.0.0.1", port)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "authorization")}
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                whole = answer.read()
            finally:
                upstream.close()
            if gone(self.connection):
                self.close_connection = True
                return
            if asked and answer.status == 200:
                recorder.write("delivered", asked)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)

        do_GET = do_POST = forward

    return Front


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("name", "python", "converter"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("model", "log"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    parser.add_argument("--port", required=True, type=int)
    args = parser.parse_args()
    child, port = start(args.python, convert(sys.executable, args.converter, args.model), args.name)
    front = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), handler(port, Recorder(args.log, args.model)))
    threading.Thread(target=front.serve_forever, daemon=True).start()
    print(f"{args.name} serves {args.model} on port {args.port}", flush=True)
    sys.exit(child.wait())


if __name__ == "__main__":
    main()
