"""The training loop: one visible loop, exact resume, a learning rate that ends with the budget."""

from __future__ import annotations

import copy
import dataclasses
import socket
import threading
import time
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from nic import images, models
from nic.config import CONFIGS
from nic.device import check_device, memory_errors
from nic.errors import InputError, NicError
from nic.files import remove_partials
from nic.models import Model
from nic.precision import fast_dtype
from nic.training.capture import Captured
from nic.training.checkpoint import read_checkpoint, write_checkpoint
from nic.training.config import TrainConfig
from nic.training.data import CropDataset
from nic.training.evaluate import real_files
from nic.training.logs import RunLog
from nic.training.loss import MEASURES, RateDistortion
from nic.training.model import TrainableModel
from nic.training.muon import Muon
from nic.training.restore import can_start_from, restore
from nic.training.start import start


@dataclasses.dataclass
class _Inputs:
    """What a step takes from the host, on the device: always in the same places, so that the step
    can be recorded."""

    places: Tensor
    """(batch, 3) int64, of CropDataset.draw."""
    s: Tensor
    """(batch,) float32, qualities in 0..1."""
    rates: Tensor
    """(2,) float32, learning rates of g_a and g_s and of the others."""
    decay: Tensor
    """() float32, of the averaged weights."""

    @staticmethod
    def of(batch: int, device: torch.device) -> _Inputs:
        places = torch.zeros((batch, 3), dtype=torch.int64, device=device)
        s, rates, decay = (torch.zeros(shape, device=device) for shape in (batch, 2, ()))
        return _Inputs(places, s, rates, decay)


