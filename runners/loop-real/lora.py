"""Runs a loop that trains adapters and loads them into a real vLLM, and checks that its proof finds a misfit.

    lora.py --coeval .bin/coeval --base FOLDER --vllm VLLM --scratch DIR

vLLM serves the first model of `make loop-real` on this CPU. docs/examples/train_lora.py trains an adapter on it in each
iteration. The second training writes an adapter whose modules have names that the model lacks, as an adapter of another
architecture has: vLLM loads it with "Success" and answers as the base model. The loop must refuse it and say so. After
a true training the same loop goes on to its end.
"""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request

from loops import EPOCHS, ROOT, Loop, await_server, check, check_losses, check_proofs, check_run, fail, free_port, prepare, tensors, write_prompts
from safetensors.torch import load_file, save_file

NAME = "smollm2-135m"
PROMPTS_PER_ITERATION = 6
START_SECONDS = 600


def start(args, port):
    """Starts vLLM in a process group of its own, and returns it when it is ready."""
    env = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    command = [args.vllm, "serve", str(args.base), "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "8", "--dtype", "bfloat16"]
    command += ["--enable-lora", "--max-lora-rank", "8", "--max-loras", "2"]
    log = args.scratch / "vllm.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
    reason = await_server(server, port, START_SECONDS)
    if reason is None:
        return server
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
    fail(f"vLLM did not start: {reason}\n{log.read_text(errors='replace')[-3000:]}")


def config(args, port, misfit):
    example = ROOT / "docs" / "examples" / "train_lora.py"
    train = [sys.executable, str(example), "--base", str(args.base), "--model", "{model}", "--data", "{train}"]
    train += ["--out", "{out}", "--rank", "8", "--learning-rate", "1e-4", "--max-length", "1024", "--batch", "2", "--epochs", str(EPOCHS)]
    quoted = " ".join(word if word.startswith("{") else shlex.quote(word) for word in train)
    spoil = f"{shlex.quote(sys.executable)} {shlex.quote(__file__)} --spoil {{out}}"
    return {
        "run": {
            "worker": {"urls": [f"http://127.0.0.1:{port}/v1"], "model": NAME},
            "prompts": {"paths": [str(args.scratch / "prompts.jsonl")]},
            "verdicts": "enforced",
            "actor": {"n": 4, "max_tokens": 64, "stop": ["\n"]},  # some of 24 responses end, whatever the machine's arithmetic
            "judge": {"n": 2, "max_tokens": 48},
            "meta_judge": {"max_tokens": 48},
            "client": {"max_in_flight": 8, "patience": "10m"},
        },
        "schedule": [{"preset": "paper-1", "roles": ["actor"]}],
        "prompts_per_iteration": PROMPTS_PER_ITERATION,
        "model": {"path": str(args.base)},
        "train": {"command": f"{quoted} && if [ -e {shlex.quote(str(misfit))} ] && [ {{iteration}} = 2 ]; then {spoil}; fi"},
        "swap": {"kind": "lora"},
        "decide": {"iterations": 2, "patience": 0, "signs": 0, "length_growth": 0},
    }


def spoil(folder):
    """Renames the layers of an adapter, as of another architecture.

    vLLM refuses a module whose last part it does not know. It does not look at the parts before.
    """
    folder = pathlib.Path(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name.replace(".layers.", ".blocks."): w for name, w in weights.items()}, folder / "adapter_model.safetensors")


def work(args):
    write_prompts(args.scratch / "prompts.jsonl", 2 * PROMPTS_PER_ITERATION)
    misfit = args.scratch / "misfit"
    misfit.touch()
    port = free_port()
    server = start(args, port)
    loop = None
    try:
        loop = Loop(args.coeval, args.scratch / "lora", config(args, port, misfit))
        check(loop.end() != 0, "the loop took an adapter whose modules don't fit the model")
        said = loop.output()
        check("answers as the base model" in said and "target_modules" in said, f"the loop does not name the misfit:\n{said}")
        print("refused:", said.strip().splitlines()[-1], flush=True)
        # As the loop's own message says: another training of iteration 2 begins where its lines of the state end.
        misfit.unlink()
        state = loop.folder / "state.jsonl"
        lines = [line for line in state.read_text().splitlines(keepends=True) if json.loads(line)["iteration"] == 1]
        state.write_text("".join(lines))
        shutil.rmtree(loop.folder / "it-2")
        loop.start()
        loop.finish()
        check_loop(loop, port)
    finally:
        if loop:
            loop.clean()
        os.killpg(server.pid, 9)
        server.wait()


def check_loop(loop, port):
    state = loop.state()
    models = [tensors(loop.folder / f"it-{t}" / "model") for t in (1, 2)]
    check(models[0].keys() == models[1].keys(), "the second adapter has other tensors than the first")
    check(all(models[0][name] != models[1][name] for name in models[0]), "the second training left tensors as they were")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
        served = {m["id"]: m["root"] for m in json.load(answer)["data"]}
    former, revision = NAME, ""
    for t in (1, 2):
        check_losses(t, loop.folder / f"it-{t}" / "train.log")
        check_proofs(loop, t)
        check_run(loop, t, former, revision)
        model = state[t, "swap"]["output"]["model"]
        former, revision = model["name"], model["digest"][:16]
        check(served.get(former) == model["path"], f"vLLM lists {served}, and not {former} at {model['path']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--spoil", help="an adapter to spoil, and nothing else")
    for name in ("coeval", "vllm"):
        parser.add_argument(f"--{name}", type=os.path.abspath)
    for name in ("base", "scratch"):
        parser.add_argument(f"--{name}", type=lambda p: pathlib.Path(p).absolute())
    args = parser.parse_args()
    if args.spoil:
        return spoil(args.spoil)
    prepare(args.scratch)
    work(args)
    shutil.rmtree(args.scratch)
    print("adapters of a real model were loaded into a real vLLM, and the misfit was refused")


if __name__ == "__main__":
    main()
