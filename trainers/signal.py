"""Training of the neural signal model: the loop, and the estimates it leaves. Axis letters: B batch, N neurons."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch

from models.signal import SignalPropagation
from models.utils import sample_frames
from trainers.data import SignalData, SignalInputs, load_signal
from trainers.errors import DivergedError
from trainers.losses import edge_diff, prediction_loss, root_mean_square
from trainers.order import Order
from trainers.rollout import euler_rollout
from trainers.run import Run
from trainers.settings import Reader, SignalConfig, idle_keys, n_iterations

ESTIMATE_MOMENTS = (0.05, 0.3, 0.65)
"""Fractions of the training after which an intermediate estimate is written; the final one comes on top."""
ROWS_WORTH_SHARING = 16384
"""Neurons times frames of a step from which more than one thread is used."""
DELTA_PARTS = 150
"""delta of the edge_diff term is xnorm over this many parts."""


def new_model(n_neurons: int, graph_model: Any, single_type: bool) -> SignalPropagation:
    """Return an untrained model; weights come from torch's global random state."""
    return SignalPropagation(
        n_neurons=n_neurons,
        embedding_dim=graph_model.embedding_dim,
        edge=(graph_model.hidden_dim, graph_model.n_layers),
        phi=(graph_model.hidden_dim_update, graph_model.n_layers_update),
        activation=graph_model.MLP_activation,
        single_type=single_type,
    )


def estimates(model: SignalPropagation, inputs: SignalInputs) -> dict[str, torch.Tensor]:
    """Return what is learned so far: W, a, and both functions on the grid."""
    lin_edge, lin_phi = model.curves(inputs.grid_u.to(model.W.device))
    return {"W": model.connectivity(), "a": model.a, "lin_edge": lin_edge, "lin_phi": lin_phi}


@torch.no_grad()
def predictions(model: SignalPropagation, inputs: SignalInputs) -> dict[str, torch.Tensor]:
    """Return du/dt on the held-out frames and the rollouts from the given states."""
    device = model.W.device
    u0 = inputs.rollout_u0.to(device)
    return {
        "heldout_du": model(inputs.heldout_u.to(device)),
        "rollout_u": euler_rollout(model, u0, inputs.rollout_frames, inputs.delta_t),
    }


