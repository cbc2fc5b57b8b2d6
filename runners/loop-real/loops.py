"""What the checks of real loops have in common: a loop of the program as a process, and the files of a loop."""

import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pyarrow.parquet
import torch
from safetensors import safe_open

ROOT = pathlib.Path(__file__).parents[2]
REFERENCE = ROOT / "runners" / "readers" / "reference.py"
LLMBAR = ROOT / "datasets" / "llmbar" / "llmbar-natural.json"
STEP_SECONDS = 1500
# How often a training sees each pair.
EPOCHS = 3
LN2 = math.log(2)


def fail(what):
    raise SystemExit(f"failed: {what}")


def check(holds, what):
    if not holds:
        fail(what)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def prepare(scratch):
    """Empties the folder for a check's files, and sets the environment of the programs that it starts."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    os.environ |= {"HF_HOME": str(scratch / "hub"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running


def await_server(server, port, seconds):
    """Waits until a server answers, and returns the reason if it ends before that or takes too long."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        if server.poll() is not None:
            return f"it ended with {server.returncode}"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return None
        except OSError:
            time.sleep(0.2)
    return f"it does not serve within {seconds} s"


def write_prompts(path, count):
    """Writes short instructions of people as prompts."""
    texts = [row["input"] for row in json.loads(LLMBAR.read_text())]
    texts = [t for t in dict.fromkeys(texts) if 20 <= len(t) <= 120][:count]
    check(len(texts) == count, f"{LLMBAR} has {len(texts)} short instructions, wanted are {count}")
    path.write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))


class Loop:
    """A loop of the program: its config, its folder, and the process that works on it."""

    def __init__(self, coeval, folder, config):
        self.coeval, self.folder, self.config = coeval, folder, folder.with_suffix(".yaml")
        self.config.write_text(json.dumps({"dir": str(folder)} | config))  # JSON is YAML
        self.attempts = 0
        self.start()

    def start(self):
        self.attempts += 1
        self.said = self.folder.with_name(f"{self.folder.name}-{self.attempts}.log")
        with self.said.open("wb") as log:
            # A session of its own: what kills this process must not kill its children, as if the machine's user did it.
            self.process = subprocess.Popen(
                [self.coeval, "loop", str(self.config)], stdout=log, stderr=log, start_new_session=True
            )

    def output(self):
        return self.said.read_text(errors="replace")

    def until(self, what, reached):
        """Waits until reached() holds while the loop works."""
        begin = time.monotonic()
        while not reached():
            if self.process.poll() is not None:
                fail(f"the loop ended with {self.process.returncode} before {what}:\n{self.output()[-4000:]}")
            if time.monotonic() - begin > STEP_SECONDS:
                self.process.kill()
                fail(f"no {what} within {STEP_SECONDS} s:\n{self.output()[-4000:]}")
            time.sleep(0.1)

    def kill(self, *children):
        """Kills the loop as kill -9 does, and the process groups of these children of it."""
        groups = [json.loads((self.folder / f"{child}.process.json").read_text())["pid"] for child in children]
        self.process.kill()
        self.process.wait()
        for group in groups:
            os.killpg(group, signal.SIGKILL)

    def end(self):
        """Waits until the loop ends, and returns its exit code."""
        try:
            return self.process.wait(STEP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            fail(f"the loop does not end within {STEP_SECONDS} s:\n{self.output()[-4000:]}")

    def finish(self):
        code = self.end()
        check(code == 0, f"the loop ended with {code}:\n{self.output()[-4000:]}")

    def clean(self):
        """Ends what a failed check leaves."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for state in self.folder.rglob("*.process.json"):
            s = json.loads(state.read_text())
            began = subprocess.run(["ps", "-o", "lstart=", "-p", str(s["pid"])], capture_output=True, text=True)
            if began.stdout.strip() == s["started"]:  # not another process of that number
                os.killpg(s["pid"], signal.SIGKILL)

    def state(self):
        """The outputs of the steps that are done, by iteration and step."""
        lines = (self.folder / "state.jsonl").read_text().splitlines()
        return {(r["iteration"], r["step"]): r for r in map(json.loads, lines)}

    def program(self, *args):
        done = subprocess.run([self.coeval, *args], capture_output=True, text=True)
        check(done.returncode == 0, f"coeval {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def losses(log):
    """The losses of the steps of a training, from what the trainer printed."""
    return [float(x) for x in re.findall(r"'loss': '?([0-9.e+-]+)'?", log.read_text(errors="replace"))]


def check_losses(iteration, log):
    """DPO starts at ln 2, where the model equals its reference. Once it sees pairs again, their loss is lower.

    The pairs of a model that judges at random teach nothing about others, so the first of the EPOCHS need not show a fall.
    """
    steps = losses(log)
    print(f"iteration {iteration}: losses {' '.join(f'{x:.3f}' for x in steps)}", flush=True)
    check(len(steps) >= EPOCHS and len(steps) % EPOCHS == 0, f"{log} has {len(steps)} losses in {EPOCHS} epochs")
    check(abs(steps[0] - LN2) < 0.01, f"the first loss is {steps[0]}; a model that equals its reference has ln 2")
    last = steps[-len(steps) // EPOCHS :]
    check(sum(last) / len(last) < LN2 - 0.01, f"the losses of the last epoch, {last}, are not below ln 2")


def tensors(folder):
    """The digest of each tensor of a checkpoint."""
    out = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as f:
            for name in f.keys():
                raw = f.get_tensor(name).contiguous().view(torch.uint8).numpy().tobytes()
                out[name] = hashlib.sha256(raw).hexdigest()
    check(out, f"{folder} has no tensors")
    return out


def check_run(loop, iteration, model, revision):
    """Proves a run, recomputes its choices, and checks that its rows name this model."""
    run = loop.folder / f"it-{iteration}" / "data"
    print(loop.program("verify", str(run)).strip(), flush=True)
    subprocess.run([sys.executable, str(REFERENCE), str(run)], check=True)
    wanted = f"{model}@{revision}" if revision else model
    for table in ("responses", "judgments", "comparisons"):
        files = list((run / "raw" / table).glob("*.parquet"))
        named = {m for f in files for m in pyarrow.parquet.read_table(f, columns=["model"])["model"].to_pylist()}
        if table == "comparisons" and not named:
            continue  # of a run for the actor alone
        check(named == {wanted}, f"iteration {iteration}: raw/{table} names {named}; the model is {wanted}")
    return json.loads((run / "run.json").read_text())


def check_proofs(loop, iteration):
    """Every server's canary must differ from that of the model before, by log-probabilities."""
    for url, proof in loop.state()[iteration, "swap"]["output"]["proofs"].items():
        change = proof["change"]
        print(
            f"iteration {iteration}: the canary at {url} moved by {change['distance']:.3f} nats on {change['prompts']} prompts, "
            f"noise {change['noise']:.4f}",
            flush=True,
        )
        check(change["changed"] and not change["by_text"], f"the proof of iteration {iteration} is {change}")
