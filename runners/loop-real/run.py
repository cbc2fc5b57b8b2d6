"""Runs a loop of two iterations with a real model on this CPU, kills it twice, and checks every link.

    run.py --coeval .bin/coeval --base FOLDER --llm PYTHON --converter CONVERTER --scratch DIR

SmolLM2 of 135 million parameters makes pairs with enforced verdicts, `trl dpo` trains all its weights, and the loop
starts llama.cpp with each model. This proves the chain: the losses of pairs that are seen again fall below ln 2, the tensors change, the
canary differs, the second iteration's texts come from the model that the first one trained, and the
loop, killed in a training and in a run, trains and pays for nothing twice. It proves nothing about the method: this model judges
at random.
"""

import argparse
import collections
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

from loops import EPOCHS, Loop, await_server, check, check_losses, check_proofs, check_run, fail, free_port, losses, prepare, tensors, write_prompts

HERE = pathlib.Path(__file__).parent
NAME = "smollm2-135m"
PROMPTS_PER_ITERATION = 6
ARENA_PROMPTS = 2
IN_FLIGHT = 4
START_SECONDS = 120


def config(args, port, judge_port):
    """The config of the loop. Texts are few and short."""
    log = args.scratch / "calls.jsonl"
    serve = [sys.executable, str(HERE / "serve.py"), "--model", "{model}", "--name", "{name}", "--port", str(port)]
    serve += ["--python", args.llm, "--converter", args.converter, "--log", str(log)]
    train = [str(pathlib.Path(sys.executable).with_name("trl")), "dpo", "--model_name_or_path", "{model}"]
    train += ["--dataset_name", "{train}", "--output_dir", "{out}", "--learning_rate", "2e-5", "--beta", "0.1"]
    train += ["--max_length", "1024", "--num_train_epochs", str(EPOCHS), "--per_device_train_batch_size", "1"]
    train += ["--gradient_accumulation_steps", "1", "--bf16", "false", "--dtype", "float32", "--logging_steps", "1"]
    train += ["--lr_scheduler_type", "constant", "--save_strategy", "no", "--report_to", "none"]
    began, ended = shlex.quote(str(args.scratch / "began")), shlex.quote(str(args.scratch / "ended"))
    quoted = " ".join(word if word.startswith("{") else shlex.quote(word) for word in train)
    return {
        "run": {
            "worker": {"urls": [f"http://127.0.0.1:{port}/v1"], "model": NAME},
            "prompts": {"paths": [str(args.scratch / "prompts.jsonl")]},
            "verdicts": "enforced",
            "actor": {"n": 3, "max_tokens": 64, "stop": ["\n"]},
            "judge": {"n": 2, "max_tokens": 40},
            "meta_judge": {"max_tokens": 32},
            "method": {"min_meta_judgments": 2},
            "client": {"max_in_flight": IN_FLIGHT, "patience": "15m"},
        },
        "prompts_per_iteration": PROMPTS_PER_ITERATION,
        "model": {"path": str(args.base)},
        # Judge pairs are long, since their prompts are: a few of them are enough.
        "set": {"max_actor_pairs": 6, "max_judge_pairs": 2},
        "train": {"command": f"echo {{iteration}} >>{began} && {quoted} && echo {{iteration}} >>{ended}"},
        "swap": {"kind": "command", "command": " ".join(["exec", *serve])},
        "evaluate": {
            "arena": {
                "b": {"max_tokens": 64, "stop": ["\n"]},
                "judge": {
                    "model": "judge",
                    "urls": [f"http://127.0.0.1:{judge_port}/v1"],
                    "verdict": "two",
                    "max_tokens": 16,
                    "extra_body": {"grammar": 'root ::= "Verdict: " ("A" | "B")'},
                },
                "prompts": {"paths": [str(args.scratch / "eval.jsonl")]},
                "resamples": 100,
            }
        },
        "decide": {"iterations": 2, "patience": 0, "signs": 0, "length_growth": 0},
    }


def calls(log):
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []


def check_calls(log, base, trained):
    """Nothing that was delivered was asked again, but for answers that a kill kept from the journal."""
    delivered, again, models = set(), set(), collections.Counter()
    for call in calls(log):
        if call["event"] == "asked":
            again |= delivered & set(call["generations"])
            models[call["model"]] += len(call["generations"])
        else:
            delivered |= set(call["generations"])
    print(f"{len(delivered)} generations were delivered, {len(again)} were asked for again after that", flush=True)
    check(len(again) <= IN_FLIGHT, f"{len(again)} delivered generations were asked for again; {IN_FLIGHT} can be in flight")
    # By its model the log has: iteration 1 and the baseline's answers; iteration 2 and the arena; the arena.
    check(set(models) == {str(base), *map(str, trained)}, f"the calls went to {dict(models)}")
    return models


