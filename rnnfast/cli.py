"""The command line: `rnnfast demo`, `rnnfast info`, `rnnfast convert`, `rnnfast bench`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

import rnnfast
from rnnfast import interop
from rnnfast._console import command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="rnnfast", description="Recurrent networks on CPUs.")
    parser.add_argument("--version", action="version", version=f"rnnfast {rnnfast.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="train, score, save, reload and stream a forecaster on real data")
    commands.add_parser("info", help="version, CPU, instruction set, threads, caches")
    converting = commands.add_parser("convert", help="turn a model file of one format into another", description="Formats to write, by ending: .rnnf, .weights.h5, .onnx, .json (RTNeural), .safetensors, .pt, .npz, .nam.")
    converting.add_argument("source", help="a file of any format that rnnfast.load reads")
    converting.add_argument("target", help="the file to write; its ending says the format")
    converting.add_argument("--states", action="store_true", help="of ONNX: initial states as inputs, final states as outputs")
    converting.add_argument("--lengths", action="store_true", help="of ONNX: an input that says how many steps each row has")
    commands.add_parser("bench", help="compare with installed libraries; options as python -m rnnfast.benchmark --help", add_help=False)
    known, rest = parser.parse_known_args(arguments)
    if rest and known.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return command(f"rnnfast {known.command}", lambda: _run(known, rest))


def _run(known: argparse.Namespace, rest: list[str]) -> int:
    if known.command == "demo":
        from rnnfast import demo

        demo.run()
    elif known.command == "info":
        rnnfast.show_config()
    elif known.command == "convert":
        return _convert(known)
    else:
        from rnnfast.benchmark.__main__ import main as bench

        return bench(rest)
    return 0


def _convert(known: argparse.Namespace) -> int:
    options = {name: True for name in ("states", "lengths") if getattr(known, name)}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            interop.convert(known.source, known.target, **options)
    except (ImportError, ValueError) as error:
        print(f"rnnfast convert: {error}", file=sys.stderr)
        return 1
    for one in caught:
        print(f"rnnfast convert: {one.message}", file=sys.stderr)
    return 0
