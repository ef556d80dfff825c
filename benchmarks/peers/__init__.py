"""One file per framework. Each offers `Peer(threads, mode)`; importing the file is importing the framework."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PeerSpec:
    """`module` is imported by the worker; `package` must be importable, or the peer is skipped."""

    name: str
    module: str
    package: str
    mode: str = ""


PEERS: dict[str, PeerSpec] = {
    spec.name: spec
    for spec in (
        PeerSpec("flambeau", "benchmarks.peers.flambeau_peer", "flambeau"),
        PeerSpec("torch eager", "benchmarks.peers.torch_peer", "torch", "eager"),
        PeerSpec("torch.compile", "benchmarks.peers.torch_peer", "torch", "compile"),
        PeerSpec("jax", "benchmarks.peers.jax_peer", "jax"),
    )
}