class Run:
    """State of a training run in one process: model, average, optimisers, progress."""

    def __init__(self, config: TrainConfig, device: torch.device):
        self.config, self.device = config, device
        self.folder = config.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.step, self.crops, self.elapsed, self.rate = 0, 0, 0.0, 0.0
        torch.manual_seed(config.seed)
        self.dataset = CropDataset(Path(config.data), self.folder / "cache", config.crop, device)
        self.model = TrainableModel(CONFIGS[config.model]).to(device)
        self.criterion = RateDistortion(self.model.config)
        self.inputs = _Inputs.of(config.batch, device)
        self.checkpoint = _checkpoint(config)
        fresh = not self.checkpoint.exists()
        if fresh and config.weights:
            restore(self.model, _weights(config))
        elif fresh:
            start(self.model, self.dataset, np.random.default_rng(config.seed))
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizers = [
            Muon(self._groups(matrices=True)),
            torch.optim.Adam(self._groups(matrices=False), betas=(0.9, 0.99), fused=True),
        ]
        if not fresh:
            self.load()
        self._prepare()

    def _groups(self, matrices: bool) -> list[dict[str, Any]]:
        """Convolution weights, or all other parameters: those of g_a and g_s, then the others."""
        transforms, others = [], []
        for name, parameter in self.model.named_parameters():
            if (parameter.ndim == 4) == matrices:
                (transforms if name.startswith(("g_a.", "g_s.")) else others).append(parameter)
        return [{"params": transforms}, {"params": others}]

    def _prepare(self) -> None:
        """Whatever device a checkpoint is from: rates come from `inputs`, and a GPU's steps are
        recorded, but with several GPUs, whose gradients are averaged outside of any graph."""
        cuda = self.device.type == "cuda"
        for optimizer in self.optimizers:
            for group, rate in zip(optimizer.param_groups, self.inputs.rates):
                group["lr"] = rate
        for group in self.optimizers[1].param_groups:
            group["capturable"] = cuda
        if cuda:
            torch.backends.cudnn.benchmark = True
        self.update = Captured(self._update) if cuda and self.world == 1 else self._update

    def progress(self) -> float:
        """Share of the budget spent, 0..1, the same in every process."""
        config = self.config
        spent = self.step / config.steps if config.steps else self.elapsed / (60 * config.minutes)
        if self.world == 1:
            return min(1.0, spent)
        shared = torch.tensor([min(1.0, spent)], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return shared.item()

    def train_step(self, progress: float) -> Tensor:
        """One step on every process; returns this process's MEASURES and norm of the gradient, as
        float32 on the device, which need not be there yet."""
        config, inputs = self.config, self.inputs
        # All randomness is a function of (seed, process, step): resuming needs no generator state.
        rng = np.random.default_rng([config.seed, self.rank, self.step])
        torch.manual_seed(int(rng.integers(2**62)))
        inputs.places.copy_(self.dataset.draw(config.batch, rng), non_blocking=True)
        # Stratified qualities: every batch sees the whole range.
        s = (np.arange(config.batch) + rng.random(config.batch)) / config.batch
        inputs.s.copy_(torch.from_numpy(s).float(), non_blocking=True)
        warm = min(1.0, (self.step + 1) / max(1, config.warmup))
        self.rate = config.lr * warm * (1 - progress)
        rates = torch.tensor([self.rate * config.transform_lr, self.rate])
        inputs.rates.copy_(rates, non_blocking=True)
        inputs.decay.fill_(min(config.ema, (1 + self.step) / (10 + self.step)))
        measured = self.update().clone()
        self.step += 1
        self.crops += config.batch * self.world
        return measured

    def _update(self) -> Tensor:
        """A step's work on the device, from `inputs` alone."""
        self.model.zero_grad(set_to_none=True)
        x, s = self.dataset.crops(self.inputs.places), self.inputs.s
        native = fast_dtype(self.device) == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, native):
            output = self.model(x, s)
        loss, measured = self.criterion(output, x, s)
        loss.backward()
        norm = self._limit_gradients()
        # A step that is not finite leaves the weights as they are, and their averages.
        self.inputs.rates.mul_(norm.isfinite())
        for optimizer in self.optimizers:
            optimizer.step()
        self._update_average((1 - self.inputs.decay) * norm.isfinite())
        return torch.cat([measured, norm[None]])

    @torch.no_grad()
    def _limit_gradients(self) -> Tensor:
        """Average the gradients over the processes, scale them to a norm of `clip` at most, make
        them zero where that is not finite; returns the norm as it was."""
        params = list(self.model.parameters())
        flat = torch.cat([p.grad.reshape(-1) for p in params])
        if self.world > 1:
            dist.all_reduce(flat)
            flat /= self.world
        norm = flat.norm()
        scale = (self.config.clip / (norm + 1e-6)).clamp(max=1)
        flat = torch.where(norm.isfinite(), flat * scale, 0.0)
        for p, grad in zip(params, flat.split([p.numel() for p in params])):
            p.grad = grad.view(p.shape)
        return norm

    @torch.no_grad()
    def _update_average(self, share: Tensor) -> None:
        average = list(self.average.parameters())
        difference = torch._foreach_sub(list(self.model.parameters()), average)
        torch._foreach_mul_(difference, share)
        torch._foreach_add_(average, difference)

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "model_config": dataclasses.asdict(self.model.config),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "crops": self.crops,
            "elapsed": self.elapsed,
        }
        write_checkpoint(self.checkpoint, state)

    def load(self) -> None:
        state = _saved(self.config, self.device)
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError) as error:  # other tensors; other groups of them
            message = f"{self.checkpoint}: of another version of nic; choose another --out"
            raise InputError(message) from error
        self.step, self.crops = state["step"], state["crops"]
        self.elapsed = state["elapsed"]