def check_tensors(base, trained):
    """Each training changes nearly all tensors, and adds or loses none."""
    for before, after in zip([base, *trained], trained):
        was, now = tensors(before), tensors(after)
        check(set(was) == set(now), f"{after} has other tensors than {before}: {set(was) ^ set(now)}")
        changed = sum(was[name] != now[name] for name in was)
        print(f"{changed} of {len(was)} tensors differ between {before} and {after}", flush=True)
        check(changed > 0.9 * len(was), f"only {changed} of {len(was)} tensors changed")


def work(args):
    write_prompts(args.scratch / "all.jsonl", 2 * PROMPTS_PER_ITERATION + ARENA_PROMPTS)
    lines = (args.scratch / "all.jsonl").read_text().splitlines(keepends=True)
    (args.scratch / "prompts.jsonl").write_text("".join(lines[ARENA_PROMPTS:]))
    (args.scratch / "eval.jsonl").write_text("".join(lines[:ARENA_PROMPTS]))
    port = free_port()
    log = args.scratch / "calls.jsonl"
    judge_port = free_port()
    judge = Judge(args.llm, judge_port)
    loop = Loop(args.coeval, args.scratch / "loop", config(args, port, judge_port))
    try:
        kill_in_training(loop)
        kill_in_run(loop, log)
        loop.finish()
        check_loop(args, loop, log)
    finally:
        loop.clean()
        judge.stop()


def kill_in_training(loop):
    """Kills the loop in the middle of the first training, which goes on; the next loop joins it."""
    log = loop.folder / "it-1" / "train.log"
    loop.until("two steps of training", lambda: log.exists() and len(losses(log)) >= 2)
    loop.kill()
    print(f"killed in the training, after {len(losses(log))} steps", flush=True)
    loop.start()


def kill_in_run(loop, log):
    """Kills the loop, its run and its server when the second iteration has a third of its calls."""
    model = str(loop.folder.absolute() / "it-1" / "model")
    wanted = PROMPTS_PER_ITERATION * 9 / 3  # three responses a prompt, each judged twice

    def made():
        return sum(len(c["generations"]) for c in calls(log) if c["event"] == "delivered" and c["model"] == model)

    loop.until("calls of iteration 2", lambda: "iteration 2: produce" in loop.output() and made() >= wanted)
    loop.kill("it-2/produce", "server")
    print(f"killed in the run of iteration 2, after {made()} generations", flush=True)
    loop.start()


def check_loop(args, loop, log):
    base = args.base
    trained = [loop.folder.absolute() / f"it-{t}" / "model" for t in (1, 2)]
    for t in (1, 2):
        check_losses(t, loop.folder / f"it-{t}" / "train.log")
        check_proofs(loop, t)
    check_tensors(base, trained)
    for name in ("began", "ended"):
        what = (args.scratch / name).read_text().split()
        check(what == ["1", "2"], f"the trainings that {name} are those of {what}")
    state = loop.state()
    revision = state[1, "swap"]["output"]["model"]["digest"][:16]
    for t, at in ((1, ""), (2, revision)):
        run = check_run(loop, t, NAME, at)
        ledger = run["ledger"]
        drawn = ledger["lines"] - ledger["not_drawn"]
        check(not run["simulated"] and drawn == ledger["findings"] == PROMPTS_PER_ITERATION, f"iteration {t}: the ledger is {ledger}")
    models = check_calls(log, base, trained)
    print(f"generations by model: {dict(models)}", flush=True)
    measured = state[2, "evaluate"]["output"]
    print(f"the arena of iteration 2: {measured}", flush=True)
    before = log.read_bytes()
    loop.start()
    loop.finish()
    check(log.read_bytes() == before, "the loop, started again after its end, asked the server")
    check("the loop ends after iteration 2" in loop.output(), f"the loop says {loop.output()}")


class Judge:
    """The judge of the arena: the first model, which no swap touches."""

    def __init__(self, python, port):
        self.child = subprocess.Popen([python, str(HERE.parent / "llm" / "serve.py"), str(port)], stdin=subprocess.PIPE)
        reason = await_server(self.child, port, START_SECONDS)
        if reason:
            self.stop()
            fail(f"the arena's judge did not start: {reason}")

    def stop(self):
        self.child.kill()
        self.child.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("coeval", "llm", "converter"):
        parser.add_argument(f"--{name}", required=True, type=os.path.abspath)
    for name in ("base", "scratch"):
        parser.add_argument(f"--{name}", required=True, type=lambda p: pathlib.Path(p).absolute())
    args = parser.parse_args()
    prepare(args.scratch)
    work(args)
    shutil.rmtree(args.scratch)
    print("a real model went twice through the loop: this proves the chain, and nothing about the method")


if __name__ == "__main__":
    main()
