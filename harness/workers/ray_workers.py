"""The workers of one command on a Ray cluster: a thread here for each, and an actor there that trains for it."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from harness.core.errors import HarnessError
from harness.core.names import new_name
from harness.core.streams import say
from harness.workers.cluster import Actor, Cluster, Share
from harness.workers.link import Material, Place, PlaceDied, PlaceLost
from harness.workers.supervisor import IDLE_SECONDS, KILL_SECONDS, WORKER_ERROR, OnDeath, Stoppable

STEP_SECONDS = 0.25
ROOM_SECONDS = 10.0  # to wait for a first actor before it is said what is waited for

OrderT = TypeVar("OrderT")
EndT = TypeVar("EndT")
Work = Callable[[str, Place[OrderT, EndT], threading.Event], None]  # a worker's name, its place, when to stop


@dataclass(slots=True)
class _Worker:
    name: str
    actor: Actor
    stopping: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None


class RayWorkers(Stoppable, Generic[OrderT, EndT]):
    """Workers whose trainings run in actors, at most `most` at once, as many as the cluster has room for.

    `work` is called in a thread for each, with the worker's name, its place and an event that says when to stop.
    It returns when no work is left. While there is work, more actors are asked for: so the workers take what room
    there is, and an autoscaler sees that more is wanted. A node that is gone takes its workers with it.
    `is_over` is asked while there is no worker: whether the time is up, or others have done the work.
    """

    def __init__(
        self,
        cluster: Cluster,
        material: Material[OrderT, EndT],
        work: Work[OrderT, EndT],
        *,
        most: int,
        share: Share,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._is_over_elsewhere = is_over
        self._cluster, self._work, self._most, self._share = cluster, work, most, share
        self._material = material
        self._shared: object = None
        self._workers: dict[str, _Worker] = {}
        self._waiting: list[Actor] = []
        self._ended: queue.Queue[tuple[str, BaseException | None]] = queue.Queue()
        self._is_over = most <= 0  # the study may be finished already

    def begin(self) -> None:
        """Do nothing: actors are asked for in `run`."""

    def abandon(self) -> None:
        """Do nothing: there are no actors before `run`."""

    def run(self, on_death: OnDeath, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Run workers until none has work left or they are stopped; call `meanwhile` about four times a second.

        If the process of an actor is killed or is out of memory, `on_death` is called with the worker's name and
        the cause, and another worker takes its place. The loss of a node is no death: its trainings go on
        elsewhere.
        """
        with self._cluster.quiet():
            try:
                self._shared = self._cluster.share(self._material)
                began, said = time.monotonic(), False
                while self._step(on_death):
                    meanwhile()
                    if not said and not self._workers and time.monotonic() - began > ROOM_SECONDS:
                        self._say_room()
                        said = True
            except Exception:
                self.stop()
                while self._step(on_death):
                    pass
                raise
            finally:
                self._send_kill()
                self._join()

    def _step(self, on_death: OnDeath) -> bool:
        """Wait a moment for the end of a worker, start what is to be started, and return True if there is more."""
        try:
            self._handle_end(*self._ended.get(timeout=STEP_SECONDS), on_death)
            while not self._ended.empty():
                self._handle_end(*self._ended.get(), on_death)
        except queue.Empty:
            pass
        if not self._workers and not self._is_over:
            self._is_over = self._is_over_elsewhere()
        if self._stopped_at is not None or self._is_over:
            self._take_back()
            if self._is_overdue:
                self._send_kill()
            return bool(self._workers)
        for made in [actor for actor in self._waiting if actor.is_made()]:
            self._waiting.remove(made)
            self._start(made)
        if not self._waiting and len(self._workers) < self._most and self._stopped_at is None:
            # As many as there is room for; beyond that one for each worker: an autoscaler doubles the cluster.
            wanted = max(1, len(self._workers), self._cluster.free(self._share))
            for _ in range(min(wanted, self._most - len(self._workers))):
                self._waiting.append(self._cluster.new_actor(self._shared, self._share))
        return True

    def _start(self, actor: Actor) -> None:
        worker = _Worker(new_name(), actor)
        self._workers[worker.name] = worker
        worker.thread = threading.Thread(
            target=self._serve, args=(worker,), name=f"worker {worker.name}", daemon=True
        )
        worker.thread.start()

    def _serve(self, worker: _Worker) -> None:
        error: BaseException | None = None
        try:
            self._work(worker.name, worker.actor.place(), worker.stopping)
        except BaseException as raised:  # noqa: BLE001 - the main thread handles it
            error = raised
        self._ended.put((worker.name, error))

    def _handle_end(self, name: str, error: BaseException | None, on_death: OnDeath) -> None:
        worker = self._workers.pop(name)
        worker.actor.kill()
        match error:
            case None:
                self._is_over = self._is_over or not worker.stopping.is_set()
            case PlaceLost():
                say(f"a worker is gone: {error.found}; its training goes on elsewhere")
            case PlaceDied() if self._stopped_at is None:
                had_task = on_death(name, error.found)
                lived = time.monotonic() - worker.began
                self._count_death(error.found, idle=not had_task and lived <= IDLE_SECONDS)
            case PlaceDied():
                pass  # stopped, and then killed
            case HarnessError():
                say(f"error: {error}")
                self.stop(fault=WORKER_ERROR)
            case _:
                say("".join(traceback.format_exception(error)).rstrip())
                self.stop(fault=WORKER_ERROR)

    def _say_room(self) -> None:
        if self._cluster.could_hold(self._share):
            say(f"waiting for room in the cluster: a worker takes {self._share}, and others have it")
        else:
            say(f"waiting for the cluster to grow: a worker takes {self._share}, and no node has so much")

    def _take_back(self) -> None:
        """Take back the requests for more actors."""
        while self._waiting:
            self._waiting.pop().kill()

    def _send_stop(self) -> None:
        for worker in list(self._workers.values()):
            worker.stopping.set()

    def _send_kill(self) -> None:
        self._take_back()
        for worker in list(self._workers.values()):
            worker.stopping.set()
            worker.actor.kill()

    def _join(self) -> None:
        until = time.monotonic() + KILL_SECONDS
        for worker in self._workers.values():
            if worker.thread is not None:
                worker.thread.join(max(0.0, until - time.monotonic()))
        self._workers.clear()
