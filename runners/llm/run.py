"""Runs the program against a real model on this CPU and checks what comes out.

    run.py --coeval .bin/coeval --prompts FILE --scratch DIR

A model of 135 million parameters is no judge: hardly a text of it ends in a score. That is the
point. First it judges freely, and the run must say that most judgments don't parse, lose none
and invent no score. Then verdicts are enforced, for which the program finds llama.cpp's
grammar by itself, and nearly all of them must parse, so that the meta-judge has something to compare. Last,
verdicts are reads: probabilities of one token.
Each run is verified, recomputed by the reference, and made again, which must ask nothing.

llama.cpp takes no more than one choice for each of its slots in a request: the judge is asked
for more than that.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
REFERENCE = HERE.parent / "readers" / "reference.py"

PROMPTS = 8
ENFORCED_PROMPTS = 4
START_SECONDS = 120
RUN_SECONDS = 900

# Few and short texts. They end at an empty line: one that is cut off counts for nothing.
FREE = {
    "actor.n": 2,
    "actor.max_tokens": 96,
    "actor.stop": '["\\n\\n"]',
    "judge.n": 3,
    "judge.max_tokens": 48,
    "judge.stop": '["\\n\\n"]',
    "meta_judge.max_tokens": 32,
    "client.patience": "1m",
}
# One character of reasoning for each token but 16: 80 and 48, and then the verdict must come.
ENFORCED = FREE | {
    "verdicts": "enforced",
    "judge.max_tokens": 96,
    "meta_judge.max_tokens": 64,
    "judge.stop": "[]",
}
# One token for each score and each comparison; words for the contested response alone, which must end in a score.
READ = ENFORCED | {"judge.verdict": "read", "meta_judge.verdict": "read", "method.read_min_mass": 0.001}


class Server:
    """The model's server, a child of this process."""

    def __init__(self, log):
        self.log = log
        for _ in range(3):  # another process may take the port before the child does
            if self.start():
                return
        raise SystemExit(
            f"the model's server did not start; the end of {log}:\n{log.read_text(errors='replace')[-2000:]}"
        )

    def start(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        # Threads that wait must not spin: on busy cores they cost the others their time.
        env = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "2"}
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [sys.executable, str(HERE / "serve.py"), str(self.port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env,
            )
        begin = time.monotonic()
        while time.monotonic() - begin < START_SECONDS:
            if self.child.poll() is not None:
                return False
            if self.healthy():
                print(f"the model serves on port {self.port} after {time.monotonic() - begin:.1f} s", flush=True)
                return True
            time.sleep(0.2)
        self.stop()
        return False

    def healthy(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def fail(what):
    raise SystemExit(f"failed: {what}")


def run(command, server):
    """Runs the program to its end, unless the server dies before; returns its output."""
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        while True:
            try:
                stdout, stderr = program.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if server.child.poll() is not None:
                    program.kill()
                    fail(f"the model's server ended with {server.child.returncode}")
                if time.monotonic() - begin > RUN_SECONDS:
                    program.kill()
                    fail(f"{command[1]} took more than {RUN_SECONDS} s")
    if program.returncode != 0:
        fail(f"{' '.join(command)} ended with {program.returncode}:\n{stdout[-2000:]}{stderr[-3000:]}")
    return stdout, stderr


def digests(out):
    """The digest of every file that the journal and the settings decide, and of the journal's segments."""
    files = (p for p in out.rglob("*") if p.is_file())
    files = (
        p for p in files if p.relative_to(out).parts[0] not in ("operations", "journal", ".lock") or p.suffix == ".zst"
    )
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def make(name, flags, prompts, settings, server, coeval, out, reference=True):
    """Runs twice, verifies and, with reference, recomputes; returns the summary of the first run."""
    command = [coeval, "run", *flags, "--limit", str(prompts), "--out", str(out), *sets(settings)]
    begin = time.monotonic()
    summary = json.loads(run([*command, "--json"], server)[0])
    seconds = time.monotonic() - begin
    calls = summary["calls"]
    print(
        f"{name}: {summary['prompts']} prompts, {calls['requests']} requests, {calls['generations']} generations, "
        f"{calls['replayed']} replayed, unparsed {summary['unparsed']:.1%}: {summary['unparsed_reasons']}; "
        f"actor pairs {summary['actor']['paired']}, judge pairs {summary['judge']['paired']}, {seconds:.0f} s",
        flush=True,
    )
    if summary["prompts"] != prompts or summary["simulated"] or calls["failed"]:
        fail(
            f"{name}: {summary['prompts']} prompts, simulated is {summary['simulated']}, {calls['failed']} calls failed"
        )
    print("".join(run([coeval, "verify", str(out)], server)).strip(), flush=True)
    if reference:
        subprocess.run([sys.executable, str(REFERENCE), str(out)], check=True)
    before = digests(out)
    again = json.loads(run([*command, "--json"], server)[0])
    if again["calls"]["requests"] != 0 or again["calls"]["generations"] != 0:
        fail(f"{name}: run again, it made {again['calls']['requests']} requests")
    if digests(out) != before:
        fail(f"{name}: run again, it wrote other files")
    if again["unparsed"] != summary["unparsed"]:
        fail(f"{name}: run again, its unparsed share is {again['unparsed']}, it was {summary['unparsed']}")
    return summary


def check(coeval, prompts, scratch, server):
    out = scratch / "out"
    flags = ["--prompts", prompts, "--url", f"http://127.0.0.1:{server.port}/v1"]
    flags += ["--model", "smollm2-135m-instruct", "--max-in-flight", "16"]
    free = make("free", flags, PROMPTS, FREE, server, coeval, out)
    if free["unparsed"] < 0.5:
        fail(f"only {free['unparsed']:.1%} of the judgments don't parse, of a model that can't judge")
    if free["calls"]["generations"] < PROMPTS * 2:
        fail(f"{free['calls']['generations']} generations are too few for {PROMPTS} prompts")
    told = "".join(run([coeval, "run", *flags, "--limit", str(PROMPTS), "--out", str(out), *sets(FREE)], server))
    if "unparsed" not in told.lower():
        fail(f"the summary does not tell of unparsed judgments:\n{told}")
    enforced = make("enforced", flags, ENFORCED_PROMPTS, ENFORCED, server, coeval, out)
    if enforced["calls"]["replayed"] < ENFORCED_PROMPTS * 2:
        fail(
            f"with another judge only {enforced['calls']['replayed']} generations were replayed: the actor was asked again"
        )
    # Reasoning that opens one of our tags and leaves it open quotes its own verdict.
    if enforced["unparsed"] > 0.1 or enforced["judge"]["paired"] + enforced["judge"]["dropped"] != ENFORCED_PROMPTS:
        fail(f"enforced, {enforced['unparsed']:.1%} don't parse, and the judge's prompts end as {enforced['judge']}")
    if not (out / "judge").is_dir() or not enforced["actor"]["paired"]:
        fail("with enforced verdicts there is not one actor pair")
    check_reads(flags, server, coeval, out)


def check_reads(flags, server, coeval, out):
    """Verdicts of one token: llama.cpp reports the 20 most likely tokens, and has no form for labels alone."""
    command = [coeval, "run", *flags, "--limit", str(ENFORCED_PROMPTS), "--out", str(out), *sets(READ)]
    told = "".join(run(command, server))
    for role in ("judge reads 0, 1, 2, 3, 4, 5 of", "meta_judge reads A, B of"):
        if role not in told or "by top_logprobs: 20" not in told:
            fail(f"the run does not tell that {role} the server by top_logprobs: 20:\n{told}")
    read = make("read", flags, ENFORCED_PROMPTS, READ, server, coeval, out)
    scores, comparisons = read["reads"]["scores"], read["reads"]["comparisons"]
    print(f"read: {scores} of scores, {comparisons} of comparisons", flush=True)
    if scores["reads"] < ENFORCED_PROMPTS or not 0 < scores["mass"] <= 1 or not 0 <= comparisons["mass"] <= 1:
        fail(f"the reads are {scores} and {comparisons}")
    if not (out / "raw" / "reads").is_dir():
        fail("there is no table of reads")


def sets(settings):
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--coeval", required=True, help="the program")
    parser.add_argument("--prompts", required=True, help="file of prompts")
    parser.add_argument("--scratch", required=True, type=pathlib.Path, help="folder for the run; what is in it is lost")
    args = parser.parse_args()
    shutil.rmtree(args.scratch, ignore_errors=True)
    args.scratch.mkdir(parents=True)
    server = Server(args.scratch / "server.log")
    try:
        check(str(pathlib.Path(args.coeval).absolute()), args.prompts, args.scratch, server)
    finally:
        server.stop()
    shutil.rmtree(args.scratch)
    print("a real model's texts went through: nothing lost, nothing invented, nothing asked twice")
    return 0


if __name__ == "__main__":
    sys.exit(main())
