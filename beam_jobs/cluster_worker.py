"""`headwater-worker`: what a cluster node starts for every worker process (`--environment_type=PROCESS`).

In Beam's containers a Go program called `boot` does this: it asks the runner for the options of the pipeline and
starts the Python worker. No wheel of Beam carries that program; on a node where the package is installed nothing is
left to do but those two steps.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from beam_jobs.engines import FOLDER_VARIABLE

PROVISION_TIMEOUT_S = 60.0


def main() -> None:
    """Entry point; arguments as Beam's runners pass them to a worker command."""
    parser = argparse.ArgumentParser(prog="headwater-worker", description="Started by Spark or Flink, not by hand.")
    for name in ("id", "provision_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("control_endpoint", "logging_endpoint", "artifact_endpoint"):
        parser.add_argument(f"--{name}", default="")
    args, _ = parser.parse_known_args()
    os.environ.update(environment(args.id, args.provision_endpoint, args.control_endpoint, args.logging_endpoint))
    enter_folder(os.environ)
    from beam_jobs.worker import main as run_worker

    run_worker()


def environment(worker: str, provision: str, control: str, logging: str) -> dict[str, str]:
    """The variables `apache_beam.runners.worker.sdk_worker_main` reads, from what the runner tells about the job."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
    from google.protobuf import json_format

    with grpc.insecure_channel(provision) as channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        info = stub.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            timeout=PROVISION_TIMEOUT_S,
            metadata=[("worker_id", worker)],
        ).info
    return {
        "WORKER_ID": worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{info.control_endpoint.url or control}"',
        "LOGGING_API_SERVICE_DESCRIPTOR": f'url: "{info.logging_endpoint.url or logging}"',
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def enter_folder(variables: Mapping[str, str]) -> None:
    """Stand where the driver stood, when the node has that folder: the job's relative paths then mean the same."""
    folder = variables.get(FOLDER_VARIABLE)
    if folder and os.path.isdir(folder):
        os.chdir(folder)


if __name__ == "__main__":
    main()
