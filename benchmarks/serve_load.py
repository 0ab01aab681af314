"""`alora serve` under load, and llama-server (xllamacpp) under the same: many clients, each with one of several adapters.

    python benchmarks/serve_load.py --load short --seconds 300
    python benchmarks/serve_load.py --load new --seconds 300
    python benchmarks/serve_load.py --load long --seconds 300
    python benchmarks/serve_load.py --load short --precise --server "alora serve"

short   each request is one of four short prompts of the client's own, and its adapter's invocation
new     the same with a prompt that nobody has asked before
long    each client has a conversation of 2,000 tokens; turns of the base and intrinsics alternate on it

With --schema every answer follows a JSON schema, of an object with a text.

Both servers get the same prompts, as tokens, through /v1/completions, in turn. Of short and long each request was
asked alone before, of `alora serve`, and every answer under load has to be that one: so it begins with what it keeps
in its cache. llama-server, which keeps no cells of a conversation from the base to an intrinsic, gets each
prompt of short once before, and of long none.

What else is in a batch decides how ggml adds up, and with 4-bit weights how activations are rounded to 8 bits, which moves
logits by a percent or two: an answer may part from the one alone where two tokens were about as likely. What parts
where they were further apart than a tie counts as wrong, and how far apart they were is printed in nats. With
--precise the weights are the same in float32, where little is rounded: there nothing is wrong unless something is
mixed up. Memory is the server process's VmRSS.
"""

import argparse
import http.client
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from alora_gguf.bench.models import Files, invocation_of
from alora_gguf.verify.dequantize import dequantize

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"], "additionalProperties": False}
N_TOKENS, N_QUESTIONS, TIE = 8, 4, 0.05  # of an answer; of a conversation; nats between two tokens that may change places

OURS = "from alora_gguf.cli import main; raise SystemExit(main())"
THEIRS = """
import json, sys, time, xllamacpp
settings = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = settings["model"]
params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = settings["n_ctx"], 512, 512, settings["n_parallel"]
if settings["n_threads"]:
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["n_threads"]
params.n_gpu_layers, params.verbosity, params.port, params.n_threads_http = 0, -1, 0, settings["n_parallel"] + 4
params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in settings["adapters"]]
server = xllamacpp.Server(params)
print("listening on", server.listening_address, file=sys.stderr, flush=True)
sys.stdin.read()
"""


