#!/usr/bin/env python3
"""One training step of a Llama in PyTorch, to stand beside `vkqat bench train` of the same shape on the same GPU.

Forward, mean cross-entropy, backward, clipping of the gradient's norm to 1, fused AdamW, all gradients dropped; random tokens that
are on the device already; F.scaled_dot_product_attention; synchronized behind each step, as `vkqat bench` does it. Ways to run it:
    eager          as written
    recorded       eager, the whole step recorded once as a CUDA graph
    compiled       torch.compile of the model
    both           torch.compile of the model, the whole step recorded as a CUDA graph
    autotuned      torch.compile(mode="max-autotune"), which records graphs of its own
Each way is a process: all compile at the same time, then measure one after the other. One JSON line for each; a way that fails or is
not ready in time gives its error in its line. Needs torch with CUDA; --device cpu tries the script out (eager only).
"""
import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time

#               hidden layers heads kv_heads intermediate vocabulary batch tokens
SHAPES = {
    "smollm2": (576, 30, 9, 3, 1536, 49152, 1, 128),
    "16m": (384, 8, 6, 6, 1024, 4096, 64, 512),
    "1b": (2048, 16, 16, 8, 7168, 128256, 8, 2048),
    "tiny": (64, 2, 4, 2, 128, 256, 1, 32),
}


def make_model(torch, shape):
    from torch import nn
    from torch.nn import functional as F
    hidden, layers, heads, kv_heads, intermediate, vocabulary, _, tokens = shape
    size = hidden // heads
    angles = torch.arange(tokens)[:, None] * 500000 ** (-torch.arange(0, size, 2) / size)[None]

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(hidden, heads * size, bias=False)
            self.k = nn.Linear(hidden, kv_heads * size, bias=False)
            self.v = nn.Linear(hidden, kv_heads * size, bias=False)
            self.o = nn.Linear(heads * size, hidden, bias=False)

        def forward(self, x, cos, sin):
            def rope(t):
                a, b = t.float().chunk(2, -1)
                return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(t.dtype)

            q, k, v = (p(x).unflatten(-1, (-1, size)).transpose(1, 2) for p in (self.q, self.k, self.v))
            q, k, groups = rope(q), rope(k), heads // kv_heads
            if groups > 1 and v.dtype == torch.float32:  # with enable_gqa only 16-bit types have a fused kernel
                k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
            return self.o(y.transpose(1, 2).flatten(2))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.mlp_norm = nn.RMSNorm(hidden, 1e-5), nn.RMSNorm(hidden, 1e-5)
            self.attention = Attention()
            self.gate = nn.Linear(hidden, intermediate, bias=False)
            self.up = nn.Linear(hidden, intermediate, bias=False)
            self.down = nn.Linear(intermediate, hidden, bias=False)

        def forward(self, x, cos, sin):
            x = x + self.attention(self.attention_norm(x), cos, sin)
            y = self.mlp_norm(x)
            return x + self.down(F.silu(self.gate(y)) * self.up(y))

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, hidden)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.norm = nn.RMSNorm(hidden, 1e-5)
            self.output = nn.Linear(hidden, vocabulary, bias=False)
            self.register_buffer("cos", angles.cos(), persistent=False)
            self.register_buffer("sin", angles.sin(), persistent=False)

        def forward(self, ids, labels):
            x = self.embedding(ids)
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            return F.cross_entropy(self.output(self.norm(x)).flatten(0, 1), labels.flatten())

    return Llama()


def child(args):
    """Prepares one way, says so, waits for a line, measures, prints the result."""
    import torch
    device = torch.device(args.device)
    shape = SHAPES[args.shape]
    batch, tokens = shape[-2:]
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high" if args.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    with device:
        model = make_model(torch, shape)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.02) if p.dim() > 1 else torch.nn.init.ones_(p)
    recorded = args.way in ("recorded", "both")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True, capturable=recorded)
    ids = torch.randint(shape[5], (batch, tokens + 1), device=device)
    ids, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    forward = model
    if args.way in ("compiled", "both"):
        forward = torch.compile(model)
    elif args.way == "autotuned":
        forward = torch.compile(model, mode="max-autotune")

    def step():
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
            loss = forward(ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        return loss

    def step_and_drop():
        loss = step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    def synchronize():
        if device.type == "cuda":
            torch.cuda.synchronize()

    if recorded:
        other = torch.cuda.Stream()
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            for _ in range(4):
                step_and_drop()
        torch.cuda.current_stream().wait_stream(other)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()  # gradients are written anew by each replay
        run = graph.replay
        run()
    else:
        run = step_and_drop
        for _ in range(4):
            loss = run()
    first = float(loss)
    synchronize()
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.perf_counter()
    while time.perf_counter() - begin < 0.5:
        run()
        synchronize()
    seconds = []
    begin = time.perf_counter()
    while len(seconds) < 5 or (len(seconds) < 100 and time.perf_counter() - begin < 2):
        start = time.perf_counter()
        run()
        synchronize()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    result = {"median_ms": median * 1e3, "fastest_ms": min(seconds) * 1e3, "slowest_ms": max(seconds) * 1e3, "steps": len(seconds),
              "tokens_per_s": batch * tokens / median, "parameters": sum(p.numel() for p in model.parameters()), "first_loss": first,
              "torch": torch.__version__}
    if device.type == "cuda":
        result |= {"device": torch.cuda.get_device_name(), "peak_GB": torch.cuda.max_memory_allocated() / 1e9}
    print(json.dumps(result), flush=True)


class Way:
    def __init__(self, args, shape, precision, way):
        self.what = {"shape": shape, "precision": precision, "way": way}
        self.started, self.lines, self.errors = time.monotonic(), queue.Queue(), []
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child", "--device", args.device, "--shape", shape, "--precision", precision, "--way", way],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for stream, put in ((self.process.stdout, self.lines.put), (self.process.stderr, self.errors.append)):
            threading.Thread(target=self.pump, args=(stream, put), daemon=True).start()

    def pump(self, stream, put):
        for line in stream:
            put(line.strip())
        put(None)

    def line(self, wait):
        """The next line that is ours; None where the process has ended, or `wait` seconds have passed."""
        until = time.monotonic() + wait
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                return None
            if line is None or line == "ready" or line.startswith("{"):
                return line

    def finish(self, error=None):
        self.process.kill()
        self.process.wait()
        if error:
            said = [line for line in self.errors if line]
            print(json.dumps(self.what | {"error": error, "stderr": said[-6:]}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["smollm2/fp32/eager"], metavar="SHAPE/PRECISION/WAY",
                        help=f"{', '.join(SHAPES)}; fp32, tf32, bf16 (autocast); a way")
    parser.add_argument("--limit", type=float, default=150, help="seconds for compiling all of them")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    for name in ("--shape", "--precision", "--way"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    until = time.monotonic() + args.limit
    ways, ready = [Way(args, *what.split("/")) for what in args.what], []
    for way in ways:
        if way.line(until - time.monotonic()) == "ready":
            way.what["seconds_to_first_steps"] = round(time.monotonic() - way.started, 1)
            ready.append(way)
        else:
            time.sleep(0.2)
            way.finish("not ready in time" if way.process.poll() is None else f"exit code {way.process.returncode}")
    for way in ready:
        way.process.stdin.write("go\n")
        way.process.stdin.flush()
        line = way.line(60)
        if line:
            print(json.dumps(way.what | json.loads(line)), flush=True)
        way.finish(None if line else "no result within 60 s")


if __name__ == "__main__":
    main()