def data_train_signal(  # noqa: C901 (one loop that can be read and edited alone)
    config: Any, data: SignalData, inputs: SignalInputs, run: Run
) -> SignalPropagation:
    """Train W, a, lin_edge and lin_phi on du/dt and return the model.

    A step predicts du/dt of single frames. With `recurrent_training`, from its start epoch on, it predicts the state
    `time_step` frames ahead by Euler steps; the residual (u_hat - u) / (delta_t * time_step) has the same unit, and for
    one noiseless step the same value.

    Two phases: before epoch `n_epochs_init` the L1 coefficient is `first_coeff_L1` and the edge_diff penalty is on;
    from then on it is `coeff_W_L1` and the penalty is off (recorded behaviour, reference section 3.3.4).

    Everything that must survive a kill stands in `stateful`: add a scheduler there.

    Args:
        config: sections simulation, graph_model and training.
        data: frames to train on.
        inputs: grid for the intermediate estimates.
        run: files of the run; `record` after every step answers SIGTERM and NaN.

    Source: reference sections 3.3.1 to 3.3.5 and 3.3.7. Deviations: delta is not rounded, no small batches in epoch 0.
    """
    simulation, training = config.simulation, config.training
    torch.manual_seed(training.seed)
    sampler = torch.Generator().manual_seed(training.seed)

    model = new_model(data.u.shape[1], config.graph_model, training.training_single_type).to(run.device)
    u_all, du_all = data.u.to(run.device), data.du.to(run.device)
    delta = data.xnorm / DELTA_PARTS

    groups = {"W": [], "a": [], "mlp": []}
    for name, parameter in model.named_parameters():
        groups[name if name in groups else "mlp"].append(parameter)
    rates = {"W": training.learning_rate_W_start, "mlp": training.learning_rate_start}
    if groups["a"]:
        rates["a"] = training.learning_rate_embedding_start
    optimizer = torch.optim.Adam([{"params": groups[name], "lr": lr} for name, lr in rates.items()], fused=True)

    batch_size, kind = training.batch_size, training.loss
    delta_t, noise_level = data.delta_t, training.noise_recurrent_level
    unroll_from = training.recurrent_training_start_epoch if training.recurrent_training else math.inf
    n_epochs, n_epochs_init = training.n_epochs, training.n_epochs_init
    Niter = n_iterations(simulation.n_frames, training.data_augmentation_loop, batch_size)
    moments = {max(1, int(part * n_epochs * Niter)) for part in ESTIMATE_MOMENTS}

    stateful = {"model": model, "optimizer": optimizer, "sampler": sampler}
    step = run.resume(stateful, total=n_epochs * Niter)

    for epoch in range(step // Niter, n_epochs):
        first_phase = epoch < n_epochs_init
        coeff_L1 = training.first_coeff_L1 if first_phase else training.coeff_W_L1
        coeff_edge_diff = training.coeff_edge_diff if first_phase else 0.0
        time_step = training.time_step if epoch >= unroll_from else 0  # 0: predict du/dt of the frame itself
        if step == epoch * Niter:
            run.start_epoch()

        for _ in range(step - epoch * Niter, Niter):
            frames = sample_frames(len(u_all) - time_step, batch_size, sampler).to(run.device)
            if time_step > 1:
                frames = frames - frames % time_step
            u = u_all[frames]
            terms = {}

            if coeff_edge_diff > 0:  # one evaluation of lin_edge serves the message and the penalty
                sent, sent_above = model.sent(torch.stack([u, u + delta]))
                terms["edge_diff"] = coeff_edge_diff * edge_diff(sent, sent_above, kind)
            else:
                sent = model.sent(u)
            pred = model.self_term(u) + sent @ model.connectivity().T

            if time_step == 0:
                residual = pred - du_all[frames]
            else:
                u_hat = u + delta_t * pred
                for ahead in range(time_step):
                    if ahead > 0:
                        u_hat = u_hat + delta_t * model(u_hat)
                    if noise_level > 0:
                        u_hat = u_hat + noise_level * torch.randn_like(u_hat)
                residual = (u_hat - u_all[frames + time_step]) / (delta_t * time_step)

            terms["prediction"] = prediction_loss(residual, kind)
            if coeff_L1 > 0:
                terms["W_L1"] = coeff_L1 * model.W.abs().sum()
            loss = sum(terms.values())

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            step += 1
            if step in moments:
                run.save_estimate(estimates(model, inputs), epoch, step)
            run.record(stateful, terms, 1 if first_phase else 2, epoch, step)
        run.checkpoint(stateful, epoch, step)
    return model


def useful_threads(threads: int, config: SignalConfig) -> int:
    """Return how many of the allowed threads a training should use.

    A step of a few thousand MLP rows takes 2 ms and is not worth sharing: on two cores with other work on them, a
    second thread made steps 6 to 38 times slower (n = 100 to 1000, batch 8: threads wait for each other by spinning).
    """
    return threads if config.training.batch_size * config.simulation.n_neurons >= ROWS_WORTH_SHARING else 1


def train(order: Order, run_dir: Path) -> None:
    """Carry out a training order: train, write the final estimate and train.json.

    Raises:
        StepError: see `trainers.errors`.
    """
    torch.set_num_threads(useful_threads(order.threads, order.config))
    if order.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    data, inputs = load_signal(order.train, order.inputs)
    run = Run(run_dir, order.identity, order.device)
    run.listen()
    config = Reader(order.config)
    model = data_train_signal(config, data, inputs, run)
    training = order.config.training
    count = training.batch_size * data.u.shape[1]
    final_loss = root_mean_square(run.mean_prediction_loss, training.loss, count)
    learned = estimates(model, inputs)
    for name, value in learned.items():
        if not bool(torch.isfinite(value).all()):
            raise DivergedError(f"{name} is not finite after the last step; lower the learning rates")
    arrays = learned | predictions(model, inputs)
    run.save_estimate(arrays, training.n_epochs - 1, run.total, final=True)
    run.finish(sorted(config.keys_read), idle_keys(order.config), final_loss)
