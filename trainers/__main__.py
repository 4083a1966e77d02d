"""The programs of docs/contract.md, and the schema generator.

    python -P -m trainers prepare SPEC.yaml DATA_DIR
    python -P -m trainers train RUN_DIR
    python -P -m trainers score RUN_DIR --data DATA_DIR
    python -P -m trainers try RUN_DIR
    python -P -m trainers check RUN_DIR --data DATA_DIR
    python -m trainers schema

Exit codes: 0 done, 2 wrong arguments, 10 diverged, 11 out of memory, 12 stopped by SIGTERM, 13 refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainers.errors import MemoryRefusedError, StepError, is_memory
from trainers.systems import part


def main(argv: list[str] | None = None) -> int:
    """Run one program and return its exit code."""
    args = _parser().parse_args(argv)
    try:
        args.program(args)
    except StepError as error:
        return _end(args, error)
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        told = str(error).splitlines()[:1]
        return _end(args, MemoryRefusedError(": ".join(["memory ran out", *told])))
    return 0


def _end(args: argparse.Namespace, error: StepError) -> int:
    print(f"{args.name}: {error}", file=sys.stderr, flush=True)
    if args.name in ("train", "try"):
        from trainers.order import write_failure

        write_failure(args.run_dir, error.kind, str(error))
    return error.code


def _prepare(args: argparse.Namespace) -> None:
    from trainers.prepare.build import prepare

    made = prepare(args.spec, args.data_dir)
    print(f"{args.data_dir}: {'prepared' if made else 'complete already'}")


def _train(args: argparse.Namespace) -> None:
    from trainers.order import read_order

    (args.run_dir / "out" / "failure.json").unlink(missing_ok=True)  # of an end that is being continued
    order = read_order(args.run_dir)
    part(order.system, "train").train(order, args.run_dir)


def _try(args: argparse.Namespace) -> None:
    from trainers.order import read_order

    (args.run_dir / "out" / "failure.json").unlink(missing_ok=True)
    from trainers.trial import try_out

    try_out(read_order(args.run_dir), args.run_dir)


def _check(args: argparse.Namespace) -> None:
    from trainers.scoring.check import check

    check(args.run_dir, args.data)


def _score(args: argparse.Namespace) -> None:
    from trainers.scoring.score import score

    score(args.run_dir, args.data)


def _schema(_: argparse.Namespace) -> None:
    from trainers import schema

    schema.write()
    print(schema.SCHEMA_FILE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainers", description=(__doc__ or "").splitlines()[0])
    programs = parser.add_subparsers(dest="name", required=True, metavar="prepare|train|score|try|check|schema")
    prepare = programs.add_parser("prepare", help="make a regime's data (trusted)")
    prepare.add_argument("spec", type=Path, metavar="SPEC.yaml")
    prepare.add_argument("data_dir", type=Path, metavar="DATA_DIR")
    prepare.set_defaults(program=_prepare)
    train = programs.add_parser("train", help="train from a sealed order (not trusted)")
    train.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    train.set_defaults(program=_train)
    score = programs.add_parser("score", help="score a run against the truth (trusted)")
    score.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    score.add_argument("--data", type=Path, required=True, metavar="DATA_DIR")
    score.set_defaults(program=_score)
    trial = programs.add_parser("try", help="train a few steps of a sealed order, as a trial of its code (not trusted)")
    trial.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    trial.set_defaults(program=_try)
    check = programs.add_parser("check", help="check the form of what a trial left (trusted)")
    check.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    check.add_argument("--data", type=Path, required=True, metavar="DATA_DIR")
    check.set_defaults(program=_check)
    schema = programs.add_parser("schema", help="rewrite trainers/schema.json")
    schema.set_defaults(program=_schema)
    return parser


if __name__ == "__main__":
    sys.exit(main())