@memory_errors()
def train(config: TrainConfig) -> Path:
    """Train until the budget is spent; returns the path of the last checkpoint."""
    run = Run(config, _device(config))
    leader = run.rank == 0
    pictures = _evaluation_pictures(config) if leader else []
    log = RunLog(run.folder, config) if leader else None
    last, shown_at = time.monotonic(), 0.0
    saved_at, evaluated_at = run.elapsed, run.elapsed
    bar = tqdm(disable=None if leader else True, unit="step", initial=run.step)
    while (progress := run.progress()) < 1:
        measured = run.train_step(progress)
        now = time.monotonic()
        run.elapsed, last = run.elapsed + now - last, now
        if not leader:
            continue
        at = {"step": run.step, "minutes": run.elapsed / 60, "crops": run.crops, "lr": run.rate}
        log.step(at, measured)
        bar.update()
        if now - shown_at > 1:  # seldom: it waits for the GPU
            values = zip(MEASURES[:3], measured.tolist())
            bar.set_postfix({name: f"{value:.3f}" for name, value in values}, refresh=False)
            shown_at = now
        if run.elapsed - saved_at > 60 * config.checkpoint_minutes:
            run.save()
            saved_at = run.elapsed
        if pictures and run.elapsed - evaluated_at > 60 * config.eval_minutes:
            _evaluate(run, log, pictures)
            evaluated_at = run.elapsed
    if leader:
        run.save()
        log.flush()
        if pictures:
            _evaluate(run, log, pictures)
    return run.checkpoint


def _checkpoint(config: TrainConfig) -> Path:
    return config.folder / "checkpoint.pt"


def _saved(config: TrainConfig, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The run's checkpoint; InputError unless it is one of this model."""
    path = _checkpoint(config)
    state = read_checkpoint(path, device)
    if state["model_config"] != CONFIGS[config.model]:
        raise InputError(f"{path}: a run of another model; choose another --out")
    return state


def _weights(config: TrainConfig) -> Model:
    weights = models.read(Path(config.weights))
    if not can_start_from(CONFIGS[config.model], weights.config):
        raise InputError(f"{config.weights}: transforms of other shapes than {config.model}'s")
    return weights


def _evaluation_pictures(config: TrainConfig) -> list[np.ndarray]:
    """Loaded before the first step, so that an unreadable one does not end a long run."""
    if not config.eval_data:
        return []
    return [images.load_pixels(p) for p in images.find(config.eval_data)[: config.eval_images]]


def _evaluate(run: Run, log: RunLog, pictures: list[np.ndarray]) -> None:
    """Code real files with the averaged weights."""
    scratch = run.folder / "evaluated.safetensors"
    log.evaluation(run.step, real_files(run.average, scratch, pictures))


def launch(config: TrainConfig) -> None:
    """`train` in `config.processes` processes, whose gradients are averaged.

    On a CPU each process takes one thread: two such processes train 1.4 times as fast as one
    process of two threads. With CUDA each takes a GPU.
    """
    remove_partials(config.folder)
    if config.processes == 1:
        train(config)
        return
    if _device(config).type == "cuda" and torch.cuda.device_count() < config.processes:
        raise InputError(f"{config.processes} processes, but {torch.cuda.device_count()} GPUs")
    # What is wrong with the data is said here, and the images are decoded once.
    CropDataset(Path(config.data), config.folder / "cache", config.crop)
    _evaluation_pictures(config)
    if _checkpoint(config).exists():
        _saved(config)
    elif config.weights:
        _weights(config)
    _spawn(config)


def _spawn(config: TrainConfig) -> None:
    """Run the processes to their end; a NicError of one of them is raised here."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    try:
        # Daemons: they end with this process, whatever it is that ends it.
        workers = torch.multiprocessing.spawn(
            _worker, (config, port, errors), config.processes, join=False, daemon=True
        )
        while not workers.join(grace_period=10):
            pass
    except torch.multiprocessing.ProcessRaisedException:
        if errors.empty():
            raise
        raise errors.get() from None


def _worker(rank: int, config: TrainConfig, port: int, errors: SimpleQueue) -> None:
    torch.set_num_threads(1)
    # tqdm's own lock is a semaphore, of which Python complains where a process is killed.
    tqdm.set_lock(threading.RLock())
    cuda = _device(config).type == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"tcp://localhost:{port}",
        rank=rank,
        world_size=config.processes,
    )
    try:
        train(config)
    except NicError as error:
        errors.put(error)
        raise
    dist.destroy_process_group()


def _device(config: TrainConfig) -> torch.device:
    """InputError where the one asked for is not here."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(config.device)
    return torch.device(config.device)