class Server:
    """A server process; `adapters` are files whose stems are their names."""

    def __init__(self, engine: str, model: Path, adapters: list[Path], args: argparse.Namespace, log: Path):
        self.engine, self.names = engine, [path.stem for path in adapters]
        self.form = {"json_schema": SCHEMA} if args.schema else {}
        if engine == "alora serve":
            command = ["-c", OURS, "serve", "--model", model, "--port", 0, "--ctx", args.ctx, "--parallel", args.clients, "--queue", args.clients]
            command += [arg for path in adapters for arg in ("--adapter", path)] + (["--threads", args.threads] if args.threads else [])
        else:
            command = [
                "-c",
                THEIRS,
                json.dumps(
                    {
                        "model": str(model),
                        "adapters": list(map(str, adapters)),
                        "n_ctx": args.ctx,
                        "n_parallel": args.slots,
                        "n_threads": args.threads,
                    }
                ),
            ]
        with open(log, "w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, command)], stdin=subprocess.PIPE, stdout=err, stderr=err, cwd=log.parent
            )  # not the checkout, whose alora_gguf is not the one that is installed
        while "listening on " not in (text := log.read_text(errors="replace")):
            if self.process.poll() is not None:
                raise SystemExit(f"serve_load.py: error: {engine}: expected a server, got: {text.strip()[-400:]}")
            time.sleep(0.05)
        address = text.split("listening on ")[1].split()[0]
        url = urlsplit(address if "//" in address else f"//{address}")
        self.host, self.port = url.hostname, url.port

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    @property
    def rss(self) -> float:
        """Megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1e3

    def ask(self, prompt: list[int], adapter: int | None, **options) -> dict:
        """pieces, seconds to the first and to the end, prompt tokens and those that were cached, and nats between the
        two likeliest at every token if asked for logprobs.

        On a connection of its own, as llama-server closes one that it has streamed on.
        """
        body = {
            "prompt": prompt,
            "max_tokens": N_TOKENS,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.form,
            **options,
        }
        if self.engine == "alora serve":
            body |= {"model": self.names[adapter]} if adapter is not None else {}
        else:
            body |= {"cache_prompt": True, "lora": [{"id": i, "scale": float(i == adapter)} for i in range(len(self.names))]}
        began = time.perf_counter()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        pieces, first, margins, n_cached = [], None, [], 0
        for line in response:
            if response.status != 200 or line.startswith(b'data: {"error"'):
                raise RuntimeError(f"status {response.status}: {line.decode(errors='replace')[:200]}")
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            n_cached = ((chunk.get("usage") or {}).get("prompt_tokens_details") or {}).get("cached_tokens", n_cached)
            choice = (chunk["choices"] or [{}])[0]
            if choice.get("text"):
                first = first or time.perf_counter() - began
                pieces.append(choice["text"])
            for top in (choice.get("logprobs") or {}).get("top_logprobs") or ():
                best = sorted(top.values(), reverse=True)
                margins.append(best[0] - best[1] if len(best) > 1 else TIE)
        connection.close()
        return {
            "pieces": pieces,
            "first": first,
            "seconds": time.perf_counter() - began,
            "margins": margins,
            "n_prompt": len(prompt),
            "n_cached": n_cached,
        }


def requests_of(client: int, load: str, n_adapters: int) -> Iterator[tuple[int, list[int], int | None]]:
    """What a client asks, without an end: (which of its N_QUESTIONS, or N_QUESTIONS turns, prompt, adapter or None)."""
    rng = np.random.default_rng(client)
    words = lambda n: rng.integers(5000, 40000, n).tolist()
    adapter = client % n_adapters
    if load == "new":
        for i in itertools.count():
            yield i, words(24) + invocation_of(adapter), adapter
    steps: list[tuple[list[int], int | None]] = []
    if load == "short":
        steps = [(words(24) + invocation_of(adapter), adapter) for _ in range(N_QUESTIONS)]
    else:
        conversation = words(2000)
        for _ in range(N_QUESTIONS):
            question, answer = words(16), words(16)
            steps += [(conversation + question, None), (conversation + question + answer + invocation_of(adapter), adapter)]
    for i in itertools.cycle(range(len(steps))):
        yield i, *steps[i]


def first_of(requests: Iterator[tuple[int, list[int], int | None]]) -> Iterator[tuple[int, list[int], int | None]]:
    """Up to where they begin again."""
    yield next(requests)
    yield from itertools.takewhile(lambda request: request[0] > 0, requests)


def parting(got: dict, alone: dict) -> float | None:
    """Nats between the two likeliest tokens of the answer alone where the other parts from it; None if it does not."""
    if "".join(got["pieces"]) == "".join(alone["pieces"]):
        return None
    same = next((i for i, (a, b) in enumerate(zip(got["pieces"], alone["pieces"])) if a != b), len(alone["pieces"]))
    # a piece can have taken more tokens than one: half a character waits for the rest
    near = alone["margins"][same : same + 1 + len(alone["margins"]) - len(alone["pieces"])]
    return min(near, default=0.0)


def run(server: Server, args: argparse.Namespace) -> dict:
    """Everything alone where there is something to compare, then all clients for so many seconds."""
    requests = lambda client: requests_of(client, args.load, args.adapters)
    is_ours = server.engine == "alora serve"
    alone: dict[tuple[int, int], dict] = {}
    if args.load == "short" or (args.load == "long" and is_ours):
        logprobs = {"logprobs": 2} if is_ours else {}
        alone = {
            (client, step): server.ask(prompt, adapter, **logprobs)
            for client in range(args.clients)
            for step, prompt, adapter in first_of(requests(client))
        }
    done: list[tuple[int, int, dict]] = []
    errors: list[str] = []
    began = time.perf_counter()
    end = began + args.seconds

    def client(number: int) -> None:
        try:
            for step, prompt, adapter in requests(number):
                if time.perf_counter() >= end:
                    break
                done.append((number, step, server.ask(prompt, adapter)))
        except Exception as e:
            errors.append(f"client {number}: {type(e).__name__}: {e}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(args.clients)]
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        memory.append(server.rss)
        time.sleep(min(1.0, args.seconds / 20))
    seconds = time.perf_counter() - began
    firsts = np.array([got["first"] for _, _, got in done if got["first"]]) * 1e3
    fifth = max(1, len(memory) // 5)
    result = {
        "server": server.engine,
        "load": args.load,
        "schema": args.schema,
        "clients": args.clients,
        "adapters": args.adapters,
        "seconds": round(seconds, 1),
        "requests": len(done),
        "requests_per_second": round(len(done) / seconds, 2),
        "errors": errors,
        "cached": round(sum(got["n_cached"] for _, _, got in done) / max(1, sum(got["n_prompt"] for _, _, got in done)), 3),
        "first_token_ms": {f"p{p}": round(float(np.percentile(firsts, p)), 1) for p in (50, 90, 99)},
        "rss_mb": {
            "second fifth": round(float(np.median(memory[fifth : 2 * fifth] or memory))),
            "last fifth": round(float(np.median(memory[-fifth:]))),
        },
    }
    if alone and is_ours:
        nats = [p for number, step, got in done if (p := parting(got, alone[number, step])) is not None]
        result |= {
            "answers_as_alone": len(done) - len(nats),
            "parted": len(nats),
            "wrong": sum(p > TIE for p in nats),
            "nats_where_they_part": {f"p{p}": round(float(np.percentile(nats or [0.0], p)), 3) for p in (50, 99, 100)},
        }
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", choices=["short", "new", "long"], default="short")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--ctx", type=int, help="cells (default: what all clients need)")
    parser.add_argument("--slots", type=int, help="of llama-server (default: one a client)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--schema", action="store_true", help="every answer follows a JSON schema")
    parser.add_argument("--precise", action="store_true", help="the same weights in float32")
    parser.add_argument("--server", choices=["alora serve", "llama-server"], action="append", help="default: both, in turn")
    parser.add_argument("--cache", type=Path, default=Path("build/bench"), help="where models and adapters are kept (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    args.slots = args.slots or args.clients
    args.ctx = args.ctx or args.clients * (2304 if args.load == "long" else 256)
    files = Files(args.cache.resolve())
    model, adapters = files.model("135m"), files.adapters("135m", args.adapters)
    if args.precise:
        exact = model.with_name("135m-f32.gguf")
        if not exact.exists():
            dequantize(model, exact)
        model = exact
    results = []
    for engine in args.server or ["alora serve", "llama-server"]:
        with tempfile.TemporaryDirectory() as folder:
            server = Server(engine, model, adapters, args, Path(folder) / "log")
            try:
                results.append(run(server, args))
            finally:
                server.close()
    if args.json:
        print(json.dumps(results, indent=2))
    for result in () if args.json else results:
        print("\n".join(f"{name:<20} {value}" for name, value in result.items()), end="\n\n")
    ours = [result for result in results if result["server"] == "alora serve"]
    return int(any(result["errors"] or result.get("wrong") for result in ours))


if __name__ == "__main__":
    raise SystemExit(main())
