"""What stands around a run on a cluster: job servers, local clusters to try one on, the container for Dataflow."""
