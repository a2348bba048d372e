"""Trainings on a Ray cluster: the connection, and a place that is an actor.

The driver owns everything: it claims, writes journals and speaks to the stores. An actor only trains and answers.
Ray itself never tries again, because its retry would begin anew. The driver begins the next attempt, from the
newest resume point.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from harness.core.errors import SettingsError
from harness.workers.fork_server import KEEP_LARGE_BLOCKS, ONE_ARENA, SAFE_PATH
from harness.workers.link import Link, Material, Place, PlaceDied, PlaceLost, TrainingBug, Where
from harness.workers.mirror import content_of, write_changes
from harness.workers.remote import Asked, Failed, Finished, RemoteTrainer, Versions, Written

LOOK_SECONDS = 0.25  # between two looks at whether a training is to stop
STALL_SECONDS = 60.0  # without an answer before the state of the node is looked up
KNOCK_SECONDS = 10.0
MOST_GPUS = 64  # of one training
NODE_DIED = "its node has died"  # Ray's words for an actor that went with its machine

OrderT = TypeVar("OrderT")
EndT = TypeVar("EndT")


@dataclass(frozen=True, slots=True)
class Share:
    """What an actor has of its node: so many cores, so much of a GPU, and the device that it trains on."""

    cores: int
    gpus: float
    device: str

    def __str__(self) -> str:
        return f"{self.cores} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")


class Cluster:
    """A connection to a Ray cluster, from a driver inside its network."""

    def __init__(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no statistics to Ray's makers
        try:
            import ray
        except ImportError:
            raise SettingsError(
                "--ray needs the package ray, which is not installed",
                expected="the extra ray, on this machine and on every node",
                hint="pip install 'harness[ray]'",
            ) from None
        if "://" in address:
            raise SettingsError(
                f"ray is {address!r}",
                expected="HOST:PORT of the cluster's head, or auto for a cluster that this machine is part of",
                hint="the same command on the head node, or on another machine inside the cluster's network",
            )
        self._ray: Any = ray
        if not ray.is_initialized():
            try:
                _knock(address)
                with redirect_stdout(sys.stderr):
                    ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            except (OSError, ValueError, RuntimeError) as error:
                raise SettingsError(
                    f"no Ray cluster answers at {address}: {_first_line(error)}",
                    expected="the address of a running cluster of the same Ray and Python version",
                    hint="ray start --head, and then --ray auto on that machine",
                ) from None

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Drop what Ray prints on stdout about dead workers and nodes: stdout is for data, and we say it."""
        with Path(os.devnull).open("w", encoding="utf-8") as sink, redirect_stdout(sink):
            yield

    def share(self, material: Material[OrderT, EndT]) -> object:
        """Put what trainings need into the cluster's memory, once; return the reference to it."""
        return self._ray.put(material)

    def share_of(self, threads: int, gpus: float | None, jobs_per_gpu: int, device: str) -> Share:
        """Return what an actor needs: a core for each thread, as far as a node has so many, and `gpus` of a GPU.

        By default it gets its part of a GPU where the cluster has one, and none with the device `cpu`.
        """
        if gpus is not None and not 0 <= gpus <= MOST_GPUS:
            raise SettingsError(f"gpus-per-trial is {gpus}", expected=f"0 to {MOST_GPUS}, such as 0.25")
        nodes = self._resources()
        most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        if gpus is None:
            has_gpus = device != "cpu" and any(node.get("GPU", 0) for node in nodes)
            gpus = 1 / jobs_per_gpu if has_gpus else 0.0
        return Share(min(threads, most) if most else threads, gpus, device)

    def new_actor(self, material: object, share: Share) -> Actor:
        """Ask for an actor with this share of a node; it waits until the cluster has room."""
        made = self._ray.remote(RemoteTrainer).options(
            num_cpus=share.cores,
            num_gpus=share.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # `next` waits for an item, `stop` does not
            runtime_env={"env_vars": {**KEEP_LARGE_BLOCKS, **ONE_ARENA, **SAFE_PATH}},
        )
        return Actor(self._ray, made.remote(material, share.device, share.cores))

    def free(self, share: Share) -> int:
        """Return how many such actors the cluster has room for now, were all of it in one place."""
        free = self._ray.available_resources()
        cores = free.get("CPU", 0) // share.cores
        return int(min(cores, free.get("GPU", 0) // share.gpus) if share.gpus else cores)

    def could_hold(self, share: Share) -> bool:
        """Whether the cluster as it is has a node with room for such an actor, were it empty."""
        nodes = self._resources()
        return any(node.get("CPU", 0) >= share.cores and node.get("GPU", 0) >= share.gpus for node in nodes)

    def _resources(self) -> list[dict[str, float]]:
        """Return what each node has in all."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]


class Actor:
    """An actor that may still wait for its room in the cluster."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self._ray, self.handle = ray, handle
        self._hello = handle.hello.remote()
        self._node = handle.__ray_call__.remote(_node_id)

    def is_made(self) -> bool:
        """Whether the actor runs, or failed to."""
        ready, _ = self._ray.wait([self._hello], timeout=0)
        return bool(ready)

    def place(self) -> ActorPlace[Any, Any]:
        """Return the place that the actor is.

        Raises PlaceDied and PlaceLost, and SettingsError if its versions are others than those here or if the
        trainer cannot be made there.
        """
        (versions, made), node = _answered(self._ray, [self._hello, self._node])
        if isinstance(made, Failed):
            raise SettingsError(f"a worker of the cluster could not begin: {made.text}")
        here = Versions.here()
        if versions != here:
            raise SettingsError(
                f"a node of the cluster has {versions}",
                expected=f"{here}, as on this machine: other versions give other numbers",
            )
        where = replace(made, ray=str(self._ray.__version__))
        return ActorPlace(self._ray, self.handle, where, node)

    def kill(self) -> None:
        """Kill the actor's process, or take its request back."""
        self._ray.kill(self.handle, no_restart=True)


class ActorPlace(Place[OrderT, EndT]):
    """An actor as a place for one training at a time."""

    def __init__(self, ray: Any, handle: Any, where: Where, node: str) -> None:
        self._ray, self._handle, self._node = ray, handle, node
        self._where = where

    @property
    def where(self) -> Where:
        """Where it is."""
        return self._where

    def run(self, order: OrderT, link: Link) -> EndT:
        """Run a training there and return its end; what it writes is written here."""
        left = tuple(link.log.events), content_of(link.folder)
        self._answer(self._handle.begin.remote(order, *left, judged=link.judge.judges), link)
        answer: str | None = None
        while True:
            items = self._answer(self._handle.next.remote(answer), link)
            answer = None
            for item in items:
                match item:
                    case Written(event=event, changes=changes):
                        if changes is not None:
                            write_changes(link.folder, changes)
                        link.log.append(event, sync=changes is not None)
                    case Asked(method=method, arguments=arguments):
                        answer = getattr(link.judge, method)(*arguments)
                    case Finished(end=end, changes=changes):
                        write_changes(link.folder, changes)
                        return cast("EndT", end)
                    case Failed(kind="bug", text=text):
                        raise TrainingBug(text)
                    case Failed(kind="memory", text=text):
                        raise PlaceDied(f"out of memory: {text}")
                    case Failed(text=text):
                        raise PlaceDied(f"on {self._where.node}: {text}")

    def _answer(self, reference: Any, link: Link) -> Any:
        """Return the answer of a call; tell the training to stop meanwhile, if it is to."""
        told, stalled_at = link.stop(), time.monotonic() + STALL_SECONDS
        if told:  # an answer may always be there before the look below
            self._handle.stop.remote()
        while True:
            ready, _ = self._ray.wait([reference], timeout=LOOK_SECONDS)
            if ready:
                return _answered(self._ray, [reference])[0]
            if not told and link.stop():
                self._handle.stop.remote()
                told = True
            if time.monotonic() > stalled_at:
                # Ray fails the call when it finds the node dead. This is for a call that it forgot.
                if not self._is_node_alive():
                    raise PlaceLost(f"node {self._where.node} does not answer any more")
                stalled_at = time.monotonic() + STALL_SECONDS

    def _is_node_alive(self) -> bool:
        return any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == self._node)


def _knock(address: str) -> None:
    """Connect to the port of HOST:PORT and close again: Ray itself waits for minutes where nothing is.

    Raises OSError if nobody answers, ValueError for another form of address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    with socket.create_connection((host or port, int(port)), timeout=KNOCK_SECONDS):
        pass


def _node_id(_: object) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _answered(ray: Any, references: list[Any]) -> list[Any]:
    """Return the answers of calls; raise PlaceDied or PlaceLost instead of Ray's errors of an actor."""
    try:
        return list(ray.get(references))
    except ray.exceptions.ActorUnavailableError as error:
        raise PlaceLost(f"the connection to a node was lost: {_first_line(error)}") from None
    except (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError) as error:
        if NODE_DIED in str(error):
            raise PlaceLost("a node of the cluster is gone") from None
        raise PlaceDied("its process on the cluster was killed") from None
    except ray.exceptions.OutOfMemoryError:
        raise PlaceDied("out of memory: killed by Ray") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
