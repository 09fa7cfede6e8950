"""Sharded data over torch.distributed: two processes with gloo on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from landscape.errors import UnstableDataError
from landscape.objective import Landscape, as_data

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    return net, torch.randn(20, 3).double(), torch.randint(3, (20,))


def answers_of(landscape, memory=None):
    theta = landscape.initial()
    value, gradient = landscape.value_and_gradient(theta)
    operator = landscape.hessian(theta, memory=memory)
    return [
        value,
        landscape.value(theta),
        gradient,
        operator.dense(),
        landscape.score(theta),
        operator.gradient,
    ]


def landscape_of(shares, reduction, group=None):
    net, x, y = problem()
    return Landscape(
        net,
        "cross_entropy",
        as_data((x[shares], y[shares]), batch_size=5),
        penalty=lambda theta: (theta**2).sum(),
        reduction=reduction,
        group=group,
    )


def measure(rank, port, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    try:
        answers = {}
        for reduction in ("mean", "sum"):
            # Uneven shares, in uneven batches, one kept and one computed anew.
            share = slice(0, 13) if rank == 0 else slice(13, 20)
            landscape = landscape_of(share, reduction, torch.distributed.group.WORLD)
            found = answers_of(landscape, memory=0 if rank else None)
            answers[reduction] = [answer.numpy() for answer in found]
        if rank == 1:
            type(landscape.data).deterministic = property(lambda self: False)
        landscape = landscape.on(landscape.data)
        try:
            landscape.hessian(landscape.initial())
        except UnstableDataError:
            answers["refused"] = True
        queue.put(answers)
        queue.close()
        queue.join_thread()
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_with_a_share_each_agree_with_one_that_has_all(monkeypatch):
    # Spawned processes import this module by the name that pytest gave it, and inherit the search path.
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[__name__.count(".")])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=measure, args=(rank, port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    for answers in found:
        assert answers["refused"], "a process must refuse when any of them would"
        for reduction in ("mean", "sum"):
            exact = answers_of(landscape_of(slice(None), reduction))
            for answer, truth in zip(answers[reduction], exact, strict=True):
                torch.testing.assert_close(torch.from_numpy(answer), truth, rtol=1e-11, atol=1e-13)
