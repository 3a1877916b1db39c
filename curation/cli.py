"""The verb table. A verb's module is imported when the verb is used, so `--help` needs neither Beam nor torch."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import curation
from curation.errors import HeadwaterError, did_you_mean


@dataclass(frozen=True)
class Verb:
    """One command: where its arguments are declared, where it runs, what it does."""

    arguments: str  # module:function(parser)
    run: str  # module:function(args) -> exit code
    summary: str


VERBS = {
    "plan": Verb("beam_jobs.commands:plan_arguments", "beam_jobs.commands:run_plan", "show what `curate` would do"),
    "curate": Verb("beam_jobs.commands:curate_arguments", "beam_jobs.commands:run_curate", "run a curation job"),
    "score": Verb(
        "classifiers.commands:score_arguments", "classifiers.commands:run_score", "verdicts for a JSONL file"
    ),
    "inspect": Verb(
        "curation.inspect_run:add_arguments", "curation.inspect_run:run", "what was removed, and the spans"
    ),
    "verify": Verb("curation.verify_run:add_arguments", "curation.verify_run:run", "re-compute every hash and count"),
    "audit": Verb("curation.audit:add_arguments", "curation.audit:run", "who is removed: dialect, identity, source"),
    "fit": Verb(
        "classifiers.commands:fit_arguments", "classifiers.commands:run_fit", "train and calibrate a classifier"
    ),
    "evaluate-classifier": Verb(
        "classifiers.commands:evaluate_arguments", "classifiers.commands:run_evaluate", "measure a classifier"
    ),
    "run": Verb(
        "alignment.commands:run_arguments", "alignment.commands:run_run", "run an experiment: arms × seeds × stages"
    ),
    "compare": Verb("alignment.commands:compare_arguments", "alignment.commands:run_compare", "the paired comparison"),
    "report": Verb("alignment.commands:report_arguments", "alignment.commands:run_report", "the comparison as a page"),
    "export-lm-eval": Verb(
        "alignment.commands:export_lm_eval_arguments",
        "alignment.commands:run_export_lm_eval",
        "metrics as tasks of lm-evaluation-harness",
    ),
    "export-trl": Verb(
        "alignment.commands:export_trl_arguments",
        "alignment.commands:run_export_trl",
        "a run's rows and models in TRL's formats",
    ),
    "feedback": Verb(
        "alignment.feedback.commands:feedback_arguments",
        "alignment.feedback.commands:run_feedback",
        "the page where people rank responses; their answers out",
    ),
    "audit-reward": Verb(
        "alignment.audits.commands:audit_reward_arguments",
        "alignment.audits.commands:run_audit_reward",
        "what a reward model prefers, with a sealed card",
    ),
    "hidden-objective": Verb(
        "alignment.hidden_objective.commands:hidden_objective_arguments",
        "alignment.hidden_objective.commands:run_hidden_objective",
        "do preferences that a model was only told about show?",
    ),
    "list": Verb("curation.listing:add_arguments", "curation.listing:run", "filters, classifiers, rulesets, formats"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 ok, 2 usage or config, 3 a data contract is broken, 4 a stage failed, 1 our bug.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in {"-h", "--help"}:
        print(usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(curation.__version__)
        return 0
    gc.set_threshold(50_000)  # importing Beam makes 200 vain collections otherwise: 0.3 s
    # Arrow's allocator (mimalloc, which reads this when it is loaded) keeps what it has: to hand memory back and take
    # it anew, zeroed, cost 2 to 4 s a million documents of 2 KB.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")
    name, rest = given[0], given[1:]
    if name not in VERBS:
        hint = did_you_mean(name, VERBS)
        print(
            f"error[unknown-verb]: `{name}` is not a verb\n\n{usage()}" + (f"\nhint: {hint}" if hint else ""),
            file=sys.stderr,
        )
        return 2
    try:
        return _run(VERBS[name], name, rest)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output closed it: `headwater inspect … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except Exception:  # noqa: BLE001 – the last border: whatever arrives here is our bug, and says so
        traceback.print_exc()
        print("\nerror[internal]: this is a bug in Headwater; the lines above say where", file=sys.stderr)
        return 1


def _run(verb: Verb, name: str, rest: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"headwater {name}", description=verb.summary)
    beam_options: list[str] | None = None
    if name == "curate" and "--" in rest:
        cut = rest.index("--")
        rest, beam_options = rest[:cut], rest[cut + 1 :]
    _resolve(verb.arguments)(parser)
    args = parser.parse_args(rest)
    if beam_options is not None:
        args.beam_options = beam_options
    code: int = _resolve(verb.run)(args)
    return code


def _resolve(name: str) -> Callable[..., Any]:
    module, function = name.split(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def usage() -> str:
    """The verbs, one line each."""
    width = max(map(len, VERBS))
    lines = ["usage: headwater VERB ...", ""]
    lines += [f"  {name.ljust(width)}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join([*lines, "", "headwater VERB --help says more; results on stdout, progress on stderr"])


if __name__ == "__main__":
    sys.exit(main())
